"""A run is one trace: run → step → attempt → Envoy → each of its tries → node → the node's own request.

Who sends spans here are the real processes; who takes them is a collector of ours, and Jaeger where there is
one. The tree is checked id by id, so a span that hangs on the wrong one is seen.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reflux.core.trace import span_id
from tests.support.ill_node import VERSION as ILL
from tests.support.ill_node import ill_version
from tests.support.jaeger import jaeger_program, running_jaeger
from tests.support.ledger import Ledger, running_ledger
from tests.support.otlp import Receiver, Trace, deaf_collector, running_receiver
from tests.support.stack import Stack, running_stack

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""The span of somebody who starts a run."""
WELL = "2.0.0"


@contextmanager
def tracing_stack(folder: Path, endpoint: str, **settings: str) -> Iterator[tuple[Stack, dict[str, str]]]:
    """A stack that tells the collector at `endpoint`; with the environment that makes a node tell it too."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **settings}
    with running_stack(folder / "data", environment=environment) as stack:
        yield stack, environment


def execute(stack: Stack, flow: str, ledger: Ledger, *, headers: dict[str, str] | None = None) -> Any:
    """One run of a flow that fetches, in a branch, and then sets; the run as it ended."""
    fetch = {
        "id": "fetch",
        "node": "http.request",
        "with": {"url": f"{ledger.url}/effect/{flow}?token=secret"},
    }
    steps = [
        {"id": "both", "parallel": {"branches": {"only": [fetch]}}},
        {"id": "last", "set": {"done": True}},
    ]
    document = {"name": flow, "spec": {"steps": steps}}
    stack.rest("PUT", f"/api/flows/{flow}?allow_missing=true", document).ok()
    return stack.rest("POST", f"/api/flows/{flow}/execute?wait=20s", {}, headers=headers or {}).ok()


def whole(flow: str, tries: int):
    """Whether everything has arrived that a trace of `execute` must have."""

    def holds(trace: Trace) -> bool:
        sent = [span for span in trace.spans if span.service == "reflux-envoy" and span.kind == "CLIENT"]
        answered = all(trace.children(span) for span in sent)
        return bool(trace.named(f"run {flow}") and trace.named("GET")) and len(sent) == tries and answered

    return holds


def fall_back(stack: Stack) -> None:
    """From the ill version to the well one; `http.request@1.0.0` gets nothing."""
    targets = [{"version": ILL, "weight": 10_000, "fallback": [WELL]}, {"version": WELL, "weight": 0}]
    stack.rest("PUT", "/api/routes/http.request", {"targets": targets}).ok()


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    """The outside world."""
    with running_ledger() as ledger:
        yield ledger


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """The collector."""
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Stack]:
    """A stack with an ill version of `http.request`, from which calls fall back."""
    folder = tmp_path_factory.mktemp("traced")
    with (
        tracing_stack(folder, receiver.endpoint) as (stack, environment),
        ill_version(stack, environment),
    ):
        fall_back(stack)
        yield stack


@dataclass(frozen=True, slots=True)
class Told:
    """One run that fell back, and what was told of it."""

    run: dict[str, Any]
    trace: Trace


@pytest.fixture(scope="module")
def told(traced: Stack, receiver: Receiver, ledger: Ledger) -> Told:
    """The run most tests look at; the ill version would soon be ejected, and there would be no fallback."""
    run = execute(traced, "whole", ledger, headers={"traceparent": CALLER})
    assert run["state"] == "SUCCEEDED"
    return Told(run, receiver.trace(run["id"], until=whole("whole", tries=2)))


def test_every_span_hangs_on_the_one_that_caused_it(told: Told):
    """From the run to the outgoing request of the version that took over, with the try that failed."""
    trace = told.trace
    root = trace.one("run whole")
    [both, last] = trace.children(root)
    [fetch] = trace.children(both)
    [attempt] = trace.children(fetch)
    [server] = trace.children(attempt)
    [first, second] = trace.children(server)
    [ill] = trace.children(first)
    [well] = trace.children(second)
    [get] = trace.children(well)

    assert [each.name for each in (both, last, fetch, attempt)] == [
        "step both",
        "step last",
        "step fetch",
        "attempt 1",
    ]
    assert (server.name, server.kind, server.service) == ("node http.request", "SERVER", "reflux-envoy")
    assert [(each.name, each.kind, each.failed) for each in (first, second)] == [
        (f"try http.request@{ILL}", "CLIENT", True),
        (f"try http.request@{WELL}", "CLIENT", False),
    ]
    assert [each.attributes["reflux.node.version"] for each in (first, second)] == [ILL, WELL]
    assert [(each.name, each.kind, each.failed) for each in (ill, well)] == [
        (f"http.request@{ILL}", "SERVER", True),
        (f"http.request@{WELL}", "SERVER", False),
    ]
    assert (get.name, get.kind, get.attributes["http.response.status_code"]) == ("GET", "CLIENT", 200)
    assert trace.children(ill) == trace.children(get) == trace.children(last) == []
    # Nothing else arrived, and nothing hangs on what did not.
    assert len(trace.spans) == 11
    assert trace.roots == [root]
    assert root.parent_id == ""


def test_the_ids_are_those_of_the_run(told: Told):
    """Who has a run's id has its trace, and the span of each step and attempt."""
    run_id = told.run["id"]

    assert told.trace.one("run whole").trace_id == run_id.replace("-", "")
    assert told.trace.one("run whole").span_id == span_id(run_id).hex()
    assert told.trace.one("step fetch").span_id == span_id(run_id, "fetch").hex()
    assert told.trace.one("attempt 1").span_id == span_id(run_id, "fetch", 1).hex()


