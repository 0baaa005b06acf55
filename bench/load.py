"""Asking and counting: a closed loop, that is, each client asks again when it is answered."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Sample:
    """One window: how often per second, and how long each took in milliseconds, the fastest first."""

    rate: float
    milliseconds: tuple[float, ...]
    asked: int
    """Calls that were answered at all, the warm-up's included."""

    @property
    def p50(self) -> float:
        """Half were faster."""
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        """One in a hundred was slower."""
        return self.milliseconds[min(len(self.milliseconds) - 1, len(self.milliseconds) * 99 // 100)]


async def closed_loop(
    call: Callable[[], Awaitable[object]], *, in_flight: int, seconds: float, warmup: float
) -> Sample:
    """Keep `in_flight` calls going; count what is answered in the window after `warmup` seconds.

    Raises:
        RuntimeError: nothing was answered in the window.
    """
    latencies: list[float] = []
    asked = 0
    begin = time.perf_counter() + warmup
    end = begin + seconds

    async def client() -> None:
        nonlocal asked
        while (sent := time.perf_counter()) < end:
            await call()
            answered = time.perf_counter()
            asked += 1
            if begin <= answered < end:
                latencies.append((answered - sent) * 1000)

    async with asyncio.TaskGroup() as clients:
        for _ in range(in_flight):
            clients.create_task(client())
    if not latencies:
        raise RuntimeError(f"nothing was answered within {seconds:g} s")
    return Sample(len(latencies) / seconds, tuple(sorted(latencies)), asked)


async def single(call: Callable[[], Awaitable[object]]) -> Sample:
    """One call as a sample."""
    begin = time.perf_counter()
    await call()
    seconds = time.perf_counter() - begin
    return Sample(1 / seconds, (seconds * 1000,), 1)
