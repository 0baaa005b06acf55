"""(d) kill -9 of the orchestrator while runs are in the middle: each outcome is recorded once."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from rich.live import Live
from rich.table import Table

from tests.examples.demo.screen import SECONDS, console, save, table
from tests.support.ledger import Ledger
from tests.support.stack import Stack

RUNS: Final = 8


def show(stack: Stack, ledger: Ledger) -> list[dict[str, Any]]:
    """Each run with its events; all have SUCCEEDED."""
    console.rule(f"[bold](d) kill -9 of the orchestrator in the middle of {RUNS} runs")
    name = save(stack.rest, "survives_a_kill.yaml")
    given = {"target": f"{ledger.url}/effect"}
    with ThreadPoolExecutor(RUNS) as pool:
        path = f"/api/flows/{name}/execute"
        runs = list(pool.map(lambda _: stack.rest.post(path, given)["id"], range(RUNS)))
    time.sleep(0.7)
    killed = stack.kill("orchestrator")
    console.print(f"kill -9 {killed}: the orchestrator is gone, with {RUNS} runs half done")
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        deadline = time.monotonic() + SECONDS
        while not (journals := _ended(stack, runs)):
            live.update(_parts_line(stack, killed))
            assert time.monotonic() < deadline, "the runs did not end"
            time.sleep(0.1)
    console.print(f"restarted as process {stack.pid('orchestrator')}; every run has ended")
    console.print(_table(journals, ledger))
    recovered = [run for run in journals if any(event["kind"] == "RunRecovered" for event in run["events"])]
    assert recovered, "the kill came too late to be one"
    return journals


def _ended(stack: Stack, runs: list[str]) -> list[dict[str, Any]]:
    """Each run with its events, once all have ended; nothing before, or while the orchestrator is away."""
    found = []
    for run_id in runs:
        answer = stack.rest("GET", f"/api/runs/{run_id}")
        if answer.status != 200 or answer.json["state"] in ("RUNNING", "CANCELING"):
            return []
        events = stack.rest.get(f"/api/runs/{run_id}/events?page_size=1000")["events"]
        found.append({**answer.json, "events": events})
    return found


def _parts_line(stack: Stack, killed: int) -> str:
    """What the supervisor does about it."""
    part = stack.state["parts"]["orchestrator"]
    return f"orchestrator: {part['state']}" + ("" if part["pid"] == killed else f", process {part['pid']}")


def _table(journals: list[dict[str, Any]], ledger: Ledger) -> Table:
    """For each run: outcomes recorded, and what the outside saw."""
    arrived = Counter(entry["query"].get("run") for entry in ledger.entries())
    columns = "run", "state", "outcomes recorded", "calls that arrived", "asked again"
    caption = "Asked again: in flight at the kill. These calls are pure, so they are repeated."
    rows = table(*columns, caption=caption)
    for run in journals:
        finished = [event for event in run["events"] if event["kind"] == "AttemptFinished"]
        done = [event["step"] for event in finished if event["data"]["outcome"] == "DONE"]
        assert run["state"] == "SUCCEEDED", run["error"]
        assert done == ["one", "two", "three", "four", "five"], done
        again = arrived[run["id"]] - len(done)
        rows.add_row(run["id"], run["state"], f"{len(done)}, each once", str(arrived[run["id"]]), str(again))
    return rows
