"""`http.request@1.0.0`: a connection per request."""

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
    return Client(settings.http_allow, keeps_connections=False, waits=False)


@node(
    "http.request",
    "1.0.0",
    effect=EFFECT,
    attempt_timeout=timedelta(seconds=30),
    max_concurrency=MAX_CONNECTIONS,
    batchable=True,
    claims_itself=True,
    resources=open_client,
    credentials=(AUTHORIZATION,),
)
async def request(given: Input, ctx: Context[Client]) -> Output:
    """Sends one HTTP request and gives its answer.

    GET, HEAD and OPTIONS are pure. Other methods happen at most once, unless `idempotency_header` names the
    header in which the target expects an idempotency key. A status from 400 is a failure (TARGET_STATUS)
    unless `accept_status` has it. Only public addresses are reached, and the networks of REFLUX_HTTP_ALLOW.
    """
    return await ctx.resources.perform(given, ctx)
