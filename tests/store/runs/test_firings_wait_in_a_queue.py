"""`overlap: queue`: a firing waits until the run of the one before it has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from reflux.core.schedule import schedule as schedule_rules
from tests.store.runs.firing import STEP, call, every, moments, shown, started, until
from tests.support.orchestrators import insist


async def test_with_a_queue_each_firing_waits_for_the_run_before_it(begin, mesh):
    """No two at once and none left out, in order, also over a change of owner."""
    gate, going_on, most = asyncio.Semaphore(0), set(), []

    async def work(given, envelope, context):
        going_on.add(envelope["x-reflux-run-id"])
        most.append(len(going_on))
        try:
            await gate.acquire()
        finally:
            going_on.discard(envelope["x-reflux-run-id"])
        return {}

    mesh.script = work
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(overlap="queue")])
        await until(client, lambda each: each.fired_count == 1)
        await asyncio.sleep(3)  # three more come due, and wait
        [first] = await started(client)
        gate.release()
        await client.until(first["run"], "SUCCEEDED")
        await until(client, lambda each: each.fired_count == 2)
    async with begin() as client:
        for _ in range(20):
            gate.release()
        schedule = await until(client, lambda each: each.fired_count >= 5, seconds=60)
        runs = await started(client)
        await call(client, "PauseTrigger")
        for run in runs:
            await client.until(run["run"], "SUCCEEDED")
    times = moments(runs)
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]
    assert max(most) == 1
    assert (schedule.skipped_count, schedule.missed_count, schedule.failed_count) == (0, 0, 0)


async def test_a_queue_is_bounded_and_counts_what_it_gives_up(begin, mesh, database_dsn, monkeypatch):
    """Of more than may wait the newest are started, and the others are told as missed."""
    monkeypatch.setattr(schedule_rules, "MAX_CATCHUP", 3)
    async with begin() as client:
        now = datetime.now(UTC).replace(microsecond=0)
        anchor = now - timedelta(minutes=30)
        triggers = [every("1h", overlap="queue", anchor=anchor.isoformat())]
        await client.save("timed", STEP, triggers=triggers)
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:
            oldest = anchor - timedelta(hours=9)
            await connection.execute(
                "UPDATE orchestrator.schedules SET scheduled_for = %(at)s, fire_at = %(at)s", {"at": oldest}
            )
        schedule = await until(client, lambda each: each.fired_count == 3)
        times = moments(await started(client))
    assert times == [anchor - timedelta(hours=2), anchor - timedelta(hours=1), anchor]
    assert schedule.missed_count == 7


@pytest.mark.parametrize("names", [("one",), ("one", "other")], ids=len)
async def test_a_queue_outlives_those_who_hold_it(processes, mesh, names):
    """Whoever has the schedule is killed while a firing waits: each firing is one run, in order.

    With two of them each is killed in turn, so the schedule and the run before it change hands.
    """
    gate, calls, most = asyncio.Event(), Counter(), []

    async def work(given, envelope, context):
        run = envelope["x-reflux-run-id"]
        calls[run] += 1  # a pure call may be made again after a takeover
        most.append(sum(count > 0 for count in calls.values()))
        try:
            await gate.wait()
        finally:
            calls[run] -= 1
        return {}

    mesh.script = work
    for name in names:
        await processes.serving(name)
    client = processes.clients[names[0]]
    await client.save("timed", STEP, triggers=[every(overlap="queue")])
    await until(client, lambda each: each.fired_count == 1)
    for name in names:
        await asyncio.sleep(1.5)  # another one comes due, and waits
        processes.kill(name)
        await processes.serving(name)
    [first] = await insist(lambda: started(client))
    gate.set()
    await client.until(first["run"], "SUCCEEDED", seconds=60)
    await until(client, lambda each: each.fired_count >= 4, seconds=60)
    await call(client, "PauseTrigger")
    schedule, runs = await shown(client), await started(client)
    for run in runs:
        await client.until(run["run"], "SUCCEEDED", seconds=60)
    times = moments(runs)
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]
    assert max(most) == 1
    assert schedule.fired_count == len(runs)
    assert (schedule.skipped_count, schedule.missed_count, schedule.failed_count) == (0, 0, 0)
