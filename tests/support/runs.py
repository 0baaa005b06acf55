"""Starting runs and waiting for their ends over REST, asking again while parts of the system are down."""

import time
from typing import Any

from tests.support.rest import Rest

RUNNING = ("RUNNING", "CANCELING")


def start_once(rest: Rest, flow: str, number: int) -> str:
    """Starts a run once, however often it has to be asked for; its id."""
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = rest("POST", f"/api/flows/{flow}/execute?request_id={flow}-{number}", {})
            if answer.status == 200:
                return str(answer.json["id"])
        except OSError:
            pass
        assert time.monotonic() < deadline, "nothing is accepted any more"
        time.sleep(0.1)


def ended(rest: Rest, run_id: str) -> Any:
    """The run when it has ended, or is parked."""
    deadline = time.monotonic() + 90
    last = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = rest("GET", f"/api/runs/{run_id}")
            if answer.status == 200 and answer.json["state"] not in RUNNING:
                return answer.json
            last = answer.body.decode()
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"run {run_id} has not ended: {last}")
