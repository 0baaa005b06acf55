"""A lane lets a busy loop speak before it writes, and knows by the lane beside it that the loop is busy."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from reflux.orchestrator.store.lane import TURNS, Lane, LaneStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Connection:
    """Of a server that never speaks unasked."""

    def __init__(self, end: socket.socket) -> None:
        self.fileno = end.fileno

    async def close(self) -> None:
        """Nothing to close: the socket is the test's."""


@pytest.fixture
def end() -> Iterator[socket.socket]:
    """One end of a connection on which nothing comes."""
    one, other = socket.socketpair()
    with closing(one), closing(other):
        yield one


async def _written(end: socket.socket, beside: LaneStats | None) -> list[int]:
    """Sizes of the batches, when a second item comes some turns of the loop after the first."""
    batches: list[int] = []

    async def write(_: Any, items: Sequence[str]) -> Sequence[str]:
        batches.append(len(items))
        return items

    async def connect(dsn: str, name: str) -> Any:
        del dsn, name
        return _Connection(end)

    lane: Lane[str, str] = Lane("", name="test", write=write, beside=beside, connect=connect)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lane.run())
        first = lane.submit("first", 1)
        for _ in range(TURNS // 2):
            await asyncio.sleep(0)
        second = lane.submit("second", 1)
        assert (await first, await second) == ("first", "second")
        lane.close()
    return batches


async def test_beside_a_busy_lane_it_gathers_before_it_writes(end: socket.socket) -> None:
    """What comes within the turns that are given to the loop is written with the first."""
    assert await _written(end, LaneStats(newest=6)) == [2]


@pytest.mark.parametrize("beside", [None, LaneStats(newest=1)])
async def test_on_an_idle_loop_it_writes_at_once(end: socket.socket, beside: LaneStats | None) -> None:
    """Nothing waits for company that nobody promises."""
    assert await _written(end, beside) == [1, 1]
