"""`GET /metrics`: what a process counts, for a Prometheus or a person with curl.

Served on the process's own event loop, where the instruments live. It is a guest there: a port that cannot be
bound (the process before this one may still be leaving it) never stops or delays the service, it is logged
and tried again every `RETRY_SECONDS`; few connections at a time, each for one short request.

It answers whoever can reach it, without any authentication: that is why `reflux up` binds loopback, and why
nothing but an explicit `metrics_address` binds anything else.
"""

from __future__ import annotations

import asyncio
import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from reflux.runtime import logs
from reflux.runtime.settings import Address
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Callable

PATH: Final = "/metrics"
RETRY_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 10.0
"""For one connection, from its first byte to our last."""
MAX_CONNECTIONS: Final = 16
"""At once; more are closed without a word."""
MAX_HEAD_BYTES: Final = 16 << 10
FRESH_SECONDS: Final = 0.5
"""Who asks more often gets the same answer again."""

_TEXT: Final = "text/plain; charset=utf-8"

log = logs.get_logger("metrics")


async def serve_metrics(
    address: Address, *, service: str, bound: Callable[[Address], None] = lambda _: None
) -> None:
    """Serve the instruments of this process until cancelled.

    Args:
        address: where to listen; port 0 takes a free one.
        service: name of the process, in `target_info`.
        bound: told where it listens in the end.
    """
    answers = _Answers(service)
    for _ in forever():
        try:
            server = await asyncio.start_server(
                answers.converse, address.host, address.port, limit=MAX_HEAD_BYTES
            )
        except OSError as error:
            log.warning("metrics_not_served", address=str(address), error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
            continue
        try:
            at = Address(address.host, server.sockets[0].getsockname()[1])
            log.info("metrics_served", address=str(at))
            bound(at)
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            answers.close()


class _Answers:
    """What is said to whom."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._exposition: Any = None
        self._loading = asyncio.Lock()
        self._connections = 0
        self._said = b""
        self._stale_at = 0.0

    def close(self) -> None:
        if self._exposition is not None:
            self._exposition.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, the end."""
        self._connections += 1
        try:
            if self._connections > MAX_CONNECTIONS:
                return
            # Cancelled it ends too, and nobody needs to know: Python 3.11 would log that as an error.
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
                async with asyncio.timeout(REQUEST_SECONDS):
                    writer.write(await self._answer(reader))
                    await writer.drain()
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response("431 Request Header Fields Too Large", _TEXT, b"the head is too large\n")
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path != PATH:
            return _response("404 Not Found", _TEXT, b"there is /metrics\n")
        if method != "GET":
            return _response("405 Method Not Allowed", _TEXT, b"there is GET /metrics\n", "allow: GET\r\n")
        try:
            text = self._text(await self._loaded())
        except Exception as error:
            log.exception("metrics_failed", error=type(error).__name__)
            return _response("500 Internal Server Error", _TEXT, b"the log says why\n")
        return _response("200 OK", self._content_type, text)

    def _text(self, exposition: Any) -> bytes:
        """What there is to say, worked out at most once in `FRESH_SECONDS`: it holds the loop up."""
        now = asyncio.get_running_loop().time()
        if now >= self._stale_at:
            self._said = exposition.text()
            self._stale_at = asyncio.get_running_loop().time() + FRESH_SECONDS
        return self._said

    async def _loaded(self) -> Any:
        """The exposition, whose libraries are loaded in a thread: calls are served meanwhile."""
        async with self._loading:
            if self._exposition is None:
                module = await asyncio.to_thread(importlib.import_module, "reflux.runtime.exposition")
                self._content_type: str = module.CONTENT_TYPE
                self._exposition = module.Exposition(self._service)
        return self._exposition


def _response(status: str, content_type: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        f"cache-control: no-store\r\nx-content-type-options: nosniff\r\n{more}connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
