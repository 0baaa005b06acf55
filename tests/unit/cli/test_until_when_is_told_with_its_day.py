"""What waits for days says until which day, wherever it is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from reflux.cli import spoken
from tests.unit.cli.shapes import CREATED, RUN, a_run, a_step, an_event, finished

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

AT = datetime.now(UTC).replace(microsecond=6000) + timedelta(days=7)
UNTIL = AT.isoformat()
TOLD = f"until {AT.astimezone():%Y-%m-%d %H:%M:%S %z}"
SIGNAL = {"why": "waits for the signal shipped", "until": UNTIL}
RATE = {"why": "waits for its time, by the rate of its flow", "until": UNTIL}


@pytest.mark.parametrize("command", ["get", "why"])
def test_a_step_that_waits_for_days_says_the_day(server: FakeServer, reflux: Reflux, command: str) -> None:
    """In the table of `run get` as in the words of `run why`."""
    server.runs.run = a_run("RUNNING")
    server.runs.steps = [
        a_step(id="ship", action="wait", node="", state="RUNNING", attempts=[], waiting=SIGNAL)
    ]
    assert f"waits for the signal shipped, {TOLD}" in reflux("run", command, RUN, ok=True).stdout


def test_a_run_that_waits_for_its_rate_says_until_when(server: FakeServer, reflux: Reflux) -> None:
    """In the first line of `run why`; it has no steps that could say it."""
    server.runs.run = a_run("QUEUED", waiting=RATE)
    first = reflux("run", "why", RUN, ok=True).stdout.splitlines()[0]
    assert first == f"Run {RUN} of orders is QUEUED: {RATE['why']}, {TOLD}"


def test_a_start_whose_wait_is_over_says_until_when_the_run_waits(
    server: FakeServer, reflux: Reflux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody has to ask again to know when to come back."""
    paced = partial(a_run, waiting=RATE)
    monkeypatch.setattr("tests.unit.cli.fakes.a_run", paced)
    server.runs.states = ["QUEUED"]
    ended = reflux("flow", "run", "orders", "--wait", "1ms")
    assert ended.status == 7
    assert f"  {RATE['why']}, {TOLD}\n" in ended.stderr


def test_a_watch_says_the_day_of_what_is_not_today(server: FakeServer, reflux: Reflux) -> None:
    """Until when a step waits, when the next attempt is, and when an event of an older run happened."""
    entered = an_event(2, "StepEntered", "ship", until=UNTIL, message="")
    failed = an_event(
        3,
        "AttemptFinished",
        "pay",
        attempt=1,
        outcome="NO_EFFECT",
        assignment={"answered_by": ""},
        start_time=UNTIL,
        finish_time=UNTIL,
        retry_at=UNTIL,
        state="RETRYING",
        failure=None,
    )
    server.runs.events = [CREATED, entered, failed, finished(4)]
    first, second, third, *_ = reflux("run", "watch", RUN, ok=True).stdout.splitlines()
    assert first.startswith(("2026-01-31 ", "2026-02-01 ")), "wherever the test runs"
    assert second.endswith(f"  ship: begins, {TOLD}")
    assert third.endswith(f"; the next one at {AT.astimezone():%Y-%m-%d %H:%M:%S}.006")


def test_the_time_of_today_has_no_date() -> None:
    """Most of what is watched is: the date would only be noise."""
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    local = now.astimezone()
    assert spoken.clock(now.isoformat(), now) == f"{local:%H:%M:%S}.000"
    assert spoken.clock((now - timedelta(days=1)).isoformat(), now).startswith("2026-05-3")
