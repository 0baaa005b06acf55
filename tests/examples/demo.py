"""The demo: a whole stack from nothing, two flows, and what happened to them, live.

    python -m tests.examples.demo [DATA_DIR]

Everything is real: Envoy, PostgreSQL, Valkey, the orchestrator, the nodes; and a ledger in a process of its
own plays the outside world and counts what arrives there.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from tests.support.ledger import Ledger, running_ledger
from tests.support.stack import Stack, running_stack

HERE: Final = Path(__file__).parent
RUNS: Final = 8
SECONDS: Final = 90.0

console = Console(width=None if sys.stdout.isatty() else 120)


def main(data: Path) -> None:
    """Shows it all; a promise that does not hold ends it with an error."""
    begun = time.monotonic()
    console.print(Panel("REFLUX: durable flows whose steps are gRPC services behind Envoy", expand=False))
    with running_ledger() as ledger, running_stack(data, quiet=False) as stack:
        show_delivery(stack, ledger)
        show_kill(stack, ledger)
    console.print(f"[bold green]Everything held.[/] {time.monotonic() - begun:.0f} s in all.")


def save(stack: Stack, file: str) -> str:
    """Saves an example's flow; its name."""
    text = (HERE / file).read_bytes()
    name = file.removesuffix(".yaml").replace("_", "-")
    saved = stack.rest(
        "PUT", f"/api/flows/{name}?allow_missing=true", raw=text, content_type="application/yaml"
    ).ok()
    return str(saved["name"])


def show_delivery(stack: Stack, ledger: Ledger) -> dict[str, Any]:
    """Fetches from the stack's own REST API, reshapes in JavaScript, delivers to the ledger."""
    console.rule("[bold](a) HTTP: fetch, reshape in JavaScript, deliver")
    name = save(stack, "http_delivery.yaml")
    given = {"source": f"{stack.rest.url}/api/nodes", "target": f"{ledger.url}/effect/delivery"}
    console.print(f"flow [bold]{name}[/], input {given}")
    run = stack.rest.post(f"/api/flows/{name}/execute", given)
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        final = follow(stack, run["id"], lambda: live.update(steps_table(stack, run["id"])))
    console.print(steps_table(stack, run["id"]))
    delivered = [entry for entry in ledger.entries() if entry["name"] == "delivery"]
    console.print(f"run {final['id']} is [bold]{final['state']}[/], output {final['output']}")
    console.print(f"the ledger was told {len(delivered)} time(s): {delivered[-1]['body']}\n")
    assert final["state"] == "SUCCEEDED", final
    return final


def follow(stack: Stack, run_id: str, show: Callable[[], None]) -> dict[str, Any]:
    """The run once it has ended; `show` is called meanwhile."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        run: dict[str, Any] = stack.rest.get(f"/api/runs/{run_id}")
        if run["state"] not in ("RUNNING", "CANCELING"):
            return run
        show()
        time.sleep(0.05)
    raise AssertionError(f"run {run_id} has not ended within {SECONDS:.0f} s")


def steps_table(stack: Stack, run_id: str) -> Table:
    """Each step with what became of it, and why Envoy chose whom it chose."""
    table = Table(
        "step", "state", "who answered, and why", "effect", "ms", "waits for", box=None, pad_edge=False
    )
    for step in stack.rest.get(f"/api/runs/{run_id}/steps")["steps"]:
        last = step["attempts"][-1] if step["attempts"] else None
        who = step["action"]
        if last and last["answered_by"]:
            share = f"{last['reason']} {last['weight'] / 100:.0f} %, draw {last['draw']}"
            who = f"{step['node']}@{last['answered_by']} ({share}, {last['tries']} try)"
        waits = (step["waiting"] or {}).get("why", "")
        colour = {"SUCCEEDED": "green", "FAILED": "red", "PARKED": "red"}.get(step["state"], "yellow")
        effect = f"{last['effect']}{', claimed' if last['claimed'] else ''}" if last else ""
        table.add_row(step["id"], f"[{colour}]{step['state']}[/]", who, effect, milliseconds(step), waits)
    return table


def milliseconds(step: dict[str, Any]) -> str:
    """How long a step took."""
    if not step["start_time"] or not step["finish_time"]:
        return ""
    return f"{1000 * (seconds(step['finish_time']) - seconds(step['start_time'])):.0f}"


def seconds(stamp: str) -> float:
    """A time of one day, in seconds."""
    hours, minutes, rest = stamp[11:].rstrip("Z").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def show_kill(stack: Stack, ledger: Ledger) -> list[dict[str, Any]]:
    """Kills the orchestrator while runs are in the middle; shows that each outcome is recorded once."""
    console.rule(f"[bold](d) kill -9 of the orchestrator in the middle of {RUNS} runs")
    name = save(stack, "survives_a_kill.yaml")
    given = {"target": f"{ledger.url}/effect"}
    with ThreadPoolExecutor(RUNS) as pool:
        path = f"/api/flows/{name}/execute"
        runs = list(pool.map(lambda _: stack.rest.post(path, given)["id"], range(RUNS)))
    time.sleep(0.7)
    killed = stack.kill("orchestrator")
    console.print(f"kill -9 {killed}: the orchestrator is gone, with {RUNS} runs half done")
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        deadline = time.monotonic() + SECONDS
        while not (journals := ended(stack, runs)):
            live.update(parts_line(stack, killed))
            assert time.monotonic() < deadline, "the runs did not end"
            time.sleep(0.1)
    console.print(f"restarted as process {stack.pid('orchestrator')}; every run has ended")
    console.print(kill_table(journals, ledger))
    return journals


def ended(stack: Stack, runs: list[str]) -> list[dict[str, Any]]:
    """Each run with its events, once all have ended; nothing before, or while the orchestrator is away."""
    found = []
    for run_id in runs:
        answer = stack.rest("GET", f"/api/runs/{run_id}")
        if answer.status != 200 or answer.json["state"] in ("RUNNING", "CANCELING"):
            return []
        events = stack.rest.get(f"/api/runs/{run_id}/events?page_size=1000")["events"]
        found.append({**answer.json, "events": events})
    return found


def parts_line(stack: Stack, killed: int) -> str:
    """What the supervisor does about it."""
    part = stack.state["parts"]["orchestrator"]
    return f"orchestrator: {part['state']}" + ("" if part["pid"] == killed else f", process {part['pid']}")


def kill_table(journals: list[dict[str, Any]], ledger: Ledger) -> Table:
    """For each run: outcomes recorded, and what the outside saw."""
    arrived = Counter(entry["query"].get("run") for entry in ledger.entries())
    columns = "run", "state", "outcomes recorded", "calls that arrived", "asked again"
    caption = "Asked again: in flight at the kill. These calls are pure, so they are repeated."
    table = Table(*columns, box=None, pad_edge=False, caption=caption, caption_justify="left")
    for run in journals:
        finished = [event for event in run["events"] if event["kind"] == "AttemptFinished"]
        done = [event["step"] for event in finished if event["data"]["outcome"] == "DONE"]
        assert run["state"] == "SUCCEEDED", run["error"]
        assert done == ["one", "two", "three", "four", "five"], done
        again = arrived[run["id"]] - len(done)
        table.add_row(run["id"], run["state"], f"{len(done)}, each once", str(arrived[run["id"]]), str(again))
    return table


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".reflux/demo").absolute())
