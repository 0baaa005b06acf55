"""One client's view of one run: `WatchRun`, resumed over as many upstream streams as it takes.

- A watch opens within `Pace.open` seconds: what the orchestrator refuses in that time (an unknown run, say)
  becomes the HTTP answer; after it the stream is on.
- Position is the sequence number of the last fact sent. When the upstream stream breaks, the next one asks
  for what comes after it, so that a client sees every fact once and in order, across orchestrators.
- Nothing is queued here: one fact is read ahead, then gRPC and TCP flow control hold the orchestrator back.
- A stream ends with `event: end` only when the run has finished. Any other end is a cut: the client resumes
  it, and then gets the error as an HTTP answer if there is one.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from reflux.api.run.v1.run_service_pb2 import WatchRunRequest, WatchRunResponse
from reflux.gateway import sse
from reflux.runtime import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from reflux.api.run.v1.run_service_pb2_grpc import RunServiceAsyncStub

_STREAM_SECONDS: Final = 3_600.0
"""Deadline of one upstream stream; the next one takes over from it."""
_FINAL: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Answers that asking again does not change."""

log = logs.get_logger("gateway")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a watch waits for what; seconds, but `retries`."""

    open: float = 1.0
    """Longest wait for a first answer before the stream counts as open."""
    heartbeat: float = 15.0
    """Silence after which a comment is sent."""
    send: float = 30.0
    """Longest wait for a client to take what was sent."""
    first_delay: float = 0.1
    """Before the first upstream retry; doubles from then on, with jitter."""
    longest_delay: float = 5.0
    retries: int = 15
    """Upstream retries without a fact in between: about 40 s, three takeovers."""


class Watch:
    """One watch, from its first upstream stream to its last. Made by `reflux.gateway.watches`."""

    def __init__(
        self,
        stub: RunServiceAsyncStub,
        request: WatchRunRequest,
        metadata: Sequence[tuple[str, str]],
        pace: Pace,
    ) -> None:
        self._stub = stub
        self._request = request
        self._metadata = tuple(metadata)
        self._pace = pace
        self._failures = 0
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connect()

    async def open(self) -> bool:
        """Wait for the first answer; False when the run has finished and the caller has every fact.

        Raises:
            grpc.aio.AioRpcError: the orchestrator refused, or was not reached.
        """
        if not await self._answered(self._pace.open) or self._stopped.done():
            return True
        return self._reading.result() is not grpc.aio.EOF

    async def frames(self) -> AsyncIterator[bytes]:
        """What the client is sent."""
        yield sse.OPENING
        while True:
            if not await self._answered(self._pace.heartbeat):
                yield sse.HEARTBEAT
                continue
            if self._stopped.done():
                yield sse.comment("this gateway is stopping; reconnect")
                return
            try:
                message = self._reading.result()
            except grpc.aio.AioRpcError as error:
                if error.code() in _FINAL or self._failures == self._pace.retries:
                    log.warning("watch_cut", run_id=self._request.run_id, code=error.code().name)
                    yield sse.comment(f"cut: {error.code().name}; reconnect")
                    return
                yield sse.HEARTBEAT
                await self._reconnect()
                continue
            if not isinstance(message, WatchRunResponse):  # the upstream stream ended well
                yield sse.end(self._request.after_seq)
                return
            yield self._advance(message)
            if message.last:
                return

    def stop(self) -> None:
        """End the stream soon, without `event: end`."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def close(self) -> None:
        """Let go of the upstream stream."""
        self._call.cancel()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    def _connect(self) -> None:
        self._call = self._stub.WatchRun(self._request, timeout=_STREAM_SECONDS, metadata=self._metadata)
        self._reading = asyncio.ensure_future(self._call.read())

    async def _reconnect(self) -> None:
        delay = min(self._pace.first_delay * 2**self._failures, self._pace.longest_delay)
        self._failures += 1
        jittered = delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, guards nothing
        await asyncio.wait([self._stopped], timeout=jittered)
        self._connect()

    def _advance(self, message: WatchRunResponse) -> bytes:
        self._failures = 0
        self._request = WatchRunRequest(run_id=self._request.run_id, after_seq=message.seq)
        frame = sse.event(message.seq, message.kind, message.document)
        if message.last:
            return frame + sse.end(message.seq)
        self._reading = asyncio.ensure_future(self._call.read())
        return frame

    async def _answered(self, seconds: float) -> bool:
        """Whether the upstream answered, or the watch was stopped, within `seconds`."""
        either: set[asyncio.Future[Any]] = {self._reading, self._stopped}
        done, _ = await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
