"""A user tests how a flow behaves when a provider fails: faults of a test run, through the whole stack."""

import os
import subprocess
import sys
from typing import Any
from urllib.parse import quote

from tests.e2e.stack.running import eventually
from tests.support.ledger import Ledger
from tests.support.rest import Rest
from tests.support.stack import Stack

NODE = "http.request"
# Where nodes run makes no difference to the mesh.


def reflux(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`reflux …`, told of the stack by its data folder alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLUX_")}
    return subprocess.run(
        [sys.executable, "-m", "reflux.cli", *arguments],
        env={**environment, "REFLUX_DATA_DIR": str(stack.data)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def heard(ledger: Ledger, name: str) -> int:
    """How often the outside world was asked for `name`."""
    return sum(entry["name"] == name for entry in ledger.entries())


def save(rest: Rest, name: str, ledger: Ledger) -> None:
    """A flow with one pure call; 1.0.0 gets all of them and falls back to 2.0.0."""
    step = {"id": "get", "node": NODE, "with": {"url": f"{ledger.url}/effect/{name}"}}
    rest("PUT", f"/api/flows/{name}?allow_missing=true", {"name": name, "spec": {"steps": [step]}}).ok()
    targets = [
        {"version": "1.0.0", "weight": 10_000, "fallback": ["2.0.0"]},
        {"version": "2.0.0", "weight": 0},
    ]
    rest("PUT", f"/api/routes/{NODE}", {"targets": targets}).ok()


def whole_attempt(rest: Rest, run_id: str) -> dict[str, Any]:
    """The only attempt of the first step, once all of its tries are known."""

    def whole() -> dict[str, Any] | None:
        [attempt] = rest.get(f"/api/runs/{run_id}/steps")["steps"][0]["attempts"]
        return attempt if attempt["tried_known"] else None

    return eventually(whole, "its tries are known", 10)


def test_one_version_fails_and_another_answers(rest: Rest, stack: Stack, ledger: Ledger):
    """The run is marked, its attempt says which fault it was given, and other runs meet nothing."""
    save(rest, "tried", ledger)
    rule = "step=get,version=1.0.0,abort=UNAVAILABLE"
    run = rest.post(f"/api/flows/tried/execute?wait=20s&test=true&seed=s&faults={quote(rule)}")
    other = rest.post("/api/flows/tried/execute?wait=20s")
    attempt = whole_attempt(rest, run["id"])
    [plain] = rest.get(f"/api/runs/{other['id']}/steps")["steps"][0]["attempts"]

    assert (run["state"], run["test"], run["faults"], run["seed"]) == ("SUCCEEDED", True, [rule], "s")
    assert (attempt["chosen"], attempt["answered_by"], attempt["reason"]) == ("1.0.0", "2.0.0", "fallback")
    assert attempt["faults"] == [rule]
    assert [(each["version"], each["code"]) for each in attempt["tried"]] == [
        ("1.0.0", "UNAVAILABLE"),
        ("2.0.0", "OK"),
    ]
    assert (other["test"], other["faults"]) == (False, [])
    assert (plain["answered_by"], plain["tries"], plain["faults"]) == ("1.0.0", 1, [])
    why = reflux(stack, "run", "why", run["id"], "get").stdout
    assert f"Fault injected: {rule}" in " ".join(why.split())


def test_the_command_line_starts_test_runs(rest: Rest, stack: Stack, ledger: Ledger):
    """`--fault` makes a test run; a lost reply was acted on; a retry is a test without the faults."""
    save(rest, "lost", ledger)
    step = {
        "id": "get",
        "node": f"{NODE}@1.0.0",
        "with": {"url": f"{ledger.url}/effect/lost"},
        "retry": {"attempts": 1},
    }
    rest("PUT", "/api/flows/lost", {"name": "lost", "spec": {"steps": [step]}}).ok()
    before = heard(ledger, "lost")
    rule = "step=get,version=1.0.0,drop=reply"
    ended = reflux(stack, "flow", "run", "lost", "--fault", rule, "--wait", "20s")
    run = rest.get("/api/runs?flow_id=lost")["runs"][0]
    again = rest.post(f"/api/runs/{run['id']}:retry")["run"]

    assert ended.returncode == 1
    assert rest.get(f"/api/runs/{run['id']}")["error"]["code"] == "UNAVAILABLE"
    assert heard(ledger, "lost") > before
    assert (again["test"], again["faults"]) == (True, [])


def test_a_fault_that_cannot_be_is_refused(rest: Rest, ledger: Ledger):
    """Unknown steps and faults without test start nothing; clients' own fault headers do nothing."""
    save(rest, "refused", ledger)
    wrong = rest("POST", f"/api/flows/refused/execute?test=true&faults={quote('step=got,drop=reply')}")
    untold = rest("POST", f"/api/flows/refused/execute?faults={quote('step=get,drop=reply')}")
    assert (wrong.status, untold.status) == (400, 400)
    assert "there are: get" in str(wrong.body)
    assert rest.get("/api/runs?flow_id=refused")["runs"] == []
