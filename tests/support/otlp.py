"""A collector for tests and demos: takes OTLP over gRPC and keeps every span, as a tree that can be asked.

with running_receiver() as receiver:
    …  # with OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint
    tree = receiver.trace(run_id, until=lambda tree: tree.named("run walked"))
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services
from opentelemetry.proto.trace.v1 import trace_pb2

WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived; ids in hex, a root has an empty `parent_id`."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    """INTERNAL, SERVER or CLIENT."""
    service: str
    resource: dict[str, Any]
    attributes: dict[str, Any]
    failed: bool
    error: str
    start_ns: int
    end_ns: int
    events: tuple[tuple[str, dict[str, Any]], ...]
    links: tuple[tuple[str, str], ...]
    """(trace id, span id)"""


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans of one trace."""

    spans: tuple[ReceivedSpan, ...]

    def named(self, name: str) -> list[ReceivedSpan]:
        """Spans with this name, by their start."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)

    def one(self, name: str) -> ReceivedSpan:
        """The only span with this name."""
        [span] = self.named(name)
        return span

    def children(self, of: ReceivedSpan) -> list[ReceivedSpan]:
        """The spans right below, by their start."""
        below = (span for span in self.spans if span.parent_id == of.span_id)
        return sorted(below, key=lambda span: span.start_ns)

    @property
    def roots(self) -> list[ReceivedSpan]:
        """Spans without a parent, or with one that did not arrive: one of a whole trace."""
        known = {span.span_id for span in self.spans}
        return [span for span in self.spans if span.parent_id not in known]

    def lines(self) -> list[str]:
        """The trace as an indented list, for people."""

        def below(span: ReceivedSpan, depth: int) -> Iterator[str]:
            mark = f"  !{span.error or 'error'}" if span.failed else ""
            version = span.attributes.get("reflux.node.version", "")
            yield f"{'  ' * depth}{span.service}: {span.name} {version}".rstrip() + mark
            for child in self.children(span):
                yield from below(child, depth + 1)

        return [line for root in self.roots for line in below(root, 0)]


class Receiver(services.TraceServiceServicer):
    """Keeps what arrives. `hang` makes it take requests and never answer."""

    def __init__(self, *, hang: bool = False) -> None:
        self.spans: list[ReceivedSpan] = []
        self.headers: list[dict[str, Any]] = []
        """Metadata of each request."""
        self.requests = 0
        self.rejects = 0
        """How many spans of each request it says it did not take."""
        self.endpoint = ""
        self.released = threading.Event()
        self._arrived = threading.Condition()
        if not hang:
            self.released.set()

    def Export(self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext) -> Any:
        """One request of any sender."""
        with self._arrived:
            self.requests += 1
        self.released.wait()
        received = [
            _read(span, _plain(of_resource.resource.attributes))
            for of_resource in request.resource_spans
            for scope in of_resource.scope_spans
            for span in scope.spans
        ]
        with self._arrived:
            self.headers.append(dict(context.invocation_metadata()))
            self.spans += received
            self._arrived.notify_all()
        rejected = pb.ExportTracePartialSuccess(rejected_spans=self.rejects)
        return pb.ExportTraceServiceResponse(partial_success=rejected)

    def trace(self, run_id: str, until: Callable[[Trace], object], seconds: float = WAIT_SECONDS) -> Trace:
        """The trace of a run, once `until` holds of it."""
        deadline = time.monotonic() + seconds
        wanted = run_id.replace("-", "")
        while True:
            with self._arrived:
                trace = Trace(tuple(span for span in self.spans if span.trace_id == wanted))
                if until(trace):
                    return trace
                left = deadline - time.monotonic()
                assert left > 0, "it did not come; there is:\n" + "\n".join(trace.lines())
                self._arrived.wait(left)


@contextmanager
def running_receiver(
    *, port: int = 0, hang: bool = False, credentials: grpc.ServerCredentials | None = None
) -> Iterator[Receiver]:
    """A receiver on loopback; its `endpoint` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""
    receiver = Receiver(hang=hang)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    services.add_TraceServiceServicer_to_server(receiver, server)
    address = f"127.0.0.1:{port}"
    if credentials is None:
        receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port(address)}"
    else:
        receiver.endpoint = f"https://127.0.0.1:{server.add_secure_port(address, credentials)}"
    server.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.stop(0).wait()


@contextmanager
def deaf_collector() -> Iterator[str]:
    """The endpoint of a collector that is stopped: connections open, and nobody ever reads."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def nobody() -> str:
    """The endpoint of a collector that is not there: connections are refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def _read(span: trace_pb2.Span, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        service=str(resource.get("service.name")),
        resource=resource,
        attributes=_plain(span.attributes),
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        error=span.status.message,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        events=tuple((event.name, _plain(event.attributes)) for event in span.events),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value") or "string_value")
        for attribute in attributes
    }
