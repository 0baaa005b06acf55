"""A minute in which versions of a pure node are killed with -9 and started again: is a call lost, or a run?

Three versions share the calls of a node, each falls back to the two others. One process after the other is
killed, and started again a moment later; at most two versions are down at once, so there is always one that
can answer. All the while callers call the node through the mesh, once each: whatever is rescued is rescued by
Envoy. Beside them runs of three steps are executed through the edge.

The limit is the same load before the storm.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench.calls import Reply, caller, failures
from bench.client import connected
from bench.flows import sequence
from bench.processes import serving
from bench.report import BrokenPromise, Row, quantile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.calls import Caller
    from bench.client import Client
    from bench.flows import Flow
    from bench.report import Plan
    from bench.stack import Stack

NODE: Final = "bench.stormy"
VERSIONS: Final = ("1.0.0", "2.0.0", "3.0.0")
SECONDS: Final = 60
CALM_SECONDS: Final = 10
CALLERS: Final = 8
RUNNERS: Final = 4
MOST_DOWN: Final = 2
UP_SECONDS: Final = (0.5, 2.0)
"""Between these a version serves before it is killed, or is down before it is started again."""
SECONDS_PER_KILL: Final = 20
"""A storm with fewer kills was none. How many there are depends on how soon a process has started again."""
SEED: Final = 7


@dataclass(slots=True)
class Weather:
    """What the versions live in."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    down: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_DOWN))
    """Taken by a version from its kill until it serves again."""
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))

    async def a_while(self) -> None:
        """Until the next kill or start."""
        await asyncio.sleep(self.dice.uniform(*UP_SECONDS))


@dataclass(slots=True)
class Load:
    """What became of all calls and runs."""

    replies: list[Reply] = field(default_factory=list)
    runs: int = 0
    lost_runs: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def on(self, calls: Caller, client: Client, flow: Flow) -> AsyncIterator[None]:
        """Call and run within the body."""
        stop = asyncio.Event()

        async def run() -> None:
            while not stop.is_set():
                try:
                    await client.run(flow)
                except (RuntimeError, grpc.aio.AioRpcError) as error:
                    self.lost_runs.append(str(error))
                self.runs += 1

        async with asyncio.TaskGroup() as tasks, calls.calling(CALLERS, self.replies.append):
            for _ in range(RUNNERS):
                tasks.create_task(run())
            try:
                yield
            finally:
                stop.set()


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print.

    Raises:
        BrokenPromise: a call or a run was lost, or there were too few kills for a storm.
    """
    flow = sequence(3, NODE)
    calm, storm, weather = Load(), Load(), Weather()
    seconds = plan.of(SECONDS)
    async with connected(stack) as client, caller(stack, NODE) as calls, asyncio.TaskGroup() as tasks:
        lives = [tasks.create_task(_live(stack, calls, version, weather)) for version in VERSIONS]
        for version in VERSIONS:
            await calls.reached(version)
        await client.route(NODE, *_targets())
        await client.create(flow)
        async with calm.on(calls, client, flow):
            await asyncio.sleep(plan.of(CALM_SECONDS))
        weather.begun.set()
        async with storm.on(calls, client, flow):
            await asyncio.sleep(seconds)
        weather.over.set()
    kills = sum(life.result() for life in lives)
    _show(calm, storm, kills, seconds)
    lost = failures(storm.replies) + failures(calm.replies) + storm.lost_runs + calm.lost_runs
    if lost:
        raise BrokenPromise(f"storm: {len(lost)} calls or runs were lost; {lost[:3]}")
    if kills < max(1, seconds // SECONDS_PER_KILL):
        raise BrokenPromise(f"storm: {kills} kills in {seconds} s are no storm")
    return [_row(calm, storm, kills, seconds)]


async def _live(stack: Stack, calls: Caller, version: str, weather: Weather) -> int:
    """Be started, killed and started again until the storm is over; how often it was killed."""
    kills = 0
    while True:
        async with serving(stack, f"{NODE}@{version}") as process:
            await calls.reached(version)
            if kills:
                weather.down.release()
            await weather.begun.wait()
            await weather.a_while()
            await weather.down.acquire()
            if weather.over.is_set():
                weather.down.release()
                return kills
            await process.kill()
            kills += 1
        await weather.a_while()


def _targets() -> list[dict[str, Any]]:
    shares = (3_334, 3_333, 3_333)
    return [
        {"version": version, "weight": share, "fallback": [other for other in VERSIONS if other != version]}
        for version, share in zip(VERSIONS, shares, strict=True)
    ]


def _show(calm: Load, storm: Load, kills: int, seconds: int) -> None:
    print(f"\nStorm: {kills} kills -9 and heals of {len(VERSIONS)} versions in {seconds} s, "
          f"{CALLERS} callers and {RUNNERS} runs of 3 steps at a time")  # fmt: skip
    print(f"  {'':<22}{'calls':>9}{'lost':>7}{'p50 ms':>9}{'p99 ms':>9}{'longest':>9}{'runs':>9}{'lost':>7}")
    for text, load in (("limit: before it", calm), ("in the storm", storm)):
        took = _milliseconds(load.replies)
        print(f"  {text:<22}{len(load.replies):>9,}{len(failures(load.replies)):>7}"
              f"{quantile(took, 0.5):>9.1f}{quantile(took, 0.99):>9.1f}{max(took):>9.1f}"
              f"{load.runs:>9,}{len(load.lost_runs):>7}")  # fmt: skip
    print("  lost calls and runs: none is promised")


def _row(calm: Load, storm: Load, kills: int, seconds: int) -> Row:
    before, during = (_milliseconds(load.replies) for load in (calm, storm))
    return Row(
        f"storm of {seconds} s, {kills} kills: p99 of a call before and in it, ms",
        f"{quantile(before, 0.99):.0f}",
        f"{quantile(during, 0.99):.0f}",
        f"0 of {len(storm.replies):,} calls and {storm.runs:,} runs lost",
        "none lost",
    )


def _milliseconds(replies: Sequence[Reply]) -> list[float]:
    return [(each.ended - each.began) * 1000 for each in replies]
