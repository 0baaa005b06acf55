"""A call of a sampled run is a span below the try that brought it; the author's own spans are below that."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest

from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.core.trace import SpanContext, parse_traceparent
from reflux.runtime.collector import Collector, Endpoint
from reflux.runtime.trace_export import exporting
from reflux.sdk import Context, Model, NodeFault, SpanKind, TargetFault, node
from tests.support.otlp import running_receiver
from tests.unit.sdk.served import served

TIMEOUT = timedelta(seconds=5)
PARENT = SpanContext(b"\1" * 16, b"\2" * 8)
UNSAMPLED = PARENT._replace(sampled=False)


class Input(Model):
    fail: str = ""


class Output(Model):
    traceparents: list[str]


def raise_as_told(given: Input) -> None:
    match given.fail:
        case "node":
            raise NodeFault(grpc.StatusCode.UNAVAILABLE, "hush")
        case "target":
            raise TargetFault(grpc.StatusCode.NOT_FOUND, "hush", reason=Reason.TARGET_STATUS)
        case "defect":
            raise KeyError("hush")


@node("test.call", "1.0.0", effect=EffectClass.PURE, attempt_timeout=TIMEOUT)
async def call(given: Input, ctx: Context[None]) -> Output:
    """Opens spans within spans, two of them at once."""
    seen = [ctx.traceparent]

    async def ask(name: str) -> None:
        with ctx.span(name, kind=SpanKind.CLIENT, attributes={"server.address": name}) as span:
            await asyncio.sleep(0.01)
            span.set("answered", value=True)
            seen.append(ctx.traceparent)
            assert span.traceparent == ctx.traceparent

    with ctx.span("both"):
        await asyncio.gather(ask("left"), ask("right"))
        raise_as_told(given)
    seen.append(ctx.traceparent)
    return Output(traceparents=seen)


@node("test.thread", "1.0.0", effect=EffectClass.PURE, attempt_timeout=TIMEOUT, max_concurrency=1)
def blocking(given: Input, ctx: Context[None]) -> Output:
    """The same in a thread."""
    with ctx.span("work") as span:
        time.sleep(0.01)
        inner = ctx.traceparent
        assert inner == span.traceparent
        raise_as_told(given)
    return Output(traceparents=[ctx.traceparent, inner])


@asynccontextmanager
async def traced(version):
    """The version served with an exporter; yields its caller and the collector, whole afterwards."""
    with running_receiver() as receiver:
        async with (
            exporting(Collector(Endpoint.parse(receiver.endpoint))) as exporter,
            served(version, exporter=exporter) as caller,
        ):
            yield caller, receiver


ENVELOPE = {"run_id": "r", "step": "s", "attempt": "2", "effect": "pure"}


async def test_the_spans_of_a_call_hang_together():
    """Parallel ones side by side, inner ones below, and each says what a call within it must send on."""
    async with traced(call) as (caller, receiver):
        answer = await caller({}, traceparent=str(PARENT), **ENVELOPE)
    spans = {span.name: span for span in receiver.spans}
    server, both, left, right = (spans[name] for name in ("test.call@1.0.0", "both", "left", "right"))
    assert {span.trace_id for span in spans.values()} == {PARENT.trace_id.hex()}
    assert (server.kind, server.parent_id) == ("SERVER", PARENT.span_id.hex())
    assert (both.kind, both.parent_id) == ("INTERNAL", server.span_id)
    assert [span.parent_id for span in (left, right)] == [both.span_id] * 2
    assert (left.kind, left.attributes) == ("CLIENT", {"server.address": "left", "answered": True})
    outer, *inner, after = [parse_traceparent(text) for text in answer.output["traceparents"]]
    assert outer == after == SpanContext(PARENT.trace_id, bytes.fromhex(server.span_id))
    assert {context.span_id.hex() for context in inner} == {left.span_id, right.span_id}


async def test_a_call_says_whose_it_is():
    """The run, the step, the attempt, and the version as a service of its own."""
    async with traced(call) as (caller, receiver):
        await caller({}, traceparent=str(PARENT), **ENVELOPE)
    [server] = [span for span in receiver.spans if span.kind == "SERVER"]
    assert server.attributes == {
        "reflux.run.id": "r",
        "reflux.step": "s",
        "reflux.attempt": 2,
        "reflux.effect": "pure",
    }
    assert server.resource == {
        "service.name": "reflux-node",
        "service.version": "1.0.0",
        "reflux.node": "test.call",
        "reflux.node.version": "1.0.0",
    }


async def test_a_function_in_a_thread_has_spans_too():
    """And the thread, which is used again, keeps nothing of the call before."""
    async with traced(blocking) as (caller, receiver):
        failed = await caller({"fail": "node"}, traceparent=str(PARENT), **ENVELOPE)
        answer = await caller({}, traceparent=str(PARENT), **ENVELOPE)
    assert failed.code is grpc.StatusCode.UNAVAILABLE
    servers = [span for span in receiver.spans if span.kind == "SERVER"]
    works = [span for span in receiver.spans if span.name == "work"]
    assert [span.parent_id for span in works] == [span.span_id for span in servers]
    outer, inner = (parse_traceparent(text).span_id.hex() for text in answer.output["traceparents"])
    assert (outer, inner) == (servers[1].span_id, works[1].span_id)


@pytest.mark.parametrize(
    ("fail", "error", "reason"),
    [
        ("node", "UNAVAILABLE NODE_FAULT", "NODE_FAULT"),
        ("target", "NOT_FOUND TARGET_STATUS", "TARGET_STATUS"),
        ("defect", "KeyError", "KeyError"),
    ],
)
@pytest.mark.parametrize("version", [call, blocking], ids=["async", "thread"])
async def test_a_fault_is_told_by_its_codes(version, fail, error, reason):
    """In the span it left and in that of the call, and no word of its message."""
    async with traced(version) as (caller, receiver):
        await caller({"fail": fail}, traceparent=str(PARENT), **ENVELOPE)
    spans = {span.name: span for span in receiver.spans}
    inner = spans["both" if version is call else "work"]
    assert (inner.error, inner.attributes["error.type"]) == (error, reason)
    assert spans[version.name].failed
    if fail != "defect":
        assert spans[version.name].error == error
    assert "hush" not in repr(receiver.spans)


@pytest.mark.parametrize("body", [{"fail": 1}, {}], ids=["not accepted", "effect"])
async def test_a_call_that_is_refused_is_told_as_well(body):
    """Before the function runs there may be a span too: the reader sees why there is nothing below it."""
    async with traced(call) as (caller, receiver):
        answer = await caller(
            body, traceparent=str(PARENT), **({} if body else {"effect": "pure", "attempt": "x"})
        )
    [server] = receiver.spans
    assert (server.failed, server.error.split()[0]) == (True, answer.code.name)


@pytest.mark.parametrize(
    "traceparent", [None, "nonsense", str(UNSAMPLED)], ids=["none", "broken", "unsampled"]
)
async def test_what_is_not_sampled_is_not_told(traceparent):
    """Nobody but the orchestrator decides; there is nothing to send on either."""
    headers = {} if traceparent is None else {"traceparent": traceparent}
    async with traced(call) as (caller, receiver):
        answer = await caller({}, **headers, **ENVELOPE)
    assert receiver.requests == 0
    assert set(answer.output["traceparents"]) == {""}


async def test_without_a_collector_nothing_is_told():
    """The same function works, sampled or not."""
    async with served(call) as caller:
        answer = await caller({}, traceparent=str(PARENT), **ENVELOPE)
    assert set(answer.output["traceparents"]) == {""}
