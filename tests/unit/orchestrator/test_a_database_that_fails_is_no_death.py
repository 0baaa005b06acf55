"""A database that is away while a shard is taken over is nobody's death: each run is counted once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg

from reflux.core.names import RunId
from reflux.orchestrator.intake import Intake
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.store.members import Taken
from reflux.runtime.clock import ManualClock
from tests.support.walk import START

if TYPE_CHECKING:
    import pytest

LEASE = ShardLease(1, 7)
PAGE = 2_000


def run_id(number: int) -> RunId:
    return RunId(f"0197a000-0000-7000-8000-{number:012d}")


class Worker:
    def __init__(self) -> None:
        self.runs: dict[RunId, object] = {}
        self.launching: set[RunId] = set()


async def test_an_adoption_that_is_interrupted_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch):
    """What was answered is not asked for again, however often the rest fails: no death is counted twice."""
    deaths = [0] * (PAGE + 5)
    failures = [1, 2, 3, 4, 5, 6]

    async def fetch(_pool: Any, name: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        assert name == "adopt_runs"
        if given["after"] != runs.BEFORE_ALL and failures:
            failures.pop()
            raise psycopg.OperationalError("the database is away")
        page = [number for number in range(len(deaths)) if run_id(number) > given["after"]][: given["limit"]]
        for number in page:
            deaths[number] += 1
        return [(run_id(number), deaths[number], "f", 5, True) for number in page]

    monkeypatch.setattr(runs, "fetch", fetch)
    monkeypatch.setattr("reflux.orchestrator.intake.POLL_SECONDS", 0.0)
    nothing: Any = None
    worker: Any = Worker()
    intake = Intake(pool=nothing, reader=nothing, writer=nothing, worker=worker, clock=ManualClock(START))
    intake.gained([Taken(LEASE, orphaned=True)])
    adopting = asyncio.create_task(intake._adopt_forever())
    async with asyncio.timeout(10):
        lease, adopted = await intake._loading.get()
    adopting.cancel()
    assert (lease, len(adopted), failures) == (LEASE, len(deaths), [])
    assert set(deaths) == {1}
