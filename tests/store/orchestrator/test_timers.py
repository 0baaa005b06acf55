"""Timers: found from the tables by the database's clock, until the run says otherwise."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reflux.core.event import RunPhase
from reflux.orchestrator.store import wakeups
from reflux.orchestrator.store.journal import RunUpdate, ShardLease, Submission

if TYPE_CHECKING:
    import pytest

    from reflux.core.names import RunId
    from tests.store.orchestrator.support import Desk


async def _now(desk: Desk) -> datetime:
    [(now,)] = await desk.rows("SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


async def _waits(desk: Desk, lease: ShardLease, seconds: float) -> tuple[RunId, datetime]:
    [run_id] = await desk.start(lease)
    wake_at = await _now(desk) + timedelta(seconds=seconds)
    await desk.write(Submission(lease, run_id, 2, [b"waits"], RunUpdate(RunPhase.RUNNING, wake_at=wake_at)))
    return run_id, wake_at


async def test_a_timer_is_due_at_its_time_and_not_before(desk: Desk) -> None:
    """By the database's clock; a caller that waits for the rest itself can ask ahead."""
    [lease, *_] = await desk.leases()
    late, late_at = await _waits(desk, lease, -5)
    soon, soon_at = await _waits(desk, lease, 60)
    due = await wakeups.poll(desk.pool, [lease])
    assert [(timer.run_id, timer.wake_at) for timer in due.timers] == [(late, late_at)]
    ahead = await wakeups.poll(desk.pool, [lease], ahead=timedelta(seconds=90))
    assert [(timer.run_id, timer.wake_at) for timer in ahead.timers] == [(late, late_at), (soon, soon_at)]


async def test_a_timer_is_told_until_its_run_waits_no_more(desk: Desk) -> None:
    """An answer that got lost loses no timer; what is in memory already is left out; then it is gone."""
    [lease, *_] = await desk.leases()
    run_id, _ = await _waits(desk, lease, -1)
    for _ in range(2):
        assert [timer.run_id for timer in (await wakeups.poll(desk.pool, [lease])).timers] == [run_id]
    assert (await wakeups.poll(desk.pool, [lease], loaded=[run_id])).timers == ()
    await desk.write(Submission(lease, run_id, 3, [b"goes on"], RunUpdate(RunPhase.RUNNING)))
    assert (await wakeups.poll(desk.pool, [lease])).timers == ()


async def test_only_the_holder_of_a_shard_is_told_its_timers(desk: Desk) -> None:
    """A zombie that polls wakes nothing."""
    [lease, *_] = await desk.leases()
    await _waits(desk, lease, -1)
    assert (await wakeups.poll(desk.pool, [ShardLease(lease.shard, lease.token - 1)])).timers == ()
    assert (await wakeups.poll(desk.pool, [])).timers == ()


async def test_a_crowd_of_timers_comes_oldest_first_and_in_pages(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage thousands may be due: an answer is bounded and says that there is more."""
    monkeypatch.setattr(wakeups, "PAGE", 2)
    [lease, *_] = await desk.leases()
    waiting = [await _waits(desk, lease, -seconds) for seconds in (10, 30, 20)]
    by_time = [run_id for run_id, _ in sorted(waiting, key=lambda one: one[1])]
    first = await wakeups.poll(desk.pool, [lease])
    assert [timer.run_id for timer in first.timers] == by_time[:2]
    assert first.more
    rest = await wakeups.poll(desk.pool, [lease], loaded=by_time[:2])
    assert [timer.run_id for timer in rest.timers] == by_time[2:]
    assert not rest.more
