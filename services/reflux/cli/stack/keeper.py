"""One part under care: started, awaited, started again when it ends by itself, stopped when told.

The first start must succeed, or the stack does not come up: a mistake in a setting should be seen, not
retried. Later ends are crashes: the part is started again after a growing delay, for as long as the stack
is up.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from reflux.cli.stack.child import end_group, exited, stop
from reflux.cli.stack.errors import StackError, StartError
from reflux.cli.stack.part import Backoff, Observer, Part, PartState, PartStatus
from reflux.runtime.logs import get_logger

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable, Coroutine

_PROBE_SECONDS: Final = 0.05

log = get_logger("supervisor")


class Keeper:
    """Keeps one part alive. `status` is always true; the observer is told each time it changes."""

    def __init__(self, part: Part, backoff: Backoff, observer: Observer) -> None:
        self.part = part
        self.status = PartStatus(part.name, PartState.STOPPED, metrics=part.metrics)
        self._backoff = backoff
        self._observer = observer
        self._process: subprocess.Popen[bytes] | None = None
        self._ready_at = 0.0

    async def bring_up(self) -> None:
        """Start the part and wait until it is ready.

        Raises:
            StartError: it ended, or was not ready in time; it is not running any more.
        """
        began = _now()
        self._change(state=PartState.STARTING)
        try:
            async with asyncio.timeout(self.part.start_seconds):
                await self._start()
        except (TimeoutError, OSError, StackError) as error:
            if self._process is not None:
                end_group(self._process)
                self._process = None
            raise self._failure(error) from error
        self._ready_at = _now()
        self._change(state=PartState.READY, seconds=round(self._ready_at - began, 3))

    async def keep(self) -> None:
        """Start the part again whenever it ends; runs until cancelled."""
        crashes = 0
        while True:
            if self._process is not None:  # else the last restart failed
                status = await exited(self._process)
                log.warning("part_ended", part=self.part.name, pid=self._process.pid, status=status)
                self._process = None
                if _now() - self._ready_at >= self._backoff.stable:
                    crashes = 0
            crashes += 1
            delay = self._backoff.delay(crashes)
            self._change(state=PartState.RESTARTING, pid=None, restarts=self.status.restarts + 1)
            log.info("part_restarts", part=self.part.name, delay_seconds=delay, crashes=crashes)
            await asyncio.sleep(delay)
            try:
                await self.bring_up()
            except StartError as error:
                log.warning("part_restart_failed", part=self.part.name, error=str(error))
            else:
                log.info("part_restarted", part=self.part.name, pid=self.status.pid)

    async def stop(self) -> None:
        """Drain and end the part, within its bound."""
        if self._process is not None:
            self._change(state=PartState.STOPPING)
            if not await stop(self._process, self.part.stop_signal, self.part.stop_seconds):
                log.warning("part_killed", part=self.part.name, after_seconds=self.part.stop_seconds)
        self._change(state=PartState.STOPPED, pid=None)

    def forget(self) -> None:
        """Let others see it no more: it has ended, and nobody wants it back."""
        self._change(state=PartState.GONE, pid=None)

    async def _start(self) -> None:
        """Spawn the part and wait for its word, or for its end, whichever comes first."""
        if self.part.ready is not None:
            self._process = await self.part.start(None)
            await self._ready_before_end(self._process, _probe(self.part.ready))
            return
        read_end, write_end = os.pipe()
        try:
            try:
                self._process = await self.part.start(write_end)
            finally:
                os.close(write_end)
            await self._ready_before_end(self._process, _announcement(read_end))
        finally:
            os.close(read_end)

    async def _ready_before_end(
        self, process: subprocess.Popen[bytes], ready: Coroutine[Any, Any, None]
    ) -> None:
        self._change(pid=process.pid)
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._refuse_end(process))
                await ready
                watch.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _refuse_end(self, process: subprocess.Popen[bytes]) -> None:
        status = await exited(process)
        raise StartError(self.part.name, f"ended at its start with status {status}")

    def _failure(self, error: Exception) -> StartError:
        match error:
            case StartError():
                return error
            case TimeoutError():
                return StartError(self.part.name, f"was not ready within {self.part.start_seconds:.0f} s")
            case _:
                return StartError(self.part.name, f"cannot be started: {error}")

    def _change(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        self._observer.part_changed(self.status)


async def _probe(ready: Callable[[], Awaitable[bool]]) -> None:
    while not await ready():  # noqa: ASYNC110 - a foreign program tells nobody; the caller bounds the time
        await asyncio.sleep(_PROBE_SECONDS)


async def _announcement(descriptor: int) -> None:
    """Wait for a newline; a part that closes the descriptor without one never gets ready."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    if not os.read(descriptor, 1):
        await asyncio.Event().wait()


def _now() -> float:
    return asyncio.get_running_loop().time()
