"""The command line as people and scripts use it: the program itself, over a whole stack."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger import Ledger
from tests.support.stack import Stack

# A client does not see how the nodes are run; one kind of stack is enough.

SHIPPED = ("ai.", "http.", "payment.", "transform.")
"""Nodes that come with a stack begin so."""
FLOW = """\
name: from-the-shell
description: Fetches, and greets whoever is in its input.
spec:
  steps:
    - id: fetch
      node: http.request
      with: {url: "URL"}
    - id: done
      return: {text: "Hello {{ input.name }}", status: "{{ steps.fetch.output.status }}"}
"""
SLOW = """\
name: slow-from-the-shell
spec:
  steps:
    - id: slow
      node: http.request
      timeout: {attempt: 60s}
      with: {url: "URL"}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document of `--json`."""
        return json.loads(self.stdout)


Reflux = Callable[..., Ended]


@pytest.fixture
def reflux(stack: Stack, tmp_path: Path) -> Reflux:
    """`reflux …` in a shell of its own, told of the stack by its data folder alone."""

    def run(*arguments: str, given: str = "", status: int | None = 0) -> Ended:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLUX_")}
        ended = subprocess.run(
            [sys.executable, "-m", "reflux.cli", *arguments],
            env={**environment, "REFLUX_DATA_DIR": str(stack.data)},
            cwd=tmp_path,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        answer = Ended(ended.returncode, ended.stdout, ended.stderr)
        assert status in (None, answer.status), answer
        return answer

    return run


@pytest.fixture
def flow(reflux: Reflux, ledger: Ledger, tmp_path: Path) -> str:
    """A flow that was applied from a file."""
    (tmp_path / "flow.yaml").write_text(FLOW.replace("URL", f"{ledger.url}/effect/shell"))
    reflux("flow", "apply", "flow.yaml")
    return "from-the-shell"


def test_a_flow_goes_from_a_file_to_its_output(reflux: Reflux, flow: str):
    """Apply, plan, run, wait: the output is on stdout, and why it came about can be asked."""
    again = reflux("flow", "apply", "flow.yaml")
    planned = reflux("flow", "plan", flow, "--json").json
    output = reflux("flow", "run", flow, "--input", '{"name": "Ada"}', "--wait", "60s").json
    [run] = reflux("run", "list", "--flow", flow, "--limit", "1", "--json").json["runs"]
    why = reflux("run", "why", run["id"], "fetch").stdout

    assert again.stdout.startswith(f"flow {flow} unchanged, version ")
    assert planned["valid"]
    assert [step["node"] for step in planned["steps"]] == ["http.request"]
    assert output["text"] == "Hello Ada"
    assert run["state"] == "SUCCEEDED"
    assert "of the route of http.request gives" in why
    assert "answered at the first try" in why


def test_a_run_is_followed_to_its_end(reflux: Reflux, flow: str):
    """Each event once, in order, and the exit status of the run; the id alone can be kept in a variable."""
    started = reflux("flow", "run", flow, "--input", "{name: Ada}", given="", status=2)
    run_id = reflux("flow", "run", flow, "--input", "-", given="name: Ada\n").stdout.strip()
    watched = reflux("run", "watch", run_id, "--json").stdout.splitlines()
    shown = reflux("run", "get", run_id, "--json").json

    assert "is not JSON" in started.stderr
    events = [json.loads(line) for line in watched]
    assert [event["seq"] for event in events] == [*range(1, len(events) + 1)]
    assert events[-1]["kind"] == "RunFinished"
    assert shown["input"] == {"name": "Ada"}
    assert [step["state"] for step in shown["steps"]] == ["SUCCEEDED", "SUCCEEDED"]


def test_a_failed_run_fails_the_script(reflux: Reflux):
    """Waited for or watched: 1, and the reason on stderr."""
    document = {"name": "fails", "spec": {"steps": [{"id": "no", "fail": {"message": "not today"}}]}}
    reflux("flow", "apply", "-", given=json.dumps(document))
    waited = reflux("flow", "run", "fails", "--wait", "60s", status=1)
    followed = reflux("flow", "run", "fails", "--follow", status=1)

    assert "step no: FAIL_STEP: not today" in waited.stderr
    assert "run FAILED: FAIL_STEP: not today" in followed.stdout


def test_a_slow_run_says_why_it_waits_and_is_cancelled(reflux: Reflux, ledger: Ledger):
    """7 when the wait is over first; the same request id gives the same run; a cancel ends it."""
    reflux("flow", "apply", "-", given=SLOW.replace("URL", f"{ledger.url}/effect/slow?delay=40"))
    start = ("flow", "run", "slow-from-the-shell", "--request-id", f"shell-{os.getpid()}-{ledger.url[-5:]}")
    started = reflux(*start, "--wait", "1s", status=7)
    run_id = started.stdout.strip()
    why = reflux("run", "why", run_id).stdout
    cancelled = reflux("run", "cancel", run_id, "--reason", "enough", status=None)
    watched = reflux("run", "watch", run_id, status=1)

    assert reflux(*start).stdout.strip() == run_id
    assert "It waits: attempt 1 is in flight" in why
    assert cancelled.status in (0, 7)
    assert "cancel asked for by anonymous: enough" in watched.stdout
    assert "run CANCELED" in watched.stdout


def test_versions_are_compared_and_taken_back(reflux: Reflux, flow: str, tmp_path: Path):
    """A change is seen before it is applied, and in the history after."""
    first = reflux("flow", "get", flow, "--json").json["version"]
    changed = (tmp_path / "flow.yaml").read_text().replace("Hello {{", "Good day {{")
    (tmp_path / "changed.yaml").write_text(changed)
    seen = reflux("flow", "diff", flow, "changed.yaml", status=1).stdout
    reflux("flow", "apply", "changed.yaml")
    reflux("flow", "diff", flow, "changed.yaml")
    back = reflux("flow", "rollback", flow, str(first)).stdout

    assert "-      text: Hello {{ input.name }}" in seen
    assert "+      text: Good day {{ input.name }}" in seen
    assert back == f"flow {flow} is at version {first + 2}, which equals version {first}\n"
    reflux("flow", "diff", flow, str(first), str(first + 2))


def test_a_route_is_changed_by_shares(reflux: Reflux):
    """What is not named stays as it was; a stale document overwrites nothing."""
    before = reflux("route", "get", "http.request", "--yaml").stdout
    former = reflux("route", "get", "http.request", "--json").json["targets"]
    [kept] = [target["fallback"] for target in former if target["version"] == "1.0.0"]
    try:
        changed = reflux(
            "route",
            "set",
            "http.request",
            "1.0.0=90",
            "2.0.0=10",
            "--fallback",
            "2.0.0:1.0.0",
            "--note",
            "from the shell",
            "--json",
        ).json
        stale = reflux("route", "set", "http.request", "-", given=before, status=4)
        shares = {
            version["version"]: version["target"]["weight"]
            for version in reflux("node", "get", "http.request", "--json").json["versions"]
        }
    finally:
        reflux("route", "rollback", "http.request")

    assert changed["state"] == "APPLIED"
    assert [(t["version"], t["weight"], t["fallback"]) for t in changed["targets"]] == [
        ("1.0.0", 9000, kept),
        ("2.0.0", 1000, ["1.0.0"]),
    ]
    assert "REVISION_STALE" in stale.stderr
    assert shares == {"1.0.0": 9000, "2.0.0": 1000}


def test_the_status_shows_the_stack(reflux: Reflux, stack: Stack):
    """Parts with their processes, URLs, versions and runs; 5 and the reason where nothing is."""
    ended = reflux("status", "--json", status=None)
    shown = ended.json
    nobody = reflux("status", "--server", "127.0.0.1:1", status=5)

    assert shown["server"] == stack.edge
    # Nodes that other tests have served for a while are gone; that is trouble, and rightly said.
    gone = [each for each in shown["trouble"] if "no live endpoint" in each and not each.startswith(SHIPPED)]
    assert [trouble for trouble in shown["trouble"] if trouble not in gone] == []
    assert ended.status == (1 if shown["trouble"] else 0)
    assert {part["name"]: part["pid"] for part in shown["stack"]["parts"]} == {
        name: part["pid"] for name, part in stack.state["parts"].items()
    }
    assert all(part["uptime_seconds"] >= 0 for part in shown["stack"]["parts"])
    assert ("http.request", "2.0.0", "LIVE") in {
        (each["node"], each["version"], each["state"]) for each in shown["api"]["versions"]
    }
    assert "nothing answers at 127.0.0.1:1" in nobody.stderr


def test_a_route_is_taken_back(reflux: Reflux):
    """What changed is told, going back is one command, and the history says so."""
    reflux("route", "set", "http.request", "1.0.0=80", "2.0.0=20")
    assert "2.0.0" in reflux("route", "diff", "http.request", status=1).stdout
    assert "is APPLIED" in reflux("route", "rollback", "http.request").stdout
    newest, former, *_ = reflux("route", "history", "http.request", "--json").json["revisions"]
    assert newest["state"] == "APPLIED"
    assert newest["targets"] != former["targets"]


def test_triggers_are_shown(reflux: Reflux, tmp_path: Path):
    """Those of a flow, where they listen and how senders prove who they are."""
    hook = {"id": "hook", "type": "webhook", "path": "from-the-shell", "respond": "run"}
    spec = {"triggers": [hook], "steps": [{"id": "a", "set": {"n": 1}}]}
    (tmp_path / "hooked.json").write_text(json.dumps({"name": "hooked-from-the-shell", "spec": spec}))
    reflux("flow", "apply", "hooked.json")
    assert "/hooks/from-the-shell" in reflux("trigger", "list").stdout
    shown = reflux("trigger", "get", "hooked-from-the-shell", "hook", "--json").json
    assert (shown["type"], shown["method"], shown["auth"]) == ("WEBHOOK", "POST", "none")


def test_what_is_not_there_is_3(reflux: Reflux):
    """Said by each of the services that the edge leads to, and by a stream."""
    reflux("flow", "get", "nobody", status=3)
    reflux("run", "watch", "00000000-0000-7000-8000-000000000000", status=3)
    reflux("node", "get", "no.such", status=3)
    reflux("route", "get", "no.such", status=3)
