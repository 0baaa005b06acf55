"""Spans reach the collector in bulk; whatever that does, who adds them never waits and never fails."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest

from reflux.core.trace import SpanContext
from reflux.runtime import trace_export, traces
from reflux.runtime.collector import Collector, Endpoint
from reflux.runtime.trace_export import exporting
from reflux.runtime.traces import Resource, Span, SpanEvent, SpanKind
from tests.support.otlp import deaf_collector, nobody, running_receiver

ONE = Resource.of("one", {"reflux.node": "n"})
TWO = Resource.of("two")


def span(number: int = 1, **fields) -> Span:
    context = SpanContext(b"\1" * 16, number.to_bytes(8))
    return Span(context, f"span {number}", SpanKind.CLIENT, 1_000, 2_000, **fields)


@asynccontextmanager
async def exporter_to(endpoint: str, **headers: str):
    collector = Collector(Endpoint.parse(endpoint), tuple(headers.items()))
    async with exporting(collector) as exporter:
        assert exporter is not None
        yield exporter


async def test_everything_of_a_span_arrives():
    """Ids, kind, times, attributes of every type, failure, moments, links, and whose it is."""
    values = {"text": "ü", "number": -3, "share": 0.5, "yes": True, "huge": 1 << 70}
    link = SpanContext(b"\2" * 16, b"\3" * 8)
    given = span(
        parent_id=b"\4" * 8,
        attributes=values,
        error="INTERNAL NODE_FAULT",
        events=(SpanEvent("retry", 1_500, {"after": 1.5}),),
        links=(link,),
    )
    with running_receiver() as receiver:
        async with exporter_to(receiver.endpoint, **{"x-key": "k"}) as exporter:
            exporter.add(ONE, given)
            exporter.add(TWO, span(2))
        [first, second] = receiver.spans
        [headers] = receiver.headers
    assert (first.trace_id, first.span_id, first.parent_id) == ("01" * 16, "00" * 7 + "01", "04" * 8)
    assert (first.name, first.kind, first.start_ns, first.end_ns) == ("span 1", "CLIENT", 1_000, 2_000)
    assert first.attributes == {**values, "huge": str(1 << 70)}
    assert (first.failed, first.error) == (True, "INTERNAL NODE_FAULT")
    assert (first.events, first.links) == ((("retry", {"after": 1.5}),), (("02" * 16, "03" * 8),))
    assert first.resource == {"service.name": "one", "reflux.node": "n"}
    assert (second.service, second.failed, second.parent_id) == ("two", False, "")
    assert headers["x-key"] == "k"
    assert (exporter.stats.exported, exporter.stats.dropped) == (2, 0)


async def test_spans_travel_in_bulk():
    """Thousands of spans are a few requests, each small enough for any collector."""
    with running_receiver() as receiver:
        async with exporter_to(receiver.endpoint) as exporter:
            for number in range(3_000):
                exporter.add(ONE, span(number + 1))
        assert {each.name for each in receiver.spans} == {f"span {number + 1}" for number in range(3_000)}
        assert receiver.requests == 3


async def test_what_is_too_long_is_cut_and_what_is_too_much_is_left_out():
    """A span has a bound, whatever its author puts in."""
    many = {f"a{number}": number for number in range(traces.MAX_ITEMS + 5)}
    with running_receiver() as receiver:
        async with exporter_to(receiver.endpoint) as exporter:
            exporter.add(
                ONE, span(attributes={"long": "x" * 5_000, "odd": "\ud800"}), span(2, attributes=many)
            )
        [first, second] = receiver.spans
    assert first.attributes == {"long": "x" * traces.MAX_TEXT, "odd": "?"}
    assert len(second.attributes) == traces.MAX_ITEMS


async def test_a_value_of_no_type_that_fits_is_told_by_its_type():
    """An author's slip neither fails a call nor leaks."""
    with running_receiver() as receiver:
        async with exporter_to(receiver.endpoint) as exporter:
            exporter.add(ONE, span(attributes={"none": None, "list": ["hush"], "fine": 1}))
        [received] = receiver.spans
    assert received.attributes == {"none": "(NoneType)", "list": "(list)", "fine": 1}