def test_a_span_says_what_the_journal_says(told: Told, traced: Stack):
    """Chosen, answered by, weight, revision, draw, reason, tries: the same in both."""
    steps = traced.rest.get(f"/api/runs/{told.run['id']}/steps")["steps"]
    [journaled] = next(step for step in steps if step["id"] == "fetch")["attempts"]
    attributes = told.trace.one("attempt 1").attributes

    for name in ("chosen", "answered_by", "weight", "revision", "draw", "reason", "tries", "outcome"):
        assert attributes[f"reflux.{name}"] == journaled[name], name
    assert (attributes["reflux.chosen"], attributes["reflux.answered_by"]) == (ILL, WELL)
    assert (attributes["reflux.reason"], attributes["reflux.tries"]) == ("fallback", 2)
    assert attributes["reflux.effect"] == "pure"
    assert told.trace.one("run whole").attributes["reflux.flow.version"] == 1


def test_every_try_that_the_run_shows_is_a_span(told: Told, traced: Stack):
    """Which versions were tried, in which order, and which of them failed: the same in both."""
    deadline = time.monotonic() + 20
    while True:
        steps = traced.rest.get(f"/api/runs/{told.run['id']}/steps")["steps"]
        [attempt] = next(step for step in steps if step["id"] == "fetch")["attempts"]
        if attempt["tried_known"]:
            break
        assert time.monotonic() < deadline, attempt
        time.sleep(0.1)
    spans = told.trace.children(told.trace.one("node http.request"))

    assert [(each["version"], each["code"]) for each in attempt["tried"]] == [
        (ILL, "UNAVAILABLE"),
        (WELL, "OK"),
    ]
    assert [(each.attributes["reflux.node.version"], each.failed) for each in spans] == [
        (each["version"], each["code"] != "OK") for each in attempt["tried"]
    ]
    assert spans[0].attributes["grpc.status_code"] == "14"


def test_every_span_says_which_run_it_belongs_to(told: Told):
    """Envoy's and the node's too, so that a run's spans are found by its id in any backend."""
    for span in told.trace.spans:
        if span.name != "GET":
            assert span.attributes["reflux.run.id"] == told.run["id"], span.name


