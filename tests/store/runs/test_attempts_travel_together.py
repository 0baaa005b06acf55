"""Pure attempts that are ready together share a call, and nothing else: each has its own outcome."""

import asyncio

import grpc
import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.core.trace import is_sampled
from reflux.runtime import rpc
from tests.support.otlp import running_receiver
from tests.support.scripted_mesh import answer

BATCH = {"node": "work.batch"}


def fan(count, *others):
    """A step that has `count` steps ready at once, and these others."""
    steps = [{"id": f"s{number}", **BATCH, "with": {"n": number}} for number in range(count)]
    branches = {f"b{number}": [step] for number, step in enumerate([*steps, *others])}
    return {"id": "fan", "parallel": {"branches": branches}}


def failed(place, code, owner, *, reason="NODE_FAULT"):
    """An item that failed, as the SDK tells it."""
    metadata = {"fault": owner, "outcome": "NO_EFFECT"}
    status = rpc.make_status(code, "not this one", reason=reason, metadata=metadata)
    result = pb.BatchResult(index=place)
    result.failure.CopyFrom(status)
    return pb.ExecuteBatchResponse(results=[result])


async def attempts(client, run):
    """What the journal says of the attempts, in order."""
    events = await client.all_events(run["id"])
    return [
        {"step": event["step"], **event["data"], **event["data"]["assignment"]}
        for event in events
        if event["kind"] == "AttemptFinished"
    ]


def place_of(request, step):
    return next(place for place, item in enumerate(request.items) if item.step == step)


async def test_what_is_ready_together_shares_a_call(begin, mesh):
    """One call for a fan-out, with the envelope of each attempt; the journal names the call they shared."""
    async with begin() as client:
        flow = await client.save("fan", fan(20))
        run = await client.start(flow, wait="20s")
        assert run["state"] == "SUCCEEDED"
        told = await attempts(client, run)
        shown = await client.steps(run["id"])
    (batch,) = mesh.batches
    assert {item.step for item in batch.items} == {f"s{number}" for number in range(20)}
    assert {item.run_id for item in batch.items} == {run["id"]}
    assert len({item.idempotency_key for item in batch.items}) == 20
    assert not mesh.calls
    assert len(told) == 20
    assert len({each["batch_id"] for each in told}) == 1 == len({each["draw"] for each in told})
    assert told[0]["batch_id"]
    assert shown["s7"]["output"] == {"n": 7}
    assert shown["s7"]["attempts"][0]["batch_id"] == told[0]["batch_id"]


async def test_what_is_ready_alone_travels_alone(begin, mesh):
    """By the unary call, at once, and without the id of a batch."""
    async with begin() as client:
        flow = await client.save("single", fan(1))
        run = await client.start(flow, wait="20s")
        (told,) = await attempts(client, run)
    assert not mesh.batches
    assert mesh.count("s0") == 1
    assert told["batch_id"] == ""


async def test_runs_share_calls_too(begin, mesh):
    """What several runs have ready at once travels together."""
    async with begin() as client:
        flow = await client.save("single", fan(1))
        await asyncio.gather(*(client.start(flow, wait="20s") for _ in range(40)))
    assert sum(len(batch.items) for batch in mesh.batches) + len(mesh.calls) == 40
    assert any(len({item.run_id for item in batch.items}) > 1 for batch in mesh.batches)


async def test_effects_travel_alone(begin, mesh):
    """However many are ready: each is journaled, claimed and answered by itself."""
    async with begin() as client:
        others = [{"id": f"once{number}", "node": "work.once"} for number in range(5)]
        flow = await client.save("once", fan(0, *others))
        await client.start(flow)
        async with asyncio.timeout(20):
            while len(mesh.calls) < 5:
                await asyncio.sleep(0.01)
    assert not mesh.batches


async def test_a_traced_run_travels_alone(begin, mesh):
    """Its attempts have calls, and so spans, of their own; those of other runs share theirs."""
    with running_receiver() as receiver:
        async with begin(otlp_endpoint=receiver.endpoint, trace_ratio=0.5) as client:
            flow = await client.save("fan", fan(3))
            runs = [(await client.start(flow, wait="20s"))["id"] for _ in range(16)]
    sampled = {run for run in runs if is_sampled(run, 0.5)}
    assert 0 < len(sampled) < len(runs)
    assert {call["x-reflux-run-id"] for call in mesh.calls} == sampled
    assert {item.run_id for batch in mesh.batches for item in batch.items} == set(runs) - sampled


async def test_a_node_fault_in_company_is_asked_again_alone(begin, mesh):
    """At once, and it costs the step nothing: who was to blame is known only when it is alone."""

    async def together(request, context):
        ill = place_of(request, "s1")
        yield answer(request, *(place for place in range(len(request.items)) if place != ill))
        yield failed(ill, grpc.StatusCode.UNAVAILABLE, "node")

    mesh.together = together
    async with begin() as client:
        flow = await client.save("fan", fan(3))
        run = await client.start(flow, wait="20s")
        assert run["state"] == "SUCCEEDED"
        told = [each for each in await attempts(client, run) if each["step"] == "s1"]
    assert [call["x-reflux-step"] for call in mesh.calls] == ["s1"]
    assert [each["state"] for each in told] == ["RETRYING", "SUCCEEDED"]
    first, second = told
    assert (first["outcome"], first["counted"]) == ("NO_EFFECT", False)
    assert first["batch_id"]
    assert second["batch_id"] == ""


