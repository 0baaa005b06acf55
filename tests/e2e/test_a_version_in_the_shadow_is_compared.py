"""A second version gets copies of real calls: the runs know nothing of it, and how it compares is told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.ill_node import VERSION as ILL
from tests.support.ill_node import ill_version
from tests.support.ledger import running_ledger
from tests.support.otlp import Receiver, Trace, running_receiver
from tests.support.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Stack

RUNS = 5
REAL, OTHER = "1.0.0", "2.0.0"


@dataclass(frozen=True, slots=True)
class Shown:
    """What is there when everything is over."""

    stack: Stack
    receiver: Receiver
    runs: list[dict[str, Any]]
    shadows: dict[str, dict[str, Any]]
    effects: int


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """Runs with a well version in the shadow of the real one, then as many with an ill one there."""
    folder = tmp_path_factory.mktemp("shadow") / "data"
    with (
        running_ledger() as ledger,
        running_receiver() as receiver,
        running_stack(folder, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}) as stack,
        ill_version(stack, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}),
    ):
        fetch = {"id": "fetch", "node": "http.request", "with": {"url": f"{ledger.url}/effect/seen"}}
        flow = {"name": "see", "spec": {"steps": [fetch]}}
        stack.rest("PUT", "/api/flows/see?allow_missing=true", flow).ok()
        runs = []
        for version in (OTHER, ILL):
            copied = {"version": version, "weight": 0, "shadow": 10_000}
            targets = [{"version": REAL, "weight": 10_000}, copied]
            stack.rest("PUT", "/api/routes/http.request", {"targets": targets}).ok()
            time.sleep(1)  # until the orchestrator knows that there is a shadow
            runs += [stack.rest("POST", "/api/flows/see/execute?wait=20s", {}).ok() for _ in range(RUNS)]
        yield Shown(stack, receiver, runs, heard(stack), len(ledger.entries()))


def heard(stack: Stack) -> dict[str, dict[str, Any]]:
    """The shadows, once every copy has been compared."""
    deadline = time.monotonic() + 20
    while True:
        listed = stack.rest.get("/api/nodes/http.request/shadows")["shadows"]
        kinds = ("equal", "different", "failed", "uncompared", "unheard")
        if sum(each[kind] for each in listed for kind in kinds) >= 2 * RUNS:
            return {each["version"]: each for each in listed}
        assert time.monotonic() < deadline, listed
        time.sleep(0.2)


def test_the_runs_know_nothing_of_it(shown: Shown) -> None:
    """They end as ever, answered by the real version at the first try, the shadow well or ill."""
    assert {run["state"] for run in shown.runs} == {"SUCCEEDED"}
    for run in shown.runs:
        [step] = shown.stack.rest.get(f"/api/runs/{run['id']}/steps")["steps"]
        [attempt] = step["attempts"]
        assert (attempt["chosen"], attempt["answered_by"], attempt["tries"]) == (REAL, REAL, 1)
        assert (attempt["reason"], attempt["probability"], attempt["tried_known"]) == ("weight", 1.0, True)


def test_every_copy_is_compared(shown: Shown) -> None:
    """Each of them was sent, and its output is equal, or different in places that have examples."""
    told = shown.shadows[OTHER]
    assert told["equal"] + told["different"] == RUNS
    assert (told["failed"], told["uncompared"], told["unheard"]) == (0, 0, 0)
    assert bool(told["different"]) == bool(told["differences"])
    known = {run["id"] for run in shown.runs}
    for place in told["differences"]:
        assert place["kind"] in ("missing", "added", "changed")
        assert {each["run_id"] for each in place["examples"]} <= known
    assert shown.effects == 3 * RUNS, "real ones twice, and those of the well shadow"


def test_a_shadow_that_fails_is_told(shown: Shown) -> None:
    """How often, and with what."""
    told = shown.shadows[ILL]
    assert (told["failed"], told["equal"], told["different"]) == (RUNS, 0, 0)
    [place] = told["differences"]
    assert (place["pointer"], place["kind"], place["count"]) == ("", "failed", RUNS)
    assert place["examples"][0]["shadowed"].startswith("UNAVAILABLE")


def test_a_copy_is_a_span_of_its_own(shown: Shown) -> None:
    """Below Envoy's span of the call: what the shadow did, marked, with its version; not among the tries."""
    run = shown.runs[0]

    def whole(trace: Trace) -> bool:
        return bool(trace.named(f"http.request@{OTHER}") and trace.named(f"http.request@{REAL}"))

    trace = shown.receiver.trace(run["id"], until=whole)
    server = trace.one("node http.request")
    mirror, real = trace.one("mirror"), trace.one(f"try http.request@{REAL}")
    assert {span.name for span in trace.children(server)} == {mirror.name, real.name}
    [copy], [answer] = trace.children(mirror), trace.children(real)
    assert (copy.name, copy.attributes["reflux.shadow"]) == (f"http.request@{OTHER}", True)
    assert (answer.name, answer.attributes.get("reflux.shadow")) == (f"http.request@{REAL}", None)
    assert copy.attributes["reflux.run.id"] == run["id"]
