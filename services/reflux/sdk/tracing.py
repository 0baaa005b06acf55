"""The spans of a node version: one per call, and those its author opens within.

A call brings the `traceparent` of the try that reached this version. When that says sampled, the call gets a
server span below it, and `Context.span` opens spans below that; else every one of them is `NO_SPAN`, which
does nothing. Nobody here decides to sample.

Each span goes to the exporter when it ends, from whichever thread that is. A failure is told by its codes and
the name of its class, never by its message, which may quote an input.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from reflux.core.trace import SpanContext, parse_traceparent
from reflux.runtime.traces import Attributes, Resource, Span, SpanKind, Value
from reflux.sdk.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reflux.runtime.trace_export import Exporter
    from reflux.sdk.definition import NodeVersion

SERVICE: Final = "reflux-node"
_TRACEPARENT: Final = "traceparent"


class OpenSpan:
    """A span that has not ended. The base class is the span of a call that is not traced: it does nothing."""

    __slots__ = ()

    @property
    def traceparent(self) -> str:
        """What a call made within it sends on; empty when nothing is traced."""
        return ""

    def set(self, name: str, value: Value) -> None:
        """Give it an attribute; names as OpenTelemetry's conventions have them. Never a secret."""

    def fail(self, what: str, **attributes: Value) -> None:
        """Say that it failed, with a code or the name of an error; the first word stands."""


NO_SPAN: Final = OpenSpan()


class _Recorded(OpenSpan):
    """A span of a sampled call."""

    __slots__ = ("_attributes", "_error", "_kind", "_name", "_parent_id", "_start_ns", "call", "context")

    def __init__(
        self, call: CallSpans, parent: SpanContext, name: str, kind: SpanKind, attributes: Attributes
    ) -> None:
        self.call = call
        self.context = SpanContext(parent.trace_id, secrets.token_bytes(8))
        self._parent_id = parent.span_id
        self._name = name
        self._kind = kind
        self._attributes = dict(attributes)
        self._error: str | None = None
        self._start_ns = time.time_ns()

    @property
    def traceparent(self) -> str:
        return str(self.context)

    def set(self, name: str, value: Value) -> None:
        self._attributes[name] = value

    def fail(self, what: str, **attributes: Value) -> None:
        if self._error is None:
            self._error = what
            self._attributes.setdefault("error.type", what)
            self._attributes.update(attributes)

    def end(self) -> Span:
        return Span(
            self.context,
            self._name,
            self._kind,
            self._start_ns,
            time.time_ns(),
            parent_id=self._parent_id,
            attributes=self._attributes,
            error=self._error,
        )


_current: Final[ContextVar[_Recorded | None]] = ContextVar("reflux_span", default=None)


class CallSpans:
    """The spans of one call; made by `VersionSpans.call`."""

    __slots__ = ("_exporter", "_resource", "root")

    def __init__(self, exporter: Exporter, resource: Resource, parent: SpanContext, name: str) -> None:
        self._exporter = exporter
        self._resource = resource
        self.root = _Recorded(self, parent, name, SpanKind.SERVER, {})

    @property
    def innermost(self) -> _Recorded:
        """The span that is open here: in this task or thread, or else that of the call."""
        here = _current.get()
        return here if here is not None and here.call is self else self.root

    @contextmanager
    def span(self, name: str, kind: SpanKind, attributes: Attributes) -> Iterator[OpenSpan]:
        """A span below the innermost one, for as long as the body runs."""
        span = _Recorded(self, self.innermost.context, name, kind, attributes)
        with self.recording(span):
            yield span

    @contextmanager
    def recording(self, span: _Recorded) -> Iterator[None]:
        """Hand the span over after the body, with the error that left it."""
        token = _current.set(span)
        try:
            yield
        except BaseException as error:
            tell(span, error)
            raise
        finally:
            _current.reset(token)
            self._exporter.add(self._resource, span.end())


class VersionSpans:
    """Makes the spans of one node version; without an exporter none."""

    def __init__(self, exporter: Exporter | None, version: NodeVersion) -> None:
        self._exporter = exporter
        self._name = version.name
        node = {"service.version": version.version, "reflux.node": version.node}
        self._resource = Resource.of(SERVICE, {**node, "reflux.node.version": version.version})

    @contextmanager
    def call(self, metadata: Iterable[tuple[str, Any]] | None) -> Iterator[CallSpans | None]:
        """The spans of a call with this metadata, its own around the body; None when it is not traced."""
        spans = self._begin(metadata) if self._exporter is not None else None
        if spans is None:
            yield None
            return
        with spans.recording(spans.root):
            yield spans

    def _begin(self, metadata: Iterable[tuple[str, Any]] | None) -> CallSpans | None:
        text = next((value for key, value in metadata or () if key == _TRACEPARENT), None)
        parent = parse_traceparent(text) if isinstance(text, str) else None
        if parent is None or not parent.sampled or self._exporter is None:
            return None
        return CallSpans(self._exporter, self._resource, parent, self._name)


def tell(span: OpenSpan, error: BaseException) -> None:
    """Say in a span what went wrong, without the words of it."""
    if isinstance(error, Fault):
        code = error.code.name
        span.fail(f"{code} {error.reason}", **{"error.type": str(error.reason), "reflux.failure.code": code})
    else:
        span.fail(type(error).__name__)
