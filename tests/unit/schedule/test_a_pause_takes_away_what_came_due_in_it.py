"""What is left of a schedule after its pause: what waited before it, and what comes after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reflux.core.schedule import Catchup, IntervalRule, Overlap, Schedule

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEY = "flow/night"
QUEUE = Schedule(IntervalRule(MINUTE), Catchup.ALL, Overlap.QUEUE, timedelta())


def minutes(moments: list[datetime]) -> list[int]:
    return [(moment - NOON) // MINUTE for moment in moments]


def waiting(schedule: Schedule, first: datetime, minute: float) -> list[int]:
    return minutes(list(schedule.plan(first, NOON + minute * MINUTE, KEY).due))


def test_what_waited_before_it_goes_on_waiting():
    """Three were due, and stand there after the pause with what has come since, and nothing between."""
    resumed = QUEUE.resumed(NOON, NOON + 2.5 * MINUTE, NOON + 10.5 * MINUTE, KEY)
    assert (resumed.first, resumed.missed) == (NOON, 0)
    assert waiting(resumed.schedule, NOON, 10.5) == [0, 1, 2]
    assert waiting(resumed.schedule, NOON, 12) == [0, 1, 2, 11, 12]
    assert minutes(resumed.schedule.upcoming(NOON, 3)) == [1, 2, 11]


def test_when_nothing_waited_it_goes_on_with_what_comes_next():
    """What was next at the pause is given up, as all that came due in it."""
    resumed = QUEUE.resumed(NOON, NOON - MINUTE / 2, NOON + 10.5 * MINUTE, KEY)
    assert (resumed.first, resumed.missed) == (NOON + 11 * MINUTE, 0)


def test_a_pause_in_which_nothing_comes_due_changes_nothing():
    """Also where something waits."""
    resumed = QUEUE.resumed(NOON, NOON - MINUTE / 2, NOON - MINUTE / 3, KEY)
    assert (resumed.first, resumed.schedule.given_up) == (NOON, None)
    resumed = QUEUE.resumed(NOON, NOON + 2.2 * MINUTE, NOON + 2.7 * MINUTE, KEY)
    assert (resumed.first, waiting(resumed.schedule, NOON, 4)) == (NOON, [0, 1, 2, 3, 4])


def test_what_waits_between_two_pauses_is_missed_when_the_first_is_not_behind_it():
    """One pause is remembered: both are taken as one, and what lies between them is counted."""
    once = QUEUE.resumed(NOON, NOON + 2.5 * MINUTE, NOON + 10.5 * MINUTE, KEY).schedule
    twice = once.resumed(NOON + MINUTE, NOON + 13.5 * MINUTE, NOON + 20.5 * MINUTE, KEY)
    assert (twice.first, twice.missed) == (NOON + MINUTE, 3)
    assert waiting(twice.schedule, NOON + MINUTE, 22) == [1, 2, 21, 22]
    behind = once.resumed(NOON + 12 * MINUTE, NOON + 13.5 * MINUTE, NOON + 20.5 * MINUTE, KEY)
    assert behind.missed == 0
    assert waiting(behind.schedule, NOON + 12 * MINUTE, 22) == [12, 13, 21, 22]


@pytest.mark.parametrize(
    ("catchup", "started", "missed"), [("none", [], 3), ("last", [2], 2), ("all", [0, 1, 2], 0)]
)
def test_what_waited_is_made_up_for_as_after_any_absence(catchup, started, missed):
    """And what is not started is counted."""
    schedule = Schedule(IntervalRule(MINUTE), Catchup(catchup), Overlap.ALLOW, timedelta())
    resumed = schedule.resumed(NOON, NOON + 2.5 * MINUTE, NOON + 10.5 * MINUTE, KEY)
    firings = resumed.schedule.plan(NOON, NOON + 10.5 * MINUTE, KEY)
    assert (minutes(list(firings.due)), firings.missed) == (started, missed)
    assert firings.following == NOON + 11 * MINUTE
