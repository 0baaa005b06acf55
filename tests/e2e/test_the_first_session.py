"""The session of a first user, verbatim: curl, three commands."""

import json
import shutil
import subprocess

import pytest

from tests.support.ledger import Ledger
from tests.support.rest import Rest
from tests.support.stack import Stack

pytestmark = pytest.mark.parametrize("stack", ["monolith", "processes"], indirect=True)

CREATE = """
curl -X POST http://localhost:4000/api/flows -H "Content-Type: application/json" -d '{"name":"my_first_flow","spec":{"steps":[{"id":"fetch","node":"http.request","with":{"url":"https://api.github.com/users/github"}}]}}'
"""
EXECUTE = "curl -X POST http://localhost:4000/api/flows/{FLOW_ID}/execute"
RUNS = "curl http://localhost:4000/api/runs"


@pytest.fixture
def shell(stack: Stack):
    """Runs a command line as it stands, with the port of this stack in place of 4000."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")

    def run(line: str):
        line = line.strip().replace("http://localhost:4000", stack.rest.url)
        done = subprocess.run(["bash", "-c", line + " -sS"], capture_output=True, timeout=60, check=True)
        return json.loads(done.stdout)

    return run


def settled(rest: Rest, run_id: str):
    """The run once it has ended, as its live events tell."""
    events = rest("GET", f"/api/runs/{run_id}:watch").body.decode()
    assert "event: end" in events
    return rest.get(f"/api/runs/{run_id}")


def test_three_commands_give_a_flow_a_run_and_a_list(shell, rest: Rest):
    """Answers are flat and named as expected; without internet the step fails with a typed error."""
    rest("DELETE", "/api/flows/my_first_flow")
    flow = shell(CREATE)
    run = shell(EXECUTE.replace("{FLOW_ID}", flow["id"]))
    listed = shell(RUNS)
    ended = settled(rest, run["id"])

    assert (flow["name"], flow["version"]) == ("my_first_flow", 1)
    assert set(run) >= {"id", "flow_id", "state", "input", "output", "error"}
    assert run["flow_id"] == flow["id"]
    assert set(listed) == {"runs", "next_page_token"}
    assert run["id"] in [each["id"] for each in listed["runs"]]
    if ended["state"] == "FAILED":
        assert ended["error"]["step"] == "fetch"
        assert ended["error"]["reason"] in {"TARGET_UNREACHABLE", "TARGET_TIMEOUT", "TARGET_STATUS"}
    else:
        assert ended["state"] == "SUCCEEDED"


def test_with_a_url_that_answers_the_run_succeeds(shell, rest: Rest, ledger: Ledger):
    """The same flow against something reachable."""
    rest("DELETE", "/api/flows/my_first_flow")
    flow = shell(CREATE.replace("https://api.github.com/users/github", f"{ledger.url}/effect/github"))
    run = shell(EXECUTE.replace("{FLOW_ID}", flow["id"]))
    ended = settled(rest, run["id"])

    assert ended["state"] == "SUCCEEDED"
    assert ended["output"]["status"] == 200
    assert ended["output"]["body"]["name"] == "github"
