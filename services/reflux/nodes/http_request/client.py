"""What the versions of `http.request` share: the sessions, the claim, statuses, waiting as told.

Connections are kept for pure methods only, and only where the version asks for it: aiohttp repeats a PUT or
DELETE by itself when a kept connection turns out dead, and a repetition is what a claim must rule out.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from reflux.nodes.http_request import exchange, faults
from reflux.nodes.http_request.answer import to_output
from reflux.nodes.http_request.guard import AddressGuard, AddressRefused, GuardedResolver
from reflux.nodes.http_request.model import AUTHORIZATION, PURE_METHODS, Input, Output
from reflux.nodes.patience import retry_after
from reflux.sdk import Key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from reflux.runtime.settings import Network
    from reflux.sdk import Context

MAX_CONNECTIONS: Final = 256
MAX_WAITS: Final = 2
"""How often one exchange waits as a target's Retry-After says."""

_WAITING_STATUSES: Final = frozenset({429, 503})


class Client:
    """The connections of one process.

    Args:
        allowed: networks that may be reached beside the public ones.
        keeps_connections: whether pure methods use a connection more than once.
        waits: whether pure methods wait as a 429 or 503 tells them to.
    """

    def __init__(self, allowed: Sequence[Network], *, keeps_connections: bool, waits: bool) -> None:
        self._guard = AddressGuard(allowed)
        self._keeps_connections = keeps_connections
        self._waits = waits
        self._stack = AsyncExitStack()
        self._lookups = ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="lookup")

    async def __aenter__(self) -> Self:
        self._fresh = await self._stack.enter_async_context(self._session(keep=False))
        self._kept = self._fresh
        if self._keeps_connections:
            self._kept = await self._stack.enter_async_context(self._session(keep=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _session(self, *, keep: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard, self._lookups),
            use_dns_cache=False,
            limit=MAX_CONNECTIONS,
            force_close=not keep,
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=True
        )

    async def perform(self, given: Input, ctx: Context[Client]) -> Output:
        """One exchange, from the input to the output.

        Raises:
            TargetFault: see `faults`.
            InvalidArgument: the URL cannot be requested.
        """
        request = exchange.first_request(given, idempotency_key=ctx.idempotency_key)
        credential = ctx.credential(AUTHORIZATION.name)
        if credential is not None:
            assert not isinstance(credential, Key), "the slot takes none"
            request = exchange.authorized(request, credential)
        try:
            self._guard.check_literal(request.url.host or "")
        except AddressRefused as error:
            raise faults.of_exception(error, target=request.target, first=True) from None
        await ctx.claim(scope=str(request.url.origin()))
        pure = given.method in PURE_METHODS
        session = self._kept if pure else self._fresh
        deadline = asyncio.get_running_loop().time() + min(given.timeout_ms / 1000, ctx.budget)
        for waited in range(MAX_WAITS + 1):
            left = deadline - asyncio.get_running_loop().time()
            answer = await exchange.run(session, self._guard, request, given, seconds=left, ctx=ctx)
            # Before anything is cut out of it or encoded: a target may repeat what it was sent.
            answer = replace(answer, body=ctx.credentials.hide_in_json(answer.body))
            if given.accepts(answer.status):
                return to_output(answer)
            pause = retry_after(answer.headers.get("Retry-After"), datetime.now(UTC))
            left = deadline - asyncio.get_running_loop().time()
            patient = self._waits and pure and waited < MAX_WAITS and answer.status in _WAITING_STATUSES
            if not patient or pause is None or pause >= left:
                break
            ctx.log.info("target_asked_to_wait", status=answer.status, seconds=pause)
            await asyncio.sleep(pause)
        raise faults.of_status(
            answer.status,
            target=answer.request.target,
            body=answer.body,
            first=answer.request.hops == 0,
            retry_after=pause,
        )
