"""A schedule is paused until it is resumed, by hand, in whichever version."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import orjson

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from tests.store.runs.firing import STEP, call, every, moments, replace, shown, started, until


async def test_a_paused_schedule_fires_nothing_until_it_is_resumed(begin):
    """Also across a new version; what it would have fired is not made up for, and by hand it still fires."""
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(catchup="all")])
        await until(client, lambda each: each.fired_count >= 1)
        paused = (await call(client, "PauseTrigger")).schedule
        assert (paused.paused, paused.HasField("next")) == (True, False)
        await call(client, "PauseTrigger")
        await asyncio.sleep(0.5)  # one that was being started
        before = await started(client)
        await replace(client, triggers=[every(catchup="all")], vars={"n": 1})
        by_hand = orjson.loads((await call(client, "FireTrigger")).data)
        await asyncio.sleep(2)
        assert len(await started(client)) == len(before)
        assert (await shown(client)).paused
        resumed = (await call(client, "ResumeTrigger")).schedule
        assert not resumed.paused
        await call(client, "ResumeTrigger")
        await until(client, lambda each: each.fired_count > len(before) + 1)
        times = moments(await started(client))
        hand = (await client.events(by_hand["id"]))[0]["data"]
    # One that had come due in the moment of the pause, and was not begun, may have waited for the resume.
    gaps = [after - earlier for earlier, after in pairwise(times[len(before) - 1 :][:3])]
    assert max(gaps) >= timedelta(seconds=2)
    assert (hand["trigger"], hand["trigger_type"], hand["actor"]) == ("often", "interval", "anonymous")


async def test_a_version_without_a_schedule_ends_its_pause(begin):
    """Whoever takes the trigger out and brings it back has a new one, as a rollback does."""
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every()])
        await call(client, "PauseTrigger")
        await replace(client)
        request = flow_pb.RollbackFlowRequest(flow_id="timed", version=1)
        await FlowServiceStub(client.channel).RollbackFlow(request)
        assert not (await shown(client)).paused


async def test_what_waited_before_a_pause_has_its_run_after_it(begin, mesh):
    """Firings in a queue: those that were due go on waiting, and those of the pause are given up."""
    free = asyncio.Event()

    async def work(given, envelope, context):
        await free.wait()
        return {}

    mesh.script = work
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(overlap="queue")])
        await until(client, lambda each: each.fired_count == 1)
        await asyncio.sleep(3.3)  # three more come due, and wait
        await call(client, "PauseTrigger")
        await asyncio.sleep(4)
        free.set()
        await asyncio.sleep(1)
        assert len(await started(client)) == 1
        await call(client, "ResumeTrigger")
        schedule = await until(client, lambda each: each.fired_count >= 6, seconds=30)
        await call(client, "PauseTrigger")
        times = moments(await started(client))
    seconds = [(time - times[0]) // timedelta(seconds=1) for time in times]
    assert seconds[:4] == [0, 1, 2, 3]
    gap = next(place for place, (one, other) in enumerate(pairwise(seconds)) if other > one + 1)
    assert gap in (3, 4)
    assert seconds[gap + 1] - seconds[gap] >= 4
    assert (schedule.missed_count, schedule.failed_count) == (0, 0)
