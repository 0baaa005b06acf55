"""Schedules over the whole stack, as people see them: by REST and the command line, and over a kill."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.stack.running import eventually
from tests.support.runs import ended
from tests.support.stack import Stack, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose orchestrator is going to be killed."""
    with running_stack(tmp_path_factory.mktemp("schedules") / "data") as stack:
        yield stack


def save(stack: Stack, **trigger: Any) -> None:
    triggers = [
        {"id": "often", "type": "interval", "every": "1s", **trigger},
        {"id": "form", "type": "manual", "form": {"type": "object", "required": ["n"]}},
    ]
    spec = {"triggers": triggers, "steps": [{"id": "a", "set": {"by": "{{ trigger }}"}}]}
    stack.rest("PUT", "/api/flows/timed?allow_missing=true", {"name": "timed", "spec": spec}).ok()


def schedule(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack.rest.get("/api/flows/timed/triggers/often")["schedule"]
    return found


def fired(stack: Stack) -> list[datetime]:
    """The moments for which runs were started, oldest first."""
    runs = stack.rest.get("/api/runs?flow_id=timed&page_size=1000")["runs"]
    starts = [
        stack.rest.get(f"/api/runs/{run['id']}/events?page_size=1")["events"][0]["data"] for run in runs
    ]
    return [
        datetime.fromisoformat(start["scheduled_for"]) for start in reversed(starts) if start["scheduled_for"]
    ]


def test_a_schedule_fires_pauses_and_goes_on(own_stack: Stack):
    """Each second a run; none while it is paused; and what is asked of it by hand."""
    rest = own_stack.rest
    save(own_stack)
    eventually(lambda: int(schedule(own_stack)["fired_count"]) >= 2, "it fires")
    assert rest.post("/api/flows/timed/triggers/often:pause")["schedule"]["paused"] is True
    time.sleep(1)
    before = fired(own_stack)
    time.sleep(2.5)
    assert fired(own_stack) == before
    assert "next" not in schedule(own_stack)
    preview = rest.get("/api/flows/timed/triggers/often:preview?count=3")["firings"]
    times = [datetime.fromisoformat(each["scheduled_for"]) for each in preview]
    assert [later - first for first, later in pairwise(times)] == [SECOND, SECOND]
    by_hand = rest.post("/api/flows/timed/triggers/form:fire?request_id=r", {"n": 1})
    assert rest.post("/api/flows/timed/triggers/form:fire?request_id=r", {"n": 1})["id"] == by_hand["id"]
    assert ended(rest, by_hand["id"])["output"] == {"by": {"type": "manual", "id": "form"}}
    unfit = rest("POST", "/api/flows/timed/triggers/form:fire", {})
    assert (unfit.status, unfit.json["details"][0]["reason"]) == (400, "INPUT_INVALID")
    unsuited = rest("POST", "/api/flows/timed/triggers/form:pause")
    assert (unsuited.status, unsuited.json["details"][0]["reason"]) == (400, "TRIGGER_TYPE_UNSUITED")
    rest.post("/api/flows/timed/triggers/often:resume")
    eventually(lambda: len(fired(own_stack)) > len(before), "it goes on")
    times = fired(own_stack)
    assert len(set(times)) == len(times)


def test_the_command_line_knows_schedules(own_stack: Stack):
    """It shows, pauses, fires and previews what the API does."""

    def reflux(*words: str) -> str:
        command = [sys.executable, "-m", "reflux.cli", "trigger", *words, "--server", own_stack.edge]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    save(own_stack, every="1h")
    assert "every 1h" in reflux("list", "--flow", "timed")
    assert "paused" in reflux("pause", "timed", "often")
    run_id = reflux("fire", "timed", "often").strip()
    assert ended(own_stack.rest, run_id)["state"] == "SUCCEEDED"
    assert len(reflux("preview", "timed", "often", "-n", "2").splitlines()) == 3
    assert "paused" not in reflux("resume", "timed", "often")


def test_a_killed_orchestrator_loses_no_firing_and_doubles_none(own_stack: Stack):
    """Kill -9 in the middle of firing each second, with catchup: all; every second has its one run."""
    save(own_stack, catchup="all", overlap="allow")
    start = len(fired(own_stack))
    eventually(lambda: len(fired(own_stack)) >= start + 2, "it fires")
    own_stack.kill("orchestrator")
    eventually(lambda: _more_than(own_stack, start + 8), "it fires on", 60)
    own_stack.rest.post("/api/flows/timed/triggers/often:pause")
    times = fired(own_stack)[start:]
    assert times == [times[0] + n * SECOND for n in range(len(times))]


def _more_than(stack: Stack, count: int) -> bool:
    try:
        return len(fired(stack)) > count
    except (AssertionError, OSError):  # it is on its way back
        return False
