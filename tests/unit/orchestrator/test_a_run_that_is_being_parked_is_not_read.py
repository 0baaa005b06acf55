"""Until it is durable that a run rests it looks due in the tables: whoever reads it then would walk it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from reflux.core.event import Failure
from reflux.core.names import RunId
from reflux.orchestrator.intake import Intake
from reflux.orchestrator.journal_reader import Loaded
from reflux.orchestrator.store.journal import Recorded, ShardLease, Submission
from reflux.runtime.clock import ManualClock
from tests.support.walk import START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PARKED, OTHER = (
    RunId("0197a000-0000-7000-8000-000000000001"),
    RunId("0197a000-0000-7000-8000-000000000002"),
)
LEASE = ShardLease(1, 1)


class Worker:
    def __init__(self) -> None:
        self.runs: dict[RunId, object] = {}
        self.launching: set[RunId] = set()


class Writer:
    def __init__(self) -> None:
        self.commits: list[asyncio.Future[Recorded]] = []

    def read_again(self, run_id: RunId, next_seq: int) -> None:
        pass

    def submit(self, submission: Submission) -> asyncio.Future[Recorded]:
        commit: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self.commits.append(commit)
        return commit


class Reader:
    def __init__(self) -> None:
        self.asked: list[RunId] = []

    async def load(self, run_ids: Sequence[RunId]) -> AsyncIterator[object]:
        self.asked += run_ids
        for _ in ():
            yield None


async def test_a_run_is_read_again_when_it_is_known_what_became_of_its_parking():
    """Also when that has failed: then it is due as before."""
    reader, writer, worker = Reader(), Writer(), Worker()
    parts: Any = {"pool": None, "reader": reader, "writer": writer, "worker": worker}
    intake = Intake(**parts, clock=ManualClock(START))

    async def read() -> list[RunId]:
        reader.asked.clear()
        async with intake._read([PARKED, OTHER]) as found:
            assert [loaded async for loaded in found] == []
        return list(reader.asked)

    for outcome in (None, OSError("away")):
        intake._park(Loaded(PARKED, 3, None), LEASE, Failure("INTERNAL", "RUN_BROKEN", "it cannot be folded"))
        assert await read() == [OTHER]
        commit = writer.commits.pop()
        commit.set_result(Recorded(START)) if outcome is None else commit.set_exception(outcome)
        await asyncio.sleep(0)
        assert await read() == [PARKED, OTHER]
