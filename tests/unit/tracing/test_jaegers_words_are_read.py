"""What Jaeger answers is OTLP's JSON; `tests.support.jaeger` reads it as a collector of ours takes spans."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.jaeger import spans_of
from tests.support.otlp import ReceivedSpan, _plain, _read


def _request() -> pb.ExportTraceServiceRequest:
    request = pb.ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "reflux-node"
    spans = of_resource.scope_spans.add().spans
    kinds = trace_pb2.Span
    root = spans.add(trace_id=b"t" * 16, span_id=b"r" * 8, name="run", kind=kinds.SPAN_KIND_INTERNAL)
    root.start_time_unix_nano, root.end_time_unix_nano = 1_790_000_000_000_000_001, 1_790_000_000_000_000_003
    child = spans.add(
        trace_id=b"t" * 16,
        span_id=b"c" * 8,
        parent_span_id=b"r" * 8,
        name="try",
        kind=trace_pb2.Span.SPAN_KIND_CLIENT,
    )
    child.start_time_unix_nano = child.end_time_unix_nano = 1_790_000_000_000_000_002
    child.attributes.add(key="reflux.tries").value.int_value = 2
    child.attributes.add(key="reflux.reason").value.string_value = "fallback"
    child.attributes.add(key="reflux.shadow").value.bool_value = True
    child.status.code, child.status.message = trace_pb2.Status.STATUS_CODE_ERROR, "UNAVAILABLE"
    return request


def _comparable(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """With ids by what they are below, since the two write them in other ways."""
    names = {span.span_id: span.name for span in spans}
    return [
        replace(span, trace_id="", span_id=span.name, parent_id=names.get(span.parent_id, ""))
        for span in spans
    ]


def test_both_ways_give_the_same_spans() -> None:
    """Names, kinds, times, attributes of every type, failures, and who is below whom."""
    request = _request()
    own = [
        _read(span, _plain(each.resource.attributes))
        for each in request.resource_spans
        for scope in each.scope_spans
        for span in scope.spans
    ]
    for numbers in (False, True):
        shown = MessageToDict(request, use_integers_for_enums=numbers)["resourceSpans"]
        assert _comparable(list(spans_of(shown))) == _comparable(own)
