"""`reflux scale`: more processes of one version while runs go on, fewer without a run that fails."""

import json
import subprocess
import sys
import time

import pytest

from tests.e2e.stack.running import eventually
from tests.support.ledger import Ledger
from tests.support.stack import Stack

VERSION = "http.request@1.0.0"
PARTS = [f"node-{VERSION}", f"node-{VERSION}~2", f"node-{VERSION}~3"]
RUNS = 12


def reflux(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, on this stack."""
    command = [sys.executable, "-m", "reflux.cli", *arguments, "--data-dir", str(stack.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


def processes(stack: Stack) -> list[str]:
    """Parts of the version, in `run/stack.json`."""
    return [name for name in stack.state["parts"] if VERSION in name]


def start_runs(stack: Stack, ledger: Ledger) -> list[str]:
    """Runs whose only call, to this version, takes a while."""
    url = f"{ledger.url}/effect/scaled?delay=0.7&run={{{{ run.id }}}}"
    step = {"id": "call", "node": "http.request@1.0.0", "with": {"method": "POST", "url": url}}
    stack.rest(
        "PUT", "/api/flows/scaled?allow_missing=true", {"name": "scaled", "spec": {"steps": [step]}}
    ).ok()
    return [stack.rest.post("/api/flows/scaled/execute", {})["id"] for _ in range(RUNS)]


def finished(stack: Stack, runs: list[str]) -> None:
    """Every run has ended well, with one attempt: none of its calls failed on the way."""
    for run in runs:
        steps = eventually(lambda run=run: _done(stack, run), f"{run} has ended", 90)
        assert [len(step["attempts"]) for step in steps] == [1], steps


def _done(stack: Stack, run: str) -> list[dict[str, object]] | None:
    state = stack.rest.get(f"/api/runs/{run}")["state"]
    assert state in {"RUNNING", "SUCCEEDED", "QUEUED"}, stack.rest.get(f"/api/runs/{run}")
    return stack.rest.get(f"/api/runs/{run}/steps")["steps"] if state == "SUCCEEDED" else None


@pytest.mark.parametrize("stack", ["processes"], indirect=True)
def test_up_and_down_while_runs_go_on(stack: Stack, ledger: Ledger) -> None:
    """Three processes, all known to the mesh and shown by `status`; then one, and the calls in flight on the
    others are answered by them.
    """
    answer = reflux(stack, "scale", VERSION, "3", "--json")
    assert answer.returncode == 0, answer.stderr
    assert [each["name"] for each in json.loads(answer.stdout)["processes"]] == PARTS
    status = json.loads(reflux(stack, "status", "--json").stdout)
    assert {*PARTS} <= {part["name"] for part in status["stack"]["parts"]}
    (version,) = (
        each for each in status["api"]["versions"] if each["version"] == "1.0.0" and "http" in each["node"]
    )
    assert len(version["endpoints"]) == 3
    assert {f"metrics.{part}" for part in PARTS} <= set(status["stack"]["urls"])

    runs = start_runs(stack, ledger)
    time.sleep(0.3)
    down = reflux(stack, "scale", VERSION, "1")
    assert (down.returncode, down.stdout) == (0, f"{VERSION}: 1 of 1 processes ready\n"), down.stderr
    assert processes(stack) == PARTS[:1]
    finished(stack, runs)
    assert f"metrics.{PARTS[1]}" not in stack.state["urls"]


@pytest.mark.parametrize("stack", ["processes"], indirect=True)
def test_what_cannot_be_scaled_is_said(stack: Stack) -> None:
    """Before anything is changed."""
    for arguments, status, words in (
        (("http.request@9.9.9", "2"), 3, "serves no 'http.request@9.9.9'; there are: ai.chat@anthropic"),
        ((VERSION, "0"), 2, "0 is not a number of processes from 1 to 64"),
    ):
        answer = reflux(stack, "scale", *arguments)
        assert answer.returncode == status, answer
        assert words in answer.stderr


def test_one_process_for_all_is_not_scaled(stack: Stack) -> None:
    """The version has no process of its own; the way to give it one is named."""
    answer = reflux(stack, "scale", VERSION, "2")
    assert answer.returncode == 2
    assert "serves all versions in one process" in answer.stderr
    assert "reflux up --processes" in answer.stderr
