"""`overlap: cancel`: a run goes on until the one that takes its place has begun."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from reflux.core.reasons import Reason
from reflux.orchestrator.triggers import scheduler
from tests.store.runs.firing import STEP, call, every, moments, replace, shown, started, until


@pytest.fixture
def free(mesh):
    """What all runs wait for."""
    event = asyncio.Event()

    async def work(given, envelope, context):
        await event.wait()
        return {}

    mesh.script = work
    return event


async def states(client: Any) -> list[str]:
    """Of the runs of the schedule, oldest first."""
    return [(await client.run(run["run"]))["state"] for run in await started(client)]


async def test_a_firing_that_cannot_start_a_run_cancels_none(begin, free):
    """Its input does not fit the new version: the run before goes on, and the firing is told as failed."""
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(overlap="cancel")])
        await until(client, lambda each: each.fired_count >= 1)
        strict = {"type": "object", "required": ["x"]}
        await replace(client, input=strict, triggers=[every(overlap="cancel")])
        before = (await until(client, lambda each: each.failed_count >= 1)).failed_count
        schedule = await until(client, lambda each: each.failed_count >= before + 2)
        *earlier, newest = await states(client)
        free.set()
        await client.until((await started(client))[-1]["run"], "SUCCEEDED")
    assert schedule.last_error.reason == Reason.INPUT_INVALID.value
    assert newest == "RUNNING"
    assert set(earlier) <= {"CANCELING", "CANCELED"}


async def test_a_firing_that_a_rate_refuses_cancels_none(begin, free):
    """It waits for its time, and the run before it goes on until then."""
    rate = {"rate": {"limit": 1, "per": "1h", "overflow": "reject"}}
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(overlap="cancel")], policies=rate)
        refused = await until(client, lambda each: each.HasField("last_error"))
        await until(client, lambda each: each.last_error.time.seconds > refused.last_error.time.seconds + 1)
        assert await states(client) == ["RUNNING"]
        assert refused.last_error.reason == Reason.RATE_LIMIT.value
        await call(client, "PauseTrigger")
        free.set()


async def test_a_firing_that_a_limit_of_concurrency_refuses_makes_room_for_itself(begin, free):
    """The run before it has the only slot: it is cancelled, and the firing begins after its end."""
    limited = {"concurrency": {"limit": 1, "overflow": "reject"}}
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("2s", overlap="cancel")], policies=limited)
        await until(client, lambda each: each.fired_count >= 2)
        await call(client, "PauseTrigger")
        first, *_ = await started(client)
        await client.until(first["run"], "CANCELED")
        free.set()


async def test_a_run_that_began_has_its_earlier_ones_cancelled_whoever_died(begin, free, monkeypatch):
    """The words could not be left when it began: who looks next leaves them, and none for that run itself."""
    real, broken = scheduler.inbox.put, []

    async def fail(pool, run_id, *word):
        if len(broken) < 3:
            broken.append(run_id)
            raise psycopg.OperationalError("gone")
        return await real(pool, run_id, *word)

    monkeypatch.setattr(scheduler.inbox, "put", fail)
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("4s", overlap="cancel")])
        await until(client, lambda each: each.fired_count >= 2)
        await call(client, "PauseTrigger")
        first, second = await started(client)
        await client.until(first["run"], "CANCELED")
        assert (await client.run(second["run"]))["state"] == "RUNNING"
        schedule = await shown(client)
        free.set()
        await client.until(second["run"], "SUCCEEDED")
    assert broken == [first["run"]] * 3
    assert len(set(moments([first, second]))) == schedule.fired_count == 2
