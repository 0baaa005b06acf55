"""A real Jaeger v2 that keeps all in memory, where one is on PATH: takes OTLP, is asked by its query API."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.trace.v1 import trace_pb2

from reflux.cli.stack.ports import free_ports
from tests.support.otlp import ReceivedSpan, Trace

START_SECONDS = 30.0
TREE_SECONDS = 30.0
_KINDS = trace_pb2.Span.SpanKind


def jaeger_program() -> str | None:
    """Where it is; None when it is not installed."""
    return shutil.which("jaeger")


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A running Jaeger."""

    endpoint: str
    """What OTEL_EXPORTER_OTLP_ENDPOINT takes."""
    query: str

    def trace(self, run_id: str, until: Callable[[Trace], object]) -> Trace:
        """The trace of a run, once `until` holds of it."""
        deadline = time.monotonic() + TREE_SECONDS
        while True:
            found = Trace(tuple(self._spans(run_id.replace("-", ""))))
            if until(found):
                return found
            assert time.monotonic() < deadline, "\n".join(found.lines())
            time.sleep(0.25)

    def _spans(self, trace_id: str) -> Iterator[ReceivedSpan]:
        """What Jaeger has of a trace; nothing while it does not know it."""
        try:
            with urllib.request.urlopen(f"{self.query}/api/v3/traces/{trace_id}", timeout=10) as reply:
                resources = json.load(reply)["result"]["resourceSpans"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return
        yield from spans_of(resources)


@contextmanager
def running_jaeger(log: Path) -> Iterator[Jaeger]:
    """A Jaeger on free ports, everything in memory."""
    program = jaeger_program()
    assert program is not None
    otlp, query, grpc_port, health = free_ports(4)
    settings = log.with_suffix(".yaml")
    settings.write_text(json.dumps(_settings(otlp, query, grpc_port, health)))
    with log.open("wb") as sink:
        process = subprocess.Popen([program, "--config", str(settings)], stdout=sink, stderr=sink)
    jaeger = Jaeger(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{query}")
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_up(f"{jaeger.query}/api/v3/services"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield jaeger
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _settings(otlp: int, query: int, grpc_port: int, health: int) -> dict[str, Any]:
    """A configuration of Jaeger v2; JSON is YAML."""
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": {
            "healthcheckv2": {"use_v2": True, "http": {"endpoint": f"127.0.0.1:{health}"}},
            "jaeger_query": {
                "storage": {"traces": "kept"},
                "http": {"endpoint": f"127.0.0.1:{query}"},
                "grpc": {"endpoint": f"127.0.0.1:{grpc_port}"},
            },
            "jaeger_storage": {"backends": {"kept": {"memory": {"max_traces": 1000}}}},
        },
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{otlp}"}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "kept"}},
    }


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def spans_of(resources: Sequence[Mapping[str, Any]]) -> Iterator[ReceivedSpan]:
    """`resourceSpans` of OTLP's JSON as a collector of ours would have received them.

    Ids may be in any writing: they are compared with each other only. Enumerations come as names or numbers,
    whole numbers as text.
    """
    for of_resource in resources:
        resource = _plain(of_resource["resource"]["attributes"])
        for scope in of_resource["scopeSpans"]:
            for span in scope["spans"]:
                status = span.get("status", {})
                kind = span.get("kind", 0)
                yield ReceivedSpan(
                    trace_id=span["traceId"],
                    span_id=span["spanId"],
                    parent_id=span.get("parentSpanId", ""),
                    name=span["name"],
                    kind=_KINDS.Name(kind).removeprefix("SPAN_KIND_")
                    if isinstance(kind, int)
                    else kind.removeprefix("SPAN_KIND_"),
                    service=str(resource.get("service.name")),
                    resource=resource,
                    attributes=_plain(span.get("attributes", ())),
                    failed=status.get("code", 0) in (2, "STATUS_CODE_ERROR"),
                    error=status.get("message", ""),
                    start_ns=int(span["startTimeUnixNano"]),
                    end_ns=int(span["endTimeUnixNano"]),
                    events=(),
                    links=(),
                )


def _plain(attributes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for each in attributes:
        [(kind, value)] = each["value"].items()
        plain[each["key"]] = int(value) if kind == "intValue" else value
    return plain
