"""A run that goes on from one that a trigger started sees the trigger, and is none of its firings."""

import asyncio

import grpc
import pytest

from reflux.api.run.v1 import run_service_pb2 as run_pb
from tests.store.runs.firing import call, every, shown, started
from tests.support.operations import fork, replay_step, retry

PURE = {"node": "work.pure", "with": {"trigger": "{{ trigger }}"}}
STEPS = (
    {
        "id": "how",
        "if": {
            "when": "{{ trigger.type == 'interval' }}",
            "then": [{"id": "first", **PURE}, {"id": "second", **PURE}],
            "else": [{"id": "byhand", **PURE}],
        },
    },
    {"id": "last", "node": "work.pure", "with": {"id": "{{ trigger.id }}"}},
)


@pytest.fixture
def failing(mesh):
    """Ids of the steps that fail."""
    failing: set[str] = set()

    async def script(given, envelope, context):
        if envelope["x-reflux-step"] in failing:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        return {"given": given}

    mesh.script = script
    return failing


async def test_it_goes_the_way_that_its_origin_went(begin, failing):
    """Retry, fork and a replayed step see the trigger of their origin; a retry of the retry does, too."""
    failing |= {"second"}
    async with begin() as client, asyncio.timeout(60):
        flow = await client.save("timed", *STEPS, triggers=[every("1s")])
        while not (firings := await started(client)):
            await asyncio.sleep(0.05)
        await call(client, "PauseTrigger")
        origin = await client.until(firings[0]["run"], "FAILED")
        trigger = (await client.steps(origin["id"]))["first"]["input"]["trigger"]
        before = (await shown(client)).fired_count

        failed = await client.until((await retry(client, origin["id"]))["run"]["id"], "FAILED")
        failing.clear()
        again = await client.until((await retry(client, failed["id"]))["run"]["id"], "SUCCEEDED")
        steps = await client.steps(again["id"])
        forked = await client.until((await fork(client, again["id"], "last"))["run"]["id"], "SUCCEEDED")
        alone = await replay_step(client, again["id"], "second")
        of_trigger = await client.runs.ListRuns(run_pb.ListRunsRequest(flow_id=flow, trigger="often"))
        fired = [each["run"] for each in await started(client)]
        after = (await shown(client)).fired_count

    assert set(trigger) == {"type", "id", "scheduled_for"}
    assert {name for name, step in steps.items() if step["state"] == "SUCCEEDED"} == {
        "how",
        "first",
        "second",
        "last",
    }
    assert steps["second"]["input"] == {"trigger": trigger}
    assert steps["last"]["input"] == {"id": "often"}
    assert forked["output"] == {"given": {"id": "often"}}
    assert alone["output"] == {"given": {"trigger": trigger}}
    assert [each["trigger"] for each in (origin, failed, again, forked, alone)] == ["often"] * 5
    assert before == after
    assert {run.id for run in of_trigger.runs} == set(fired), "nothing but firings"
