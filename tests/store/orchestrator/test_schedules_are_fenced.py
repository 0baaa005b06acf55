"""Only the holder of a schedule's shard sees it due, and moves it on: once, from where it was looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflux.core.flow import compile_flow
from reflux.core.names import FlowId, RunId
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.triggers.schedules import (
    FiringProblem,
    ScheduleStore,
    Settled,
    replace_schedules,
)
from reflux.runtime.ids import uuid7

if TYPE_CHECKING:
    from tests.store.orchestrator.support import Desk

NOW = timedelta()


def trigger(cron: str = "* * * * *", trigger_id: str = "t"):
    """A compiled trigger."""
    triggers = [{"id": trigger_id, "type": "cron", "cron": cron}]
    spec = {"triggers": triggers, "steps": [{"id": "a", "set": {}}]}
    return compile_flow({"name": "timed", "spec": spec}).flow.triggers[0]


async def declared(desk: Desk, *triggers) -> FlowId:
    """A flow with these schedules."""
    flow_id = FlowId(uuid7(datetime.now(UTC)))
    await desk.act(
        "INSERT INTO flows (id, name, current_version, created_at) VALUES (%s, %s, 1, now())",
        flow_id,
        f"f{flow_id}",
    )
    async with desk.pool.connection() as connection, connection.transaction():
        await replace_schedules(connection, flow_id, 1, triggers)
    return flow_id


async def due_now(desk: Desk, flow_id: FlowId) -> None:
    await desk.act(
        "UPDATE schedules SET (scheduled_for, fire_at) = (now() - interval '1s', now() - interval '1s')"
        " WHERE flow_id = %s",
        flow_id,
    )


async def look(desk: Desk, leases, ahead: timedelta = NOW):
    return await ScheduleStore(desk.pool).due(leases, ahead=ahead, limit=100)


async def test_a_schedule_is_due_at_its_time_for_the_holder_alone(desk: Desk) -> None:
    """By the database's clock; a former holder sees nothing."""
    leases = await desk.leases()
    flow_id = await declared(desk, trigger())
    assert await look(desk, leases) == []
    [soon] = await look(desk, leases, timedelta(seconds=61))
    assert soon.fire_at > soon.now
    await due_now(desk, flow_id)
    [due] = await look(desk, leases)
    assert (due.flow_id, due.trigger_id, due.revision) == (flow_id, "t", 1)
    assert due.fire_at <= due.now
    assert await look(desk, [ShardLease(lease.shard, lease.token - 1) for lease in leases]) == []
    assert await look(desk, [lease for lease in leases if lease.shard != due.shard]) == []


async def test_only_the_holder_moves_it_on_and_only_once(desk: Desk) -> None:
    """A zombie's answer drops out, and so does one that comes twice."""
    leases = {lease.shard: lease for lease in await desk.leases()}
    flow_id = await declared(desk, trigger())
    await due_now(desk, flow_id)
    [due] = await look(desk, list(leases.values()))
    lease, store = leases[due.shard], ScheduleStore(desk.pool)
    later = due.now + timedelta(minutes=1)
    run_id = RunId(uuid7(due.now))
    settled = Settled(later, later, last=(due.scheduled_for, due.fire_at, run_id), fired=1, missed=2)
    assert not await store.settle(due, ShardLease(lease.shard, lease.token - 1), settled)
    assert await store.settle(due, lease, settled)
    assert not await store.settle(due, lease, settled)
    assert await desk.rows("SELECT fired, missed, scheduled_for, last_run_id::text FROM schedules") == [
        (1, 2, later, run_id)
    ]


async def test_what_changed_meanwhile_is_not_moved(desk: Desk) -> None:
    """Paused, resumed, or with another rule: the look was at something else."""
    leases = {lease.shard: lease for lease in await desk.leases()}
    flow_id = await declared(desk, trigger())
    store = ScheduleStore(desk.pool)
    for change in ("pause", "rule"):
        await due_now(desk, flow_id)
        [due] = await look(desk, list(leases.values()))
        if change == "pause":
            await store.pause(flow_id, "t")
            assert await look(desk, list(leases.values())) == []
            await store.resume(flow_id, trigger())
        else:
            async with desk.pool.connection() as connection, connection.transaction():
                await replace_schedules(connection, flow_id, 2, [trigger("0 0 * * *")])
        settled = Settled(due.now, due.now, fired=1)
        assert not await store.settle(due, leases[due.shard], settled)
    assert await desk.rows("SELECT fired, flow_version FROM schedules") == [(0, 2)]


