"""Ctrl-C in the middle of runs: what is happening is finished, the rest waits for the next `up`."""

import signal
import time
from collections import Counter

from tests.e2e.stack.running import alive, descendants, eventually
from tests.support.ledger import Ledger
from tests.support.stack import START_SECONDS, start_stack, stop_stack

RUNS = 4
STEPS = ("one", "two")


def test_ctrl_c_finishes_the_calls_in_flight_and_the_next_up_goes_on(tmp_path, ledger: Ledger):
    """At-most-once effects: each arrives exactly once, before or after the stop, and every run ends."""
    steps = [
        {
            "id": step,
            "node": "http.request",
            "with": {
                "method": "POST",
                "url": f"{ledger.url}/effect/drain-{step}?delay=0.8&run={{{{ run.id }}}}",
            },
        }
        for step in STEPS
    ]

    def arrived() -> Counter[tuple[str, str]]:
        entries = [entry for entry in ledger.entries() if entry["name"].startswith("drain-")]
        return Counter((entry["query"]["run"], entry["name"]) for entry in entries)

    stack = start_stack(tmp_path / "data")
    try:
        stack.rest(
            "PUT", "/api/flows/drain?allow_missing=true", {"name": "drain", "spec": {"steps": steps}}
        ).ok()
        runs = [stack.rest.post("/api/flows/drain/execute", {})["id"] for _ in range(RUNS)]
        eventually(lambda: len(arrived()) >= RUNS, "calls are in flight")
        children = descendants(stack.process.pid)
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(60) == 0
        assert not any(map(alive, children))
        assert len(arrived()) < RUNS * len(STEPS), "there was nothing left to resume"

        stack = start_stack(tmp_path / "data")
        deadline = time.monotonic() + START_SECONDS
        for run_id in runs:
            while (run := stack.rest.get(f"/api/runs/{run_id}"))["state"] == "RUNNING":
                assert time.monotonic() < deadline, run
                time.sleep(0.05)
            assert run["state"] == "SUCCEEDED", run
        assert arrived() == {(run_id, f"drain-{step}"): 1 for run_id in runs for step in STEPS}
    finally:
        stop_stack(stack)