async def test_a_target_fault_in_company_is_the_steps_own(begin, mesh):
    """It counts and fails the step, whose `retry` does not want it; the others go on."""

    async def together(request, context):
        ill = place_of(request, "s1")
        yield failed(ill, grpc.StatusCode.NOT_FOUND, "target", reason="TARGET_FAULT")
        yield answer(request, *(place for place in range(len(request.items)) if place != ill))

    mesh.together = together
    async with begin() as client:
        flow = await client.save("fan", fan(3))
        run = await client.start(flow, wait="20s")
        assert (run["state"], run["error"]["code"], run["error"]["step"]) == ("FAILED", "NOT_FOUND", "s1")
        told = [each for each in await attempts(client, run) if each["step"] == "s1"]
    assert not mesh.calls
    assert [(each["state"], each["counted"]) for each in told] == [("FAILED", True)]


@pytest.mark.parametrize("answered", [0, 2])
async def test_a_call_that_fails_or_breaks_off_costs_nobody_anything(begin, mesh, answered):
    """What was answered stays so; everybody else goes again, alone."""

    async def together(request, context):
        if answered:
            yield answer(request, *range(min(answered, len(request.items))))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    mesh.together = together
    async with begin() as client:
        flow = await client.save("fan", fan(8))
        run = await client.start(flow, wait="20s")
        assert run["state"] == "SUCCEEDED"
        told = await attempts(client, run)
    done = {item.step for batch in mesh.batches for item in batch.items[:answered]}  # nearly always one
    assert sorted(call["x-reflux-step"] for call in mesh.calls) == sorted(
        {f"s{number}" for number in range(8)} - done
    )
    assert len(told) == 8 + 8 - len(done)
    assert sum(not each["counted"] for each in told) == 8 - len(done)


async def test_a_slow_attempt_holds_nobody_up(begin, mesh):
    """What follows from the others happens meanwhile, and the slow one is shown to be in flight."""
    release = asyncio.Event()

    async def together(request, context):
        slow = place_of(request, "s0")
        yield answer(request, *(place for place in range(len(request.items)) if place != slow))
        await release.wait()
        yield answer(request, slow)

    mesh.together = together
    async with begin() as client, asyncio.timeout(30):
        first, after = {"id": "first", **BATCH}, {"id": "after", **BATCH}
        container = fan(2)
        container["parallel"]["branches"]["chain"] = [first, after]
        run = await client.start(await client.save("fan", container))
        while not mesh.count("after"):
            await asyncio.sleep(0.01)
        kinds: list[tuple[str, str]] = []
        while ("AttemptStarted", "s0") not in kinds:
            await asyncio.sleep(0.01)
            kinds = [(event["kind"], event["step"]) for event in await client.events(run["id"])]
        assert ("AttemptFinished", "s0") not in kinds
        release.set()
        assert (await client.until(run["id"], "SUCCEEDED"))["state"] == "SUCCEEDED"


async def test_every_attempt_has_the_time_of_its_own_step(begin, mesh):
    """The total time of one is over; the others of the same call have theirs, and the node is told."""
    release = asyncio.Event()

    async def together(request, context):
        await release.wait()
        yield answer(request, *range(len(request.items)))

    mesh.together = together
    async with begin() as client:
        short = {"id": "short", **BATCH, "timeout": {"total": "300ms"}, "on_error": "continue"}
        flow = await client.save("fan", fan(2, short))
        run = await client.start(flow)
        async with asyncio.timeout(20):
            while (await client.steps(run["id"]))["short"]["state"] != "FAILED":
                await asyncio.sleep(0.02)
        shown = await client.steps(run["id"])
        assert {shown[step]["state"] for step in ("s0", "s1")} == {"RUNNING"}
        assert shown["short"]["error"]["reason"] == "TIMEOUT"
        release.set()
        await client.until(run["id"], "SUCCEEDED")
    (batch,) = mesh.batches
    assert [item.HasField("timeout") for item in batch.items if item.step == "short"] == [True]


async def test_a_cancelled_run_leaves_its_company(begin, mesh):
    """Its attempts are forgotten at once; those of others are answered; a call that nobody waits for ends."""
    release, ended = asyncio.Event(), asyncio.Event()

    async def together(request, context):
        try:
            await release.wait()
            yield answer(request, *range(len(request.items)))
        except asyncio.CancelledError:
            ended.set()
            raise

    mesh.together = together
    async with begin() as client, asyncio.timeout(30):
        flow = await client.save("fan", fan(3))
        runs = [await client.start(flow) for _ in range(2)]
        while sum(len(batch.items) for batch in mesh.batches) < 6:
            await asyncio.sleep(0.01)
        await client.cancel(runs[0]["id"])
        await client.until(runs[0]["id"], "CANCELED")
        await ended.wait()
        release.set()
        await client.until(runs[1]["id"], "SUCCEEDED")
