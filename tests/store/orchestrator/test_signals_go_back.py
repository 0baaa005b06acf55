"""A signal under a key that nobody took goes back to the others, whatever has become of those who had it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflux.core.event import RunPhase
from reflux.orchestrator.store import wakeups
from reflux.orchestrator.store.journal import RunUpdate, Submission

if TYPE_CHECKING:
    from tests.store.orchestrator.support import Desk


async def test_one_that_several_runs_had_goes_back_from_all_of_them_at_once(desk: Desk) -> None:
    """Both end before they hear it, and one look finds both words: nobody has the signal any more."""
    [lease, *_] = await desk.leases()
    runs = await desk.start(lease, 2)
    await desk.act(
        "INSERT INTO signals (name, key, signal_id, word, created_at, expires_at, run_ids)"
        " VALUES ('ready', 'k', '1', '', now(), now() + interval '1 hour', %s)",
        runs,
    )
    await desk.act(
        "INSERT INTO inbox (shard, run_id, kind, payload, created_at, signal)"
        " SELECT shard, runs.id, 'signal', '', now(), signals.id FROM runs, signals"
    )
    over = RunUpdate(RunPhase.SUCCEEDED, finished_at=datetime.now(UTC))
    await desk.write(*(Submission(lease, run_id, 2, [b"ended"], over) for run_id in runs))

    due = await wakeups.poll(desk.pool, [lease], ahead=timedelta(), loaded=[])

    assert not due.words
    assert await desk.rows("SELECT run_ids FROM signals") == [([],)]
    assert await desk.rows("SELECT count(*) FROM inbox") == [(0,)]
