"""What triggers of time and of people mean, where they say little and where they say all."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from reflux.core.flow import compile_flow
from reflux.core.flow.manual import MANUAL_KEYS, Manual
from reflux.core.flow.scheduled import CRON_KEYS, INTERVAL_KEYS
from reflux.core.schedule import Catchup, IntervalRule, Overlap

ROOT = Path(__file__).parents[3]


def compiled(*triggers):
    """The triggers of a flow that has nothing wrong."""
    spec = {"vars": {"limit": 1}, "triggers": list(triggers), "steps": [{"id": "a", "node": "x"}]}
    result = compile_flow({"name": "timed", "spec": spec})
    assert result.problems == ()
    return result.flow.triggers


def shown(heading: str):
    """The triggers that gateway/README.md shows under a heading."""
    text = (ROOT / "gateway" / "README.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    return yaml.load(block[1], Loader=yaml.BaseLoader)["triggers"]


def test_the_schedules_of_the_readme_are_schedules():
    """What people copy has nothing wrong, and shows every key."""
    night, often = shown("Schedules")
    compiled(night, often)
    assert set(night) == set(CRON_KEYS)
    assert set(often) | set(night) - {"cron", "timezone"} == set(INTERVAL_KEYS)


def test_the_form_of_the_readme_is_one():
    """The same."""
    [refund] = shown("Forms")
    [trigger] = compiled(refund)
    assert set(refund) == set(MANUAL_KEYS)
    assert isinstance(trigger, Manual)
    assert trigger.form.violations({"order": 1})
    assert not trigger.form.violations({"order": "o1"})


def test_a_schedule_that_says_little():
    """In UTC, the newest missed firing made up for, no matter what runs, without delay."""
    [night] = compiled({"id": "night", "type": "cron", "cron": "@daily"})
    schedule = night.schedule
    assert (night.timezone, night.input, schedule.jitter) == ("UTC", None, timedelta())
    assert (schedule.catchup, schedule.overlap) == (Catchup.LAST, Overlap.ALLOW)
    [often] = compiled({"id": "often", "type": "interval", "every": "15m"})
    assert often.schedule.rule == IntervalRule(timedelta(minutes=15), datetime(1970, 1, 1, tzinfo=UTC))


def test_a_queue_makes_up_for_every_firing():
    """One that waits is told apart from none that nobody was there for: so both are made up for."""
    [night] = compiled({"id": "night", "type": "cron", "cron": "@daily", "overlap": "queue"})
    assert (night.schedule.catchup, night.schedule.overlap) == (Catchup.ALL, Overlap.QUEUE)


@pytest.mark.parametrize(
    ("changed", "equal"),
    [
        ({}, True),
        ({"catchup": "all", "overlap": "skip", "input": {"a": 1}}, True),
        ({"cron": "0 3 * * *"}, False),
        ({"timezone": "Europe/Paris"}, False),
        ({"jitter": "5s"}, False),
    ],
)
def test_what_decides_when_it_fires_is_told_apart_from_the_rest(changed, equal):
    """A version in which it is equal changes nothing of what is due."""
    trigger = {"id": "night", "type": "cron", "cron": "0 2 * * *", "timezone": "Europe/Oslo"}
    [one], [other] = compiled(trigger), compiled({**trigger, **changed})
    assert (one.described()["rule"] == other.described()["rule"]) is equal


def test_an_input_sees_its_firing_in_both_times():
    """The moment in UTC, as the local clock shows it, and when it was to be started."""
    trigger = {
        "id": "night",
        "type": "cron",
        "cron": "0 2 * * *",
        "timezone": "Europe/Oslo",
        "input": "{{ schedule }}",
    }
    [night] = compiled(trigger)
    moment = datetime(2026, 7, 1, 0, 0, tzinfo=UTC)
    root = night.root(moment, moment + timedelta(seconds=3))
    assert night.input.evaluate({"schedule": root, "vars": {}}) == {
        "scheduled_for": "2026-07-01T00:00:00Z",
        "fire_time": "2026-07-01T00:00:03Z",
        "local": "2026-07-01T02:00:00+02:00",
        "timezone": "Europe/Oslo",
    }