async def test_a_firing_that_was_being_started_is_settled_in_the_pause(desk: Desk) -> None:
    """However long the pause is, its run is not started a second time after it."""
    leases = {lease.shard: lease for lease in await desk.leases()}
    flow_id = await declared(desk, trigger())
    store = ScheduleStore(desk.pool)
    await due_now(desk, flow_id)
    [due] = await look(desk, list(leases.values()))
    await store.pause(flow_id, "t")
    later, run_id = due.now + timedelta(minutes=1), RunId(uuid7(due.now))
    settled = Settled(later, later, last=(due.scheduled_for, due.fire_at, run_id), fired=1)
    assert await store.settle(due, leases[due.shard], settled)
    assert not await store.settle(due, leases[due.shard], settled)
    assert await look(desk, list(leases.values()), timedelta(hours=1)) == []
    await store.resume(flow_id, trigger())
    shown = await desk.rows("SELECT fired, last_run_id::text, scheduled_for > %s FROM schedules", due.now)
    assert shown == [(1, run_id, True)]


async def test_an_error_stands_until_a_firing_starts_a_run(desk: Desk) -> None:
    """Skipped firings say nothing about it."""
    leases = {lease.shard: lease for lease in await desk.leases()}
    flow_id = await declared(desk, trigger())
    store = ScheduleStore(desk.pool)
    problem = FiringProblem(datetime(2026, 1, 1, tzinfo=UTC), "INPUT_INVALID", "does not fit")
    run = (problem.scheduled_for, problem.scheduled_for, RunId(uuid7(problem.scheduled_for)))
    shown = []
    for settled in (
        Settled(None, None, problem=problem, failed=1),
        Settled(None, None, skipped=1),
        Settled(None, None, last=run, fired=1),
    ):
        await due_now(desk, flow_id)
        [due] = await look(desk, list(leases.values()))
        following = due.now + timedelta(minutes=1)
        moved = replace(settled, scheduled_for=following, fire_at=following)
        assert await store.settle(due, leases[due.shard], moved)
        shown += await desk.rows("SELECT error_reason, error_at IS NOT NULL FROM schedules")
    assert shown == [("INPUT_INVALID", True), ("INPUT_INVALID", True), (None, False)]


async def test_schedules_are_spread_over_the_shards(desk: Desk) -> None:
    """So that orchestrators share them."""
    await desk.leases()
    await declared(desk, *[trigger(trigger_id=f"t{n}") for n in range(20)])
    shards = {shard for (shard,) in await desk.rows("SELECT DISTINCT shard FROM schedules")}
    assert shards == {0, 1, 2, 3}


async def test_who_has_lost_the_shard_hears_of_no_run_that_goes_on(desk: Desk) -> None:
    """It would take one that its heir has started for an earlier one, and ask it to cancel."""
    leases = {lease.shard: lease for lease in await desk.leases()}
    flow_id = await declared(desk, trigger())
    await due_now(desk, flow_id)
    [due] = await look(desk, list(leases.values()))
    run_id = RunId(uuid7(due.now))
    await desk.act(
        "INSERT INTO runs (id, shard, flow_id, flow_name, flow_version, state, actor, created_at, wake_at)"
        " VALUES (%s, 0, %s, 'f', 1, 'RUNNING', 'trigger:t', now(), now())",
        run_id,
        flow_id,
    )
    lease, store = leases[due.shard], ScheduleStore(desk.pool)
    assert await store.unfinished(due, lease, "trigger:t") == [run_id]
    assert await store.unfinished(due, lease, "trigger:other") == []
    assert await store.unfinished(due, ShardLease(lease.shard, lease.token - 1), "trigger:t") == []
