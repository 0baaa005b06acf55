"""All watches of this gateway, and how each is sent.

There are at most `MAX_WATCHES` at once. Each is let go when its response ends, for whatever reason: the run
finished, the client left or takes nothing for `Pace.send` seconds, the gateway drains.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc
from starlette.responses import StreamingResponse

from reflux.api.run.v1.run_service_pb2 import WatchRunRequest
from reflux.core.errors import Exhausted
from reflux.core.reasons import Reason
from reflux.gateway.watch import Pace, Watch
from reflux.runtime import logs, rpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Message, Receive, Scope, Send

    from reflux.api.run.v1.run_service_pb2_grpc import RunServiceAsyncStub
    from reflux.runtime.metrics import Labels

MAX_WATCHES: Final = 1_000
"""Each costs an upstream stream, and some 100 KiB of buffers at worst beyond the fact it holds."""

log = logs.get_logger("gateway")


class Watches:
    """The watches of this gateway: at most `MAX_WATCHES`, and all end when it drains."""

    def __init__(self, stub: RunServiceAsyncStub, pace: Pace | None = None, limit: int = MAX_WATCHES) -> None:
        self._stub = stub
        self.pace = pace or Pace()
        self._limit = limit
        self._active: set[Watch] = set()
        self._stopping = False

    def count(self) -> Mapping[Labels, float]:
        """How many there are, for the metrics."""
        return {(): len(self._active)}

    async def open(
        self, run_id: str, after: int, metadata: Sequence[tuple[str, str]]
    ) -> WatchResponse | None:
        """Watch `run_id` from the fact after `after`; None when it has finished and none follows.

        Raises:
            NotFound: no such run.
            Unavailable: no orchestrator answered.
            Exhausted: this gateway has as many watches as it takes.
        """
        if len(self._active) >= self._limit:
            raise Exhausted(Reason.TOO_MANY_WATCHERS, f"{self._limit} runs are being watched here already")
        watch = Watch(self._stub, WatchRunRequest(run_id=run_id, after_seq=after), metadata, self.pace)
        self._active.add(watch)
        if self._stopping:
            watch.stop()
        goes_on = False
        try:
            goes_on = await watch.open()
        except grpc.aio.AioRpcError as error:
            raise rpc.to_error(error) from None
        finally:
            if not goes_on:
                await self.close(watch)
        return WatchResponse(self, watch) if goes_on else None

    async def close(self, watch: Watch) -> None:
        """Forget `watch`."""
        self._active.discard(watch)
        await watch.close()

    def stop(self) -> None:
        """End every stream, and those still to be opened."""
        self._stopping = True
        for watch in self._active:
            watch.stop()


class WatchResponse(StreamingResponse):
    """Sends a watch, and lets go of it whatever becomes of the client."""

    def __init__(self, owner: Watches, watch: Watch) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(watch.frames(), media_type="text/event-stream", headers=headers)
        self._owner = owner
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the response; see Starlette."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._owner.close(self._watch)

    async def stream_response(self, send: Send) -> None:
        """Send every frame, each within `Pace.send`."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._owner.pace.send):
                await send(message)

        with suppress(TimeoutError):
            await super().stream_response(send_in_time)
            return
        log.warning("watcher_too_slow", seconds=self._owner.pace.send)
