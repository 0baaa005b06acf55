"""A firing is missed or has its run, never both: also when its start is late, or could not be settled."""

from __future__ import annotations

from dataclasses import astuple
from datetime import UTC, timedelta
from functools import partial

import psycopg

from reflux.orchestrator import launcher as launching
from reflux.orchestrator.triggers import scheduler
from reflux.orchestrator.triggers.schedules import NOBODY, ScheduleStore
from tests.store.runs.firing import STEP, call, every, moments, shown, started, until


async def test_what_has_begun_is_not_missed_because_the_next_one_is_due(begin, monkeypatch):
    """Nothing could be settled for two firings: only the newest is caught up on, and both have their runs."""
    real, first = ScheduleStore.settle, []

    async def fail_for_a_while(self, due, lease, settled):
        first.append(due.scheduled_for)
        if due.now < first[0] + timedelta(seconds=4):
            raise psycopg.OperationalError("gone")
        return await real(self, due, lease, settled)

    monkeypatch.setattr(ScheduleStore, "settle", fail_for_a_while)
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("2s", catchup="last")])
        await until(client, lambda schedule: schedule.fired_count >= 3)
        await call(client, "PauseTrigger")
        schedule, runs = await shown(client), await started(client)
    assert first.count(first[0]) > 1
    assert schedule.fired_count == len(runs) == len(set(moments(runs)))
    assert schedule.missed_count == 0


async def test_a_start_that_arrives_late_begins_nothing_that_was_passed_over(begin, monkeypatch):
    """Whoever sent it heard that the database is away; a later firing has come since: this one is missed."""
    real, lost = launching.Launcher.launch, []

    async def lose_the_first(self, *asked, cause, **how):
        if not lost or cause.scheduled_for == lost[0][1].scheduled_for:
            lost.append((partial(real, self, *asked, cause=cause, **how), cause))
            raise psycopg.OperationalError("gone")
        return await real(self, *asked, cause=cause, **how)

    monkeypatch.setattr(launching.Launcher, "launch", lose_the_first)
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("2s", catchup="last")])
        await until(client, lambda schedule: schedule.missed_count == 1)
        launch, cause = lost[0]
        await launch()
        await call(client, "PauseTrigger")
        schedule, runs = await shown(client), await started(client)
    assert cause.scheduled_for not in moments(runs)
    assert schedule.fired_count == len(runs) >= 1
    assert schedule.missed_count == 1


async def test_what_was_passed_over_is_missed_by_whoever_would_start_it(begin, session):
    """A version with another `catchup` may want what the one before had given up."""
    async with begin() as client:
        flow = await client.save("timed", STEP, triggers=[every("3s", catchup="all")])
        schedule = await until(client, lambda schedule: schedule.fired_count == 1)
        given_up = schedule.next.scheduled_for.ToDatetime(UTC)
        await session.execute(
            "INSERT INTO start_keys (scope, key, body_digest, run_id, expires_at)"
            " VALUES (%s, %s, %s, %s, now() + interval '1 hour')",
            (*astuple(scheduler._once(f"{flow}/often", given_up)), NOBODY),
        )
        schedule = await until(client, lambda schedule: schedule.fired_count == 2)
        runs = await started(client)
    assert schedule.missed_count == 1
    assert given_up not in moments(runs)
    assert len(runs) == 2
