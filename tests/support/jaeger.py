"""A real Jaeger v2 that keeps all in memory, where one is on PATH: takes OTLP, is asked by its query API."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflux.cli.stack.ports import free_ports

START_SECONDS = 30.0
TREE_SECONDS = 30.0


def jaeger_program() -> str | None:
    """Where it is; None when it is not installed."""
    return shutil.which("jaeger")


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A running Jaeger."""

    endpoint: str
    """What OTEL_EXPORTER_OTLP_ENDPOINT takes."""
    query: str

    def tree(self, run_id: str, *, spans: int) -> list[str]:
        """The trace of a run once it has so many spans, indented; siblings by their start."""
        deadline = time.monotonic() + TREE_SECONDS
        url = f"{self.query}/api/traces/{run_id.replace('-', '')}"
        while True:
            trace = _answer(url)
            if len(trace["spans"]) >= spans:
                return list(_lines(trace, None, 0))
            assert time.monotonic() < deadline, list(_lines(trace, None, 0))
            time.sleep(0.25)


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
        while not _is_up(f"{jaeger.query}/api/services"):
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


def _answer(url: str) -> dict[str, Any]:
    """The trace, empty while Jaeger does not know it."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)["data"][0]
            return found
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return {"spans": [], "processes": {}}


def _lines(trace: dict[str, Any], parent: str | None, depth: int) -> Iterator[str]:
    def parent_of(span: dict[str, Any]) -> str | None:
        below = (each for each in span["references"] if each["traceID"] == span["traceID"])
        return next((each["spanID"] for each in below if each["refType"] == "CHILD_OF"), None)

    spans = [span for span in trace["spans"] if parent_of(span) == parent]
    for span in sorted(spans, key=lambda span: span["startTime"]):
        service = trace["processes"][span["processID"]]["serviceName"]
        yield f"{'  ' * depth}{service}: {span['operationName']}"
        yield from _lines(trace, span["spanID"], depth + 1)
