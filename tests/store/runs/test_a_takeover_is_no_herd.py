"""Whoever takes many runs over does not send all their attempts at once: they leave in a ramp."""

import asyncio
import math
from collections import Counter
from datetime import timedelta
from itertools import accumulate

import grpc
import pytest

from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.orchestrator import worker
from reflux.orchestrator.ramp import PROBE
from reflux.orchestrator.retry_budget import AGAIN, BURST

RUNS = 150
DONE = run_pb.ListRunsRequest(state=run_pb.Run.SUCCEEDED, page_size=RUNS)


def _per_100_ms(times: list[float]) -> list[int]:
    slots = Counter(int((time - times[0]) * 10) for time in times)
    return [slots[slot] for slot in range(max(slots) + 1)]


def _ramp(seconds: float, first: float) -> float:
    """How many may have come so long after the first, which was half a second on its way at most."""
    return BURST + 1.25 * first * (math.exp2(seconds + 0.5) - 1) / math.log(2) + 1


@pytest.mark.parametrize("node", ["work.pure", "work.once"])
async def test_what_was_in_flight_is_sent_again_in_a_ramp(begin, mesh, node):
    """With an outside effect or without: nobody had claimed one yet."""
    reached, taken_over, times = asyncio.Event(), asyncio.Event(), []

    async def hang(given, envelope, context):
        times.append(asyncio.get_running_loop().time())
        if len(times) == RUNS:
            reached.set()
        if not taken_over.is_set():
            await asyncio.sleep(60)
        return {}

    mesh.script = hang
    async with begin() as client:
        flow = await client.save("many", {"id": "a", "node": node})
        started = await asyncio.gather(*(client.start(flow) for _ in range(RUNS)))
        await asyncio.wait_for(reached.wait(), 30)
    taken_over.set()
    times.clear()
    async with begin() as client:
        await _until_all(client, started)
    _is_ramp(times, AGAIN)


async def test_a_walk_that_takes_turns_leaves_in_a_ramp_too(begin, mesh, monkeypatch):
    """Calls of one run, of which each turn after its takeover sends one."""
    monkeypatch.setattr(worker, "MAX_TURN", timedelta(seconds=-1))
    reached, taken_over, times = asyncio.Event(), asyncio.Event(), []

    async def hang(given, envelope, context):
        times.append(asyncio.get_running_loop().time())
        if len(times) == RUNS:
            reached.set()
        if not taken_over.is_set():
            await asyncio.sleep(60)
        return {}

    mesh.script = hang
    loop = {"in": f"{{{{ range({RUNS}) }}}}", "as": "it", "parallel": RUNS}
    async with begin() as client:
        flow = await client.save(
            "loop", {"id": "l", "foreach": loop, "steps": [{"id": "a", "node": "work.pure"}]}
        )
        started = await client.start(flow)
        await asyncio.wait_for(reached.wait(), 30)
    taken_over.set()
    times.clear()
    async with begin() as client:
        await client.until(started["id"], "SUCCEEDED", seconds=60)
    _is_ramp(times, AGAIN)


async def test_retries_that_are_due_leave_in_a_ramp(begin, mesh, session):
    """Their time came while nobody was there."""
    reached, times = asyncio.Event(), []

    async def fail_first(given, envelope, context):
        times.append(asyncio.get_running_loop().time())
        if len(times) == RUNS:
            reached.set()
        if envelope["x-reflux-attempt"] == "1":
            await reached.wait()
            await context.abort(grpc.StatusCode.INTERNAL, "ill")
        return {}

    mesh.script = fail_first
    retry = {"attempts": 2, "delay": "6s", "on": ["INTERNAL"], "jitter": "none"}
    async with begin() as client:
        flow = await client.save("many", {"id": "a", "node": "work.pure", "retry": retry})
        started = await asyncio.gather(*(client.start(flow) for _ in range(RUNS)))
        # Later than the time at which a run is looked for that was only just begun.
        later = "SELECT count(*) = %s FROM runs WHERE wake_at > created_at + interval '5500 milliseconds'"
        await _until_rows(session, later)
    await _until_rows(session, "SELECT count(*) = %s FROM runs WHERE wake_at < now()")
    times.clear()
    async with begin() as client:
        await _until_all(client, started)
    _is_ramp(times, PROBE)


async def _until_all(client, started):
    async with asyncio.timeout(60):
        while len((await client.runs.ListRuns(DONE)).runs) < len(started):
            await asyncio.sleep(0.2)


async def _until_rows(session, question):
    async with asyncio.timeout(30):
        while not (await (await session.execute(question, [RUNS])).fetchone())[0]:
            await asyncio.sleep(0.1)


def _is_ramp(times, first):
    assert len(times) >= RUNS
    came = _per_100_ms(times)
    for slot, so_far in enumerate(accumulate(came), start=1):
        assert so_far <= _ramp(slot / 10, first), came
