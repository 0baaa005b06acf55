"""Spans as values, and their wire form: OpenTelemetry's protobuf, without its SDK.

A span here is what is handed over when it is over; who makes one knows its ids. Spans are encoded many at a
time by the exporter (`reflux.runtime.trace_export`). Measured on a span of eleven attributes: 25 µs of CPU to
make and encode one this way, 85 µs as `ReadableSpan` through the SDK's encoder.

No input, no output, no secret is ever put into a span: traces leave the platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    from reflux.core.trace import SpanContext

Value = str | bool | int | float
Attributes = Mapping[str, Value]

MAX_TEXT: Final = 1_024
"""Characters of a name or of a value; the rest is cut off."""
MAX_ITEMS: Final = 64
"""Attributes, events or links of one span; the rest is left out, and counted in the span."""

SCOPE: Final = "reflux"
"""Name of the instrumentation scope of every span of ours."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NONE: Final[Attributes] = {}
_SAMPLED: Final = 0x01
_INT64: Final = 1 << 63


class SpanKind(IntEnum):
    """Which end of a call a span is; the numbers are OTLP's."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class SpanEvent(NamedTuple):
    """A moment within a span."""

    name: str
    time_ns: int
    attributes: Attributes = _NONE


@dataclass(frozen=True, slots=True)
class Resource:
    """Whose spans they are."""

    attributes: tuple[tuple[str, Value], ...]
    """`service.name` among them."""

    @classmethod
    def of(cls, service: str, attributes: Attributes = _NONE) -> Resource:
        """The service of this name."""
        return cls((("service.name", service), *attributes.items()))


@dataclass(frozen=True, slots=True)
class Span:
    """One finished span of a sampled trace."""

    context: SpanContext
    name: str
    kind: SpanKind
    start_ns: int
    """Since 1970, UTC, as every time here."""
    end_ns: int
    parent_id: bytes = b""
    """8 bytes; empty for a root."""
    attributes: Attributes = field(default_factory=dict)
    error: str | None = None
    """What went wrong, as codes and reasons; None when nothing did."""
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanContext, ...] = ()


def nanoseconds(time: datetime) -> int:
    """`time` as OTLP writes it."""
    return (time - _EPOCH) // _MICROSECOND * 1_000


def encode(spans: Iterable[tuple[Resource, Span]]) -> bytes:
    """An export request of these spans.

    Requests may be joined as bytes: repeated fields of serialized messages follow each other.
    """
    request = ExportTraceServiceRequest()
    scopes: dict[Resource, trace_pb2.ScopeSpans] = {}
    for resource, span in spans:
        scope = scopes.get(resource)
        if scope is None:
            of_resource = request.resource_spans.add()
            for key, value in resource.attributes:
                _put(of_resource.resource.attributes.add(), key, value)
            scope = scopes[resource] = of_resource.scope_spans.add()
            scope.scope.name = SCOPE
        _encode(scope, span)
    return request.SerializeToString()


def _encode(scope: trace_pb2.ScopeSpans, span: Span) -> None:
    made = scope.spans.add(
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        parent_span_id=span.parent_id,
        flags=_SAMPLED,
        name=_cut(span.name),
        kind=span.kind.value,
        start_time_unix_nano=span.start_ns,
        # Clocks of two machines, or one that was set, must not make a span that no backend takes.
        end_time_unix_nano=max(span.start_ns, span.end_ns),
    )
    made.dropped_attributes_count = _put_all(made.attributes.add, span.attributes)
    if span.error is not None:
        made.status.code = trace_pb2.Status.STATUS_CODE_ERROR
        made.status.message = _cut(span.error)
    for event in span.events[:MAX_ITEMS]:
        moment = made.events.add(name=_cut(event.name), time_unix_nano=event.time_ns)
        _put_all(moment.attributes.add, event.attributes)
    made.dropped_events_count = max(0, len(span.events) - MAX_ITEMS)
    for link in span.links[:MAX_ITEMS]:
        made.links.add(trace_id=link.trace_id, span_id=link.span_id, flags=_SAMPLED if link.sampled else 0)


def _put_all(add: _Add, attributes: Attributes) -> int:
    """Write attributes; the number of those left out."""
    for index, (key, value) in enumerate(attributes.items()):
        if index == MAX_ITEMS:
            return len(attributes) - MAX_ITEMS
        _put(add(), key, value)
    return 0


def _put(into: KeyValue, key: str, value: object) -> None:
    into.key = _cut(key)
    match value:
        case str():
            into.value.string_value = _cut(value)
        case bool():
            into.value.bool_value = value
        case int() if -_INT64 <= value < _INT64:
            into.value.int_value = value
        case int():
            into.value.string_value = str(value)
        case float():
            into.value.double_value = value
        case _:
            # Authors of nodes are not all checked by mypy. Its text might say anything, its type is harmless.
            into.value.string_value = f"({type(value).__name__})"


def _cut(text: str) -> str:
    """`text`, short, and such as UTF-8 can say."""
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT]
    return text if text.isascii() else text.encode(errors="replace").decode()


if TYPE_CHECKING:
    from collections.abc import Callable

    _Add = Callable[[], KeyValue]
