"""A whole stack may be killed at any time: what was accepted ends, and no outcome is recorded twice.

The judge is the ledger, which counts what arrived outside, and the journal of each run. Single parts are
killed, paused and cut off in `tests/chaos`.
"""

import time

from tests.e2e.stack.running import alive, descendants
from tests.support.ledger import Ledger
from tests.support.runs import ended, start_once
from tests.support.stack import Stack, start_stack, stop_stack

STEPS = 4
RUNS = 12


def save(stack: Stack, ledger: Ledger, name: str) -> None:
    """A flow of pure steps, each of which the ledger sees."""
    steps = [
        {
            "id": f"s{number}",
            "node": "http.request",
            "with": {"url": f"{ledger.url}/effect/{name}-s{number}?run={{{{ run.id }}}}&delay=0.15"},
            "retry": {"attempts": 5, "delay": "200ms"},
        }
        for number in range(STEPS)
    ]
    document = {"name": name, "spec": {"steps": steps}}
    stack.rest("PUT", f"/api/flows/{name}?allow_missing=true", document).ok()


def judge(stack: Stack, ledger: Ledger, name: str, run_ids: list[str]) -> None:
    """Every run succeeded, recorded each step once, and nothing of it is missing outside."""
    finals = {run_id: ended(stack.rest, run_id) for run_id in run_ids}
    arrived = {(entry["name"], entry["query"].get("run")) for entry in ledger.entries()}
    for run_id, run in finals.items():
        assert run["state"] == "SUCCEEDED", run
        events = stack.rest.get(f"/api/runs/{run_id}/events?page_size=1000")["events"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        done = [event["step"] for event in events if event["data"].get("outcome") == "DONE"]
        assert done == [f"s{number}" for number in range(STEPS)]
        assert events[-1]["kind"] == "RunFinished"
        for number in range(STEPS):
            assert (f"{name}-s{number}", run_id) in arrived, f"s{number} is recorded and never happened"


def test_the_next_up_resumes_what_a_killed_stack_left(tmp_path, ledger: Ledger):
    """Kill -9 of the supervisor ends everything at once, workers of the sandbox and of PostgreSQL included;
    the next `up` on the same data finishes the runs.
    """
    stack = start_stack(tmp_path / "data")
    try:
        save(stack, ledger, "resumed")
        run_ids = [start_once(stack.rest, "resumed", number) for number in range(RUNS)]
        pids = descendants(stack.process.pid)
        stack.process.kill()
        stack.process.wait()
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in pids):
            assert time.monotonic() < deadline, "a killed supervisor left children behind"
            time.sleep(0.05)
        stack = start_stack(tmp_path / "data")
        judge(stack, ledger, "resumed", run_ids)
    finally:
        stop_stack(stack)
