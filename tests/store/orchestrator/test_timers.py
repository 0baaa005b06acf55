"""Timers: found from the tables by the database's clock, until the run says otherwise."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from reflux.core.event import RunPhase
from reflux.core.flow.limits import Claim, Overflow, SlotClaim
from reflux.core.names import FlowId
from reflux.orchestrator.store import runs, wakeups
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


async def _due(desk: Desk, lease: ShardLease, flow: FlowId, count: int, priority: int = 5) -> list[RunId]:
    """So many runs of a flow that are due, each a little later than the one before."""
    run_ids = []
    for _ in range(count):
        [run_id] = await desk.start(lease, flow_id=flow, claim=Claim(priority))
        await desk.act(
            "UPDATE runs SET wake_at = now() - interval '1 hour' + %s * interval '1 second' WHERE id = %s",
            await _count(desk),
            run_id,
        )
        run_ids.append(run_id)
    return run_ids


async def _count(desk: Desk) -> int:
    [(number,)] = await desk.rows("SELECT count(*) FROM runs")
    assert isinstance(number, int)
    return number


async def test_what_is_due_comes_by_turns_of_flows(desk: Desk) -> None:
    """One flow's backlog delays no other; within a flow the higher priority is first, then the older one."""
    [lease, *_] = await desk.leases()
    burst, other = FlowId(str(uuid4())), FlowId(str(uuid4()))
    usual = await _due(desk, lease, burst, 6)
    urgent = await _due(desk, lease, burst, 1, priority=9)
    late = await _due(desk, lease, other, 2)
    due = [timer.run_id for timer in (await wakeups.poll(desk.pool, [lease])).timers]
    assert due == [urgent[0], late[0], usual[0], late[1], *usual[1:]]


async def test_a_shard_is_adopted_by_turns_of_flows(desk: Desk) -> None:
    """The same after a takeover: what was accepted first is not all that comes first."""
    [lease, *_] = await desk.leases()
    burst, other = FlowId(str(uuid4())), FlowId(str(uuid4()))
    backlog = await _due(desk, lease, burst, 5)
    late = await _due(desk, lease, other, 2)
    adopted = [one.run_id async for page in runs.adopt(desk.pool, lease, died=False) for one in page]
    assert set(adopted) == {*backlog, *late}
    assert [run_id in late for run_id in adopted[:4]].count(True) == 2


async def test_a_queued_run_is_not_due_and_not_adopted(desk: Desk) -> None:
    """It costs no memory: nobody takes it up before it has its slot."""
    [lease, *_] = await desk.leases()
    claim = Claim(slot=SlotClaim("k", 1, Overflow.QUEUE))
    [first] = await desk.start(lease, claim=claim)
    [second] = await desk.start(lease, claim=claim)
    ahead = await wakeups.poll(desk.pool, [lease], ahead=timedelta(days=1))
    adopted = [one.run_id async for page in runs.adopt(desk.pool, lease, died=False) for one in page]
    assert [timer.run_id for timer in ahead.timers] == [first] == adopted
    assert second != first
