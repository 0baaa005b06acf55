"""People change weights while runs go on: through the API, under load, and no call fails for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reflux.api.routing.v1 import routing_service_pb2 as pb
from tests.mesh.support.node import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mesh.support.platform import Platform

CALLERS = 8
SHARES = (1000, 2500, 5000, 10_000, 0, 9000, 100, 7500, 1000, 5000, 3000, 1000)


@asynccontextmanager
async def _under_load(platform: Platform) -> AsyncIterator[Counter[str]]:
    """Callers call for as long as the body runs; who answered is counted, a failed call as ``."""
    answers: Counter[str] = Counter()
    stop = asyncio.Event()

    async def call() -> None:
        while not stop.is_set():
            answers[await platform.answer()] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CALLERS):
            tasks.create_task(call())
        try:
            yield answers
        finally:
            stop.set()


@asynccontextmanager
async def _two_versions(platform: Platform) -> AsyncIterator[None]:
    async with (
        Node("1.0.0").serving() as first,
        Node("2.0.0").serving() as second,
        platform.registered(first, second),
    ):
        yield


async def _share(platform: Platform, share: int) -> None:
    """Give 2.0.0 so many basis points, and see that the last of them is its own."""
    route = await platform.update(
        {"version": "1.0.0", "weight": 10_000 - share}, {"version": "2.0.0", "weight": share}
    )
    assert route.state == pb.Route.APPLIED
    await platform.answered_by("2.0.0" if share else "1.0.0", draw="9999")
    await platform.answered_by("1.0.0" if share < 10_000 else "2.0.0", draw="0")


async def test_it_grows_shrinks_and_is_rolled_back(platform: Platform) -> None:
    """Each change is acknowledged and takes effect; then one call takes everything back."""
    async with _two_versions(platform):
        async with _under_load(platform) as answers:
            for share in SHARES:
                await _share(platform, share)
            back = await platform.routing.RollbackRoute(
                pb.RollbackRouteRequest(node="demo.chat", revision=1), timeout=20
            )
            assert back.state == pb.Route.APPLIED
            await platform.answered_by("1.0.0", draw="9999")
        assert answers.keys() == {"1.0.0", "2.0.0"}, answers
        assert back.revision == len(SHARES) + 2


async def test_the_control_plane_goes_away_and_weights_change_when_it_is_back(platform: Platform) -> None:
    """All the time calls are served, by the last weights while nobody can change them."""
    async with _two_versions(platform):
        await _share(platform, 5000)
        async with _under_load(platform) as answers:
            await platform.stop_controlplane()
            before = answers.total()
            async with asyncio.timeout(30):
                while answers.total() < before + 200:
                    await asyncio.sleep(0.01)
            assert await platform.answer(draw="4999") == "1.0.0"
            assert await platform.answer(draw="5000") == "2.0.0"
            await platform.start_controlplane()
            async with asyncio.timeout(30):
                while not (await platform.proxy.stats("control_plane.connected_state")).popitem()[1]:
                    await asyncio.sleep(0.02)
            await _share(platform, 10_000)
        assert answers.keys() == {"1.0.0", "2.0.0"}, answers
        assert (await platform.get()).revision == 3
