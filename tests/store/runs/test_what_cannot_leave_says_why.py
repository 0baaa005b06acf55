"""An attempt that is not sent yet says in the API what it waits for, and until when, and what comes after."""

import asyncio

import grpc
import pytest

from reflux.orchestrator import dispatch

PLACE = "all places for calls of {} are taken"
BUDGET = "has not left: the retry budget of work.pure@1.0.0 is empty"


async def _until(client, run_id, why, step="a"):
    """The step and the run once the step waits for that."""
    async with asyncio.timeout(30):
        while True:
            found = (await client.steps(run_id))[step]
            if found["waiting"] and found["waiting"]["why"] == why:
                return found, await client.run(run_id)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("node", ["work.pure", "work.once"])
async def test_one_without_a_place_and_then_with_one(begin, mesh, monkeypatch, node):
    """With one place the second run waits for the first; then it is in flight, and says so."""
    monkeypatch.setattr(dispatch, "MAX_CALLS_OF_A_NODE", 1)
    go = asyncio.Event()

    async def first_hangs(given, envelope, context):
        await (go.wait() if given["n"] == 1 else asyncio.sleep(60))
        return {}

    mesh.script = first_hangs
    async with begin() as client:
        step = {"id": "a", "node": node, "with": {"n": "{{ input.n }}"}, "timeout": {"total": "50s"}}
        flow = await client.save("placed", step)
        first = await client.start(flow, {"n": 1})
        async with asyncio.timeout(30):
            while not mesh.calls:
                await asyncio.sleep(0.01)
        second = await client.start(flow, {"n": 2})
        held, run = await _until(client, second["id"], f"attempt 1 has not left: {PLACE.format(node)}")
        assert held["waiting"]["until"] is not None
        assert run["waiting"]["why"] == f"step a: {held['waiting']['why']}"
        go.set()
        await client.until(first["id"], "SUCCEEDED")
        await _until(client, second["id"], "attempt 1 is in flight")


async def test_retries_without_a_token(begin, mesh):
    """When first attempts have paid for those of others, a retry waits and says so; then it goes out."""
    well = False

    async def ill(given, envelope, context):
        if not well:
            await context.abort(grpc.StatusCode.INTERNAL, "ill")
        return {}

    mesh.script = ill
    retry = {"attempts": 3, "delay": "100ms", "on": ["INTERNAL"]}
    async with begin() as client:
        flow = await client.save("costly", {"id": "a", "node": "work.pure", "retry": retry})
        runs = await asyncio.gather(*(client.start(flow) for _ in range(30)))
        async with asyncio.timeout(30):
            while not (held := [run for run in runs if BUDGET in str(await client.steps(run["id"]))]):
                await asyncio.sleep(0.05)
        why = (await client.run(held[-1]["id"]))["waiting"]["why"]
        assert why in [f"step a: attempt {number} {BUDGET}" for number in (2, 3)]
        well = True
        ends = [await client.until(run["id"], "SUCCEEDED", "FAILED", seconds=40) for run in runs]
        assert ends[runs.index(held[-1])]["state"] == "SUCCEEDED"
