"""What an orchestrator tells of its runs: the sampled ones whole, the others not at all."""

import asyncio

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.core.trace import attempt_context, is_sampled, span_id
from tests.support.otlp import running_receiver

PURE = {"node": "work.pure"}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def receiver():
    with running_receiver() as receiver:
        yield receiver


async def test_exactly_the_sampled_runs_are_told(begin, mesh, receiver):
    """The run's id decides, for its spans and for what its attempts send on alike."""
    async with begin(otlp_endpoint=receiver.endpoint, trace_ratio=0.5) as client:
        flow = await client.save("shared", {"id": "a", **PURE})
        runs = [(await client.start(flow, wait="20s"))["id"] for _ in range(24)]
    sampled = {run for run in runs if is_sampled(run, 0.5)}
    assert 0 < len(sampled) < len(runs)
    assert {span.trace_id for span in receiver.spans} == {run.replace("-", "") for run in sampled}
    assert len(receiver.spans) == 3 * len(sampled)
    sent = {call["x-reflux-run-id"]: call.get("traceparent") for call in mesh.calls}
    assert sent == {run: str(attempt_context(run, "a", 1)) if run in sampled else None for run in runs}


async def test_a_run_that_outlives_its_orchestrator_is_one_trace(begin, mesh, receiver):
    """Each orchestrator tells what it committed: together that is everything, and everything once."""
    blocked = asyncio.Event()

    async def block_second(given, envelope, context):
        if envelope["x-reflux-step"] == "b" and not blocked.is_set():
            blocked.set()
            await asyncio.sleep(60)
        return {}

    mesh.script = block_second
    inner = {"id": "both", "parallel": {"branches": {"x": [{"id": "a", **PURE}]}}}
    async with begin(otlp_endpoint=receiver.endpoint) as client:
        flow = await client.save("outlives", inner, {"id": "b", **PURE, "needs": ["both"]})
        run = await client.start(flow)
        await blocked.wait()
    assert {span.name for span in receiver.spans} == {"step both", "step a", "attempt 1"}
    async with begin(otlp_endpoint=receiver.endpoint) as client:
        await client.until(run["id"], "SUCCEEDED")
    trace = receiver.trace(run["id"], until=lambda _: True)
    assert trace.roots == [trace.one("run outlives")]
    known = [("", 0), ("both", 0), ("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert sorted(span.span_id for span in trace.spans) == sorted(
        span_id(run["id"], step, attempt).hex() for step, attempt in known
    )


async def test_what_a_cancel_cut_off_is_told(begin, mesh, receiver):
    """The attempt that was in flight has sent its span on, so it must be there."""
    reached = asyncio.Event()

    async def hang(given, envelope, context):
        reached.set()
        await asyncio.sleep(60)

    mesh.script = hang
    async with begin(otlp_endpoint=receiver.endpoint) as client:
        flow = await client.save("cut", {"id": "a", **PURE}, {"id": "b", **PURE, "needs": ["a"]})
        run = await client.start(flow)
        await reached.wait()
        await client.cancel(run["id"])
        await client.until(run["id"], "CANCELED")
    trace = receiver.trace(run["id"], until=lambda _: True)
    [step] = trace.children(trace.one("run cut"))
    [attempt] = trace.children(step)
    assert len(trace.spans) == 3
    assert mesh.calls[0]["traceparent"].split("-")[2] == attempt.span_id
    assert attempt.attributes["reflux.canceled"] is True
    assert step.attributes["reflux.step.state"] == "CANCELED"


async def test_the_request_that_started_a_run_is_journaled(begin, mesh, receiver):
    """With tracing or without it: it is a fact of the run. One that is not valid counts as none."""
    body = HttpBody(content_type="application/json", data=b"{}")
    journaled = []
    async with begin() as client:
        flow = await client.save("linked", {"id": "a", **PURE})
        for text in (CALLER, CALLER[:-1], None):
            metadata = () if text is None else (("traceparent", text),)
            request = run_pb.ExecuteFlowRequest(flow_id=flow, input=body, wait="20s")
            answer = await client.runs.ExecuteFlow(request, timeout=30, metadata=metadata)
            [created, *_] = await client.events(orjson.loads(answer.data)["id"])
            journaled.append(created["data"]["traceparent"])
    assert journaled == [CALLER, "", ""]
    assert receiver.requests == 0
