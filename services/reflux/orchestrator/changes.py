"""Who waits for news of a run, and the news: committed here, or elsewhere and told through Redis/Valkey.

News carries nothing but "look now"; what there is to see stands in the journal. Whoever waits therefore looks
at least once a second, and a lost message costs a second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from reflux.core.names import RunId

POLL_SECONDS: Final = 1.0
MAX_WAITERS: Final = 10_000
"""Waiters at once; more only poll."""

News = Callable[[float], Awaitable[None]]
"""Returns when there is news since its last call, after so many seconds, or after `POLL_SECONDS`."""


class Changes:
    """Wakes those who wait for a run."""

    def __init__(self) -> None:
        self._waiters: dict[RunId, set[asyncio.Event]] = {}
        self._count = 0

    def tell(self, run_id: RunId) -> None:
        """There is news of this run."""
        for event in self._waiters.get(run_id, ()):
            event.set()

    @contextmanager
    def watch(self, run_id: RunId) -> Iterator[News]:
        """News from now on: look at the journal inside the block, then wait for news, then look again."""
        event = asyncio.Event()
        counted = self._count < MAX_WAITERS
        if counted:
            self._count += 1
            self._waiters.setdefault(run_id, set()).add(event)

        async def news(seconds: float) -> None:
            try:
                async with asyncio.timeout(min(seconds, POLL_SECONDS)):
                    await event.wait()
            except TimeoutError:
                pass
            event.clear()

        try:
            yield news
        finally:
            if counted:
                self._count -= 1
                waiters = self._waiters[run_id]
                waiters.remove(event)
                if not waiters:
                    del self._waiters[run_id]
