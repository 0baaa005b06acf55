"""`http.request@2.0.0`: keeps connections, and waits when a target asks for it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from reflux.nodes.http_request.client import MAX_CONNECTIONS, Client
from reflux.nodes.http_request.model import AUTHORIZATION, EFFECT, Input, Output
from reflux.sdk import Context, node

if TYPE_CHECKING:
    from reflux.runtime.settings import Settings


def open_client(settings: Settings) -> Client:
    """The connections of this process."""
    return Client(settings.http_allow, keeps_connections=True, waits=True)


@node(
    "http.request",
    "2.0.0",
    effect=EFFECT,
    attempt_timeout=timedelta(seconds=30),
    max_concurrency=MAX_CONNECTIONS,
    batchable=True,
    claims_itself=True,
    resources=open_client,
    credentials=(AUTHORIZATION,),
)
async def request(given: Input, ctx: Context[Client]) -> Output:
    """Sends one HTTP request and gives its answer; as 1.0.0, and more considerate.

    Pure methods use a connection to a host more than once. A 429 or 503 with Retry-After is waited for, at
    most twice and within the deadline, when the method is pure; else the failure says when to come again.
    """
    return await ctx.resources.perform(given, ctx)
