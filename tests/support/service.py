"""A service in this process, as its own `__main__` would run it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Protocol

from reflux.runtime.settings import Settings

START_SECONDS = 20
STOP_SECONDS = 20


class Serve(Protocol):
    """The entry of a service."""

    async def __call__(self, settings: Settings, *, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled."""


@asynccontextmanager
async def serving(serve: Serve, settings: Settings) -> AsyncIterator[None]:
    """Ready within the body, drained after it. What it raises instead of becoming ready is raised here."""
    ready = asyncio.Event()
    task = asyncio.ensure_future(serve(settings, ready=ready))
    waiting = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=START_SECONDS)
        if task.done():
            await task
        assert ready.is_set(), f"not ready within {START_SECONDS} s"
        yield
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.wait((task, waiting), timeout=STOP_SECONDS)
        assert task.done(), f"not stopped within {STOP_SECONDS} s:\n" + "\n".join(_stacks())


def _stacks() -> Iterator[str]:
    """Where every task waits."""
    for task in asyncio.all_tasks():
        frames = task.get_stack()
        places = (f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" for frame in frames)
        yield f"{task.get_name()} {task.get_coro()}: " + " < ".join(places)