async def test_a_span_that_cannot_be_written_costs_no_other(monkeypatch):
    """Those that come later arrive, and what was lost is counted."""
    monkeypatch.setattr(trace_export, "SLICE_SPANS", 1)
    with running_receiver() as receiver:
        async with exporter_to(receiver.endpoint) as exporter:
            exporter.add(ONE, replace(span(1), start_ns=-1), span(2))
        assert [each.name for each in receiver.spans] == ["span 2"]
    assert (exporter.stats.exported, exporter.stats.dropped) == (1, 1)


@pytest.mark.parametrize("kind", ["refused", "deaf", "hanging"])
async def test_a_dead_collector_costs_only_spans(monkeypatch, caplog, kind):
    """Adding never waits, memory is bounded, the end is not held up, and the log says how many were lost."""
    monkeypatch.setattr(trace_export, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(trace_export, "DRAIN_SECONDS", 0.2)
    caplog.set_level(logging.WARNING)
    count = trace_export.CAPACITY + trace_export.BATCH_SPANS + 500
    with running_receiver(hang=True) as hanging, deaf_collector() as deaf:
        endpoint = {"refused": nobody(), "deaf": deaf, "hanging": hanging.endpoint}[kind]
        async with exporter_to(endpoint) as exporter:
            exporter.add(ONE, *(span(number + 1) for number in range(10)))
            await asyncio.sleep(0.1)
            for number in range(count):
                exporter.add(ONE, span(number + 1))
            assert len(exporter._queue) <= trace_export.CAPACITY
            await asyncio.sleep(0.05)
    assert (exporter.stats.exported, exporter.stats.dropped) == (0, count + 10)
    assert not exporter._queue
    lost = sum(record.reflux_fields["spans"] for record in caplog.records if record.msg == "spans_dropped")
    assert lost == count + 10


async def test_a_collector_that_comes_back_gets_what_was_kept(monkeypatch):
    """A restart of the collector is bridged: a request that was refused is sent again."""
    monkeypatch.setattr(trace_export, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(trace_export, "PAUSE_SECONDS", 1.0)
    endpoint = nobody()
    async with exporter_to(endpoint) as exporter:
        exporter.add(ONE, span())
        await asyncio.sleep(0.2)
        with running_receiver(port=Endpoint.parse(endpoint).port) as receiver:
            async with asyncio.timeout(20):
                while not receiver.spans:
                    await asyncio.sleep(0.05)
    assert (exporter.stats.exported, exporter.stats.dropped) == (1, 0)


async def test_what_a_collector_rejects_is_counted(monkeypatch):
    """It took the request and not all of its spans."""
    with running_receiver() as receiver:
        receiver.rejects = 3
        async with exporter_to(receiver.endpoint) as exporter:
            exporter.add(ONE, *(span(number + 1) for number in range(10)))
    assert (exporter.stats.exported, exporter.stats.dropped) == (7, 3)


async def test_spans_may_be_added_from_any_thread():
    """Functions of nodes run in threads."""
    with running_receiver() as receiver:
        async with exporter_to(receiver.endpoint) as exporter:
            adding = (asyncio.to_thread(exporter.add, ONE, span(number + 1)) for number in range(50))
            await asyncio.gather(*adding)
        assert len(receiver.spans) == 50


async def test_without_a_collector_there_is_no_exporter():
    """And nothing that could cost anything."""
    async with exporting(None) as exporter:
        assert exporter is None


async def test_a_collector_that_talks_nonsense_costs_what_it_was_told_and_no_more():
    """Its answer cannot be read; the next spans are sent all the same."""
    asked = []

    def answer(request: bytes, _) -> bytes:
        asked.append(request)
        return b"\xff\xff\xff"

    server = grpc.server(ThreadPoolExecutor(2))
    method = grpc.unary_unary_rpc_method_handler(answer)
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with exporter_to(f"http://127.0.0.1:{port}") as exporter:
        for number in (1, 2):
            exporter.add(ONE, span(number))
            async with asyncio.timeout(10):
                while len(asked) < number:
                    await asyncio.sleep(0.02)
    server.stop(None)
    assert (exporter.stats.exported, exporter.stats.dropped) == (0, 2)
