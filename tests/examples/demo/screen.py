"""What the stories share: the console, saving a flow, following a run, showing its steps."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.support.rest import Rest

EXAMPLES: Final = Path(__file__).parents[1]
SECONDS: Final = 90.0
"""No run of a story takes longer."""

console = Console(width=None if sys.stdout.isatty() else 120)


def table(*columns: str, caption: str | None = None) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, pad_edge=False, caption=caption, caption_justify="left")


def save(rest: Rest, file: str) -> str:
    """Saves an example's flow; its name."""
    text = (EXAMPLES / file).read_bytes()
    name = file.removesuffix(".yaml").replace("_", "-")
    saved = rest(
        "PUT", f"/api/flows/{name}?allow_missing=true", raw=text, content_type="application/yaml"
    ).ok()
    return str(saved["name"])


def follow(rest: Rest, run_id: str, show: Callable[[], None]) -> dict[str, Any]:
    """The run once it has ended; `show` is called meanwhile."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        run: dict[str, Any] = rest.get(f"/api/runs/{run_id}")
        if run["state"] not in ("RUNNING", "CANCELING"):
            return run
        show()
        time.sleep(0.05)
    raise AssertionError(f"run {run_id} has not ended within {SECONDS:.0f} s")


def steps_table(rest: Rest, run_id: str) -> Table:
    """Each step with what became of it, and why Envoy chose whom it chose."""
    steps = table("step", "state", "who answered, and why", "effect", "ms", "waits for")
    for step in rest.get(f"/api/runs/{run_id}/steps")["steps"]:
        last = step["attempts"][-1] if step["attempts"] else None
        who = step["action"]
        if last and last["answered_by"]:
            share = f"{last['reason']} {last['weight'] / 100:.0f} %, draw {last['draw']}"
            who = f"{step['node']}@{last['answered_by']} ({share}, {last['tries']} try)"
        waits = (step["waiting"] or {}).get("why", "")
        colour = {"SUCCEEDED": "green", "FAILED": "red", "PARKED": "red"}.get(step["state"], "yellow")
        effect = f"{last['effect']}{', claimed' if last['claimed'] else ''}" if last else ""
        steps.add_row(step["id"], f"[{colour}]{step['state']}[/]", who, effect, _milliseconds(step), waits)
    return steps


def _milliseconds(step: dict[str, Any]) -> str:
    if not step["start_time"] or not step["finish_time"]:
        return ""
    return f"{1000 * (_seconds(step['finish_time']) - _seconds(step['start_time'])):.0f}"


def _seconds(stamp: str) -> float:
    """A time of one day, in seconds."""
    hours, minutes, rest = stamp[11:].rstrip("Z").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)
