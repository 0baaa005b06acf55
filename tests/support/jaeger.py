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
        while True:
            found = list(self._spans(run_id.replace("-", "")))
            if len(found) >= spans:
                return list(_lines(found, "", 0))
            assert time.monotonic() < deadline, list(_lines(found, "", 0))
            time.sleep(0.25)

    def _spans(self, trace_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(service, span) as OTLP's JSON has them; none while Jaeger does not know the trace."""
        try:
            with urllib.request.urlopen(f"{self.query}/api/v3/traces/{trace_id}", timeout=10) as reply:
                resources = json.load(reply)["result"]["resourceSpans"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return
        for resource in resources:
            attributes = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    yield attributes["service.name"]["stringValue"], span


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


def _lines(spans: list[tuple[str, dict[str, Any]]], parent: str, depth: int) -> Iterator[str]:
    below = [each for each in spans if each[1].get("parentSpanId", "") == parent]
    for service, span in sorted(below, key=lambda each: int(each[1]["startTimeUnixNano"])):
        yield f"{'  ' * depth}{service}: {span['name']}"
        yield from _lines(spans, span["spanId"], depth + 1)
