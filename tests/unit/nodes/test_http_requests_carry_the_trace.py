"""Each request of `http.request` is a span, and its target is told of it."""

from contextlib import asynccontextmanager

import pytest

from reflux.core.trace import SpanContext
from reflux.nodes import load
from reflux.runtime.collector import Collector, Endpoint
from reflux.runtime.trace_export import exporting
from tests.support.otlp import running_receiver
from tests.unit.nodes.target import LOOPBACK, target
from tests.unit.sdk.served import served

PARENT = SpanContext(b"\1" * 16, b"\2" * 8)
OWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(params=["http.request@1.0.0", "http.request@2.0.0"])
def version(request):
    return load(request.param)


@asynccontextmanager
async def traced(version):
    """The version, a target, and a collector that is whole afterwards."""
    with running_receiver() as receiver:
        async with (
            exporting(Collector(Endpoint.parse(receiver.endpoint))) as exporter,
            target() as at,
            served(version, exporter=exporter, **LOOPBACK) as call,
        ):
            yield call, at, receiver


def clients(receiver):
    return sorted((span for span in receiver.spans if span.kind == "CLIENT"), key=lambda span: span.start_ns)


async def test_a_request_is_a_span_below_that_of_the_call(version):
    """By OpenTelemetry's conventions: method, address, status; of the URL neither query nor fragment."""
    async with traced(version) as (call, at, receiver):
        await call({"url": f"{at.url}/echo?token=hush"}, traceparent=str(PARENT), effect="pure")
    [server] = [span for span in receiver.spans if span.kind == "SERVER"]
    [request] = clients(receiver)
    host, _, port = at.url.removeprefix("http://").partition(":")
    assert (request.name, request.parent_id, request.failed) == ("GET", server.span_id, False)
    assert request.attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 200,
    }
    assert "hush" not in repr(receiver.spans)
    assert at.requests[0].headers["traceparent"] == f"00-{request.trace_id}-{request.span_id}-01"


async def test_each_redirect_is_a_span_of_its_own(version):
    """Side by side, counted, and each target hears of the request that it got."""
    async with traced(version) as (call, at, receiver):
        url = f"{at.url}/redirect?to={at.url}/echo"
        await call({"url": url}, traceparent=str(PARENT), effect="pure")
    first, second = clients(receiver)
    assert first.parent_id == second.parent_id
    assert [span.attributes["http.response.status_code"] for span in (first, second)] == [302, 200]
    assert [span.attributes.get("http.request.resend_count") for span in (first, second)] == [None, 1]
    told = [request.headers["traceparent"][36:52] for request in at.requests]
    assert told == [first.span_id, second.span_id]


async def test_a_trace_that_the_flow_sends_is_left_alone(version):
    """Its author knows better whose trace the target belongs to."""
    async with traced(version) as (call, at, _):
        given = {"url": f"{at.url}/echo", "headers": {"Traceparent": OWN}}
        await call(given, traceparent=str(PARENT), effect="pure")
    assert at.requests[0].headers.getall("traceparent") == [OWN]


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_status_from_400_fails_its_span(version, accepted):
    """Also where the step takes it as an answer: what the target did is the target's."""
    async with traced(version) as (call, at, receiver):
        given = {"url": f"{at.url}/status?code=503", "accept_status": [503] if accepted else []}
        await call(given, traceparent=str(PARENT), effect="pure")
    [request] = clients(receiver)
    assert (request.failed, request.attributes["error.type"]) == (True, "503")
    assert request.attributes["http.response.status_code"] == 503
    [server] = [span for span in receiver.spans if span.kind == "SERVER"]
    assert server.failed is not accepted


async def test_a_request_that_nobody_answers_is_a_failed_span(version):
    """There is no status, but a reason."""
    async with traced(version) as (call, _, receiver):
        given = {"url": "http://127.0.0.1:1/"}
        await call(given, traceparent=str(PARENT), effect="pure")
    [request] = clients(receiver)
    assert request.failed
    assert "http.response.status_code" not in request.attributes
    assert request.attributes["error.type"].startswith("TARGET_")


async def test_an_untraced_run_sends_nothing_on(version):
    """No header that a target could trip over, no span."""
    async with traced(version) as (call, at, receiver):
        await call({"url": f"{at.url}/echo"}, effect="pure")
    assert "traceparent" not in at.requests[0].headers
    assert receiver.requests == 0
