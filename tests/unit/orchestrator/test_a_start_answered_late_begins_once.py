"""A run whose start is answered late is not read from the tables meanwhile: it would begin twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflux.core.names import RunId
from reflux.orchestrator.intake import Intake
from reflux.runtime.clock import ManualClock
from tests.support.walk import START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

BEING_STARTED, OTHER = (
    RunId("0197a000-0000-7000-8000-000000000001"),
    RunId("0197a000-0000-7000-8000-000000000002"),
)


class Worker:
    def __init__(self) -> None:
        self.runs: dict[RunId, object] = {}
        self.launching = {BEING_STARTED}


class Reader:
    def __init__(self) -> None:
        self.asked: list[RunId] = []

    async def load(self, run_ids: Sequence[RunId]) -> AsyncIterator[object]:
        self.asked += run_ids
        for _ in ():
            yield None


async def test_a_run_that_is_being_started_here_is_left_to_its_launcher():
    """Whatever says that it is due, a poll or an adoption: only the other run is read."""
    reader: Any = Reader()
    unused: Any = None
    worker: Any = Worker()
    intake = Intake(pool=unused, reader=reader, writer=unused, worker=worker, clock=ManualClock(START))
    async with intake._read([BEING_STARTED, OTHER]) as found:
        assert [loaded async for loaded in found] == []
    assert reader.asked == [OTHER]