def test_the_target_hears_of_the_span_that_called_it(told: Told, ledger: Ledger):
    """`traceparent` of the outgoing request is the request's own span: the trace can go on out there."""
    [heard] = [entry["traceparent"] for entry in ledger.entries() if entry["name"] == "whole"]
    get = told.trace.one("GET")

    assert heard == f"00-{get.trace_id}-{get.span_id}-01"


def test_whoever_starts_a_run_is_linked_to_it(told: Told, traced: Stack, receiver: Receiver, ledger: Ledger):
    """A caller's span is a link of the run's span, through the edge; the run keeps a trace of its own."""
    other = execute(traced, "unlinked", ledger, headers={"traceparent": CALLER[:-1]})
    trace = receiver.trace(other["id"], until=whole("unlinked", tries=2))

    assert told.trace.one("run whole").links == ((CALLER[3:35], CALLER[36:52]),)
    assert told.trace.one("run whole").parent_id == ""
    assert trace.one("run unlinked").links == (), "one that is not valid counts as none"


def test_no_span_tells_what_went_through_the_run(told: Told, ledger: Ledger):
    """Neither a path nor a query, nor what the target said, is anywhere in the trace."""
    assert "/effect/whole" not in repr(told.trace.one("GET").attributes)
    assert "secret" not in repr(told.trace.spans)


def test_a_dead_collector_harms_no_run(tmp_path: Path, ledger: Ledger):
    """Nobody reads what it is told: runs start, call and end as ever, and so does the stack.

    `unit/tracing/test_exporting_harms_nobody.py` knows more ways to be dead.
    """
    with deaf_collector() as deaf, tracing_stack(tmp_path, deaf) as (stack, _):
        runs = [execute(stack, "dead", ledger) for _ in range(5)]

    assert {run["state"] for run in runs} == {"SUCCEEDED"}
    # Both tried, and neither had anything to wait for when it was stopped.
    assert "spans_dropped" in stack.log("orchestrator")
    assert "spans_dropped" in stack.log("nodes")


def test_runs_that_are_not_sampled_tell_nothing(tmp_path: Path, receiver: Receiver, ledger: Ledger):
    """At a ratio of nearly 0 everything is set up to trace, Envoy included, and no process says a word.

    Not even when the caller's own trace is sampled. (At 0 nothing is set up: see `Collector.of`.)
    """
    before = receiver.requests
    with tracing_stack(tmp_path, receiver.endpoint, REFLUX_TRACE_RATIO="1e-12") as (stack, _):
        run = execute(stack, "untold", ledger, headers={"traceparent": CALLER})

    assert run["state"] == "SUCCEEDED"
    assert receiver.requests == before


@pytest.mark.skipif(jaeger_program() is None, reason="there is no jaeger on PATH")
def test_jaeger_shows_the_same_tree(tmp_path: Path, ledger: Ledger):
    """Asked by the run's id, Jaeger answers with every span, each below the one that caused it."""
    with (
        running_jaeger(tmp_path / "jaeger.log") as jaeger,
        tracing_stack(tmp_path, jaeger.endpoint) as (stack, environment),
        ill_version(stack, environment),
    ):
        fall_back(stack)
        run = execute(stack, "shown", ledger)
        tree = jaeger.tree(run["id"], spans=11)

    assert tree == [
        "reflux-orchestrator: run shown",
        "  reflux-orchestrator: step both",
        "    reflux-orchestrator: step fetch",
        "      reflux-orchestrator: attempt 1",
        "        reflux-envoy: node http.request",
        f"          reflux-envoy: try http.request@{ILL}",
        f"            reflux-node: http.request@{ILL}",
        f"          reflux-envoy: try http.request@{WELL}",
        f"            reflux-node: http.request@{WELL}",
        "              reflux-node: GET",
        "  reflux-orchestrator: step last",
    ]
