"""Which firings are started at a look, by catchup and jitter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from reflux.core.schedule import (
    GRACE,
    MAX_CATCHUP,
    Catchup,
    Cron,
    CronRule,
    IntervalRule,
    Overlap,
    Schedule,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEY = "flow/night"


def schedule(catchup: Catchup, jitter: timedelta = timedelta(), every: timedelta = MINUTE) -> Schedule:
    return Schedule(IntervalRule(every), catchup, Overlap.ALLOW, jitter)


@pytest.mark.parametrize("catchup", Catchup)
def test_what_comes_in_time_is_started_whatever_the_policy(catchup):
    """One firing due, some seconds late; the next one is a minute on."""
    firings = schedule(catchup).plan(NOON, NOON + timedelta(seconds=7), KEY)
    assert (firings.due, firings.missed, firings.following) == ((NOON,), 0, NOON + MINUTE)


@pytest.mark.parametrize("catchup", Catchup)
def test_before_its_time_nothing_is_due(catchup):
    """Not by a microsecond."""
    firings = schedule(catchup).plan(NOON, NOON - timedelta(microseconds=1), KEY)
    assert (firings.due, firings.missed, firings.following) == ((), 0, NOON)


def test_after_an_absence_the_policy_decides():
    """Ten minutes away: nothing but what is fresh, the newest, or all in order."""
    now = NOON + 10 * MINUTE + timedelta(seconds=1)
    every = [NOON + n * MINUTE for n in range(11)]
    none = schedule(Catchup.NONE).plan(NOON, now, KEY)
    last = schedule(Catchup.LAST).plan(NOON, now, KEY)
    whole = schedule(Catchup.ALL).plan(NOON, now, KEY)
    assert (list(none.due), none.missed) == (every[-1:], 10)
    assert (list(last.due), last.missed) == (every[-1:], 10)
    assert (list(whole.due), whole.missed) == (every, 0)
    assert {none.following, last.following, whole.following} == {NOON + 11 * MINUTE}


def test_without_catchup_only_what_is_fresh_is_started():
    """Up to a minute late, as after a takeover, and no later."""
    hourly = schedule(Catchup.NONE, every=timedelta(hours=1))
    assert hourly.plan(NOON, NOON + GRACE, KEY).due == (NOON,)
    late = hourly.plan(NOON, NOON + GRACE + timedelta(seconds=1), KEY)
    assert (late.due, late.missed, late.following) == ((), 1, NOON + timedelta(hours=1))


def test_all_is_bounded_and_keeps_the_newest():
    """After a year of minutes; and it does not take a year to find out."""
    now = NOON + timedelta(days=365)
    oslo = ZoneInfo("Europe/Oslo")
    cron = Schedule(CronRule(Cron.parse("* * * * *"), oslo), Catchup.ALL, Overlap.ALLOW, timedelta())
    firings = cron.plan(NOON, now, KEY)
    assert len(firings.due) == MAX_CATCHUP
    assert firings.due[-1] == now
    assert firings.due[0] == now - (MAX_CATCHUP - 1) * MINUTE
    assert firings.missed > 0
    assert firings.following == now + MINUTE


@pytest.mark.parametrize("every", [timedelta(seconds=1), timedelta(hours=7), timedelta(days=30)])
def test_how_far_back_is_looked_changes_nothing_but_the_count(every):
    """The newest ones are the newest ones, for short and long intervals alike."""
    now = NOON + timedelta(days=800, seconds=13)
    first = IntervalRule(every).next_after(NOON)
    firings = schedule(Catchup.ALL, every=every).plan(first, now, KEY)
    count = (now - first) // every + 1
    newest = [first + n * every for n in range(max(0, count - MAX_CATCHUP), count)]
    assert list(firings.due) == newest
    assert firings.following == newest[-1] + every


def test_jitter_is_less_than_its_width_and_the_same_for_everybody():
    """By trigger and firing; two triggers at the same time are apart."""
    spread = schedule(Catchup.LAST, jitter=timedelta(seconds=30))
    times = [spread.fires_at(NOON + n * MINUTE, KEY) - (NOON + n * MINUTE) for n in range(200)]
    assert times == [spread.fires_at(NOON + n * MINUTE, KEY) - (NOON + n * MINUTE) for n in range(200)]
    assert all(timedelta() <= late < timedelta(seconds=30) for late in times)
    assert max(times) - min(times) > timedelta(seconds=20)
    assert spread.fires_at(NOON, "flow/other") != spread.fires_at(NOON, KEY)


def test_a_firing_waits_for_its_jitter_and_later_ones_wait_for_it():
    """Nothing is started before the time drawn for it, and the order is kept."""
    spread = schedule(Catchup.ALL, jitter=timedelta(minutes=5))
    at = spread.fires_at(NOON, KEY)
    assert spread.plan(NOON, at - timedelta(milliseconds=1), KEY).due == ()
    due = spread.plan(NOON, at, KEY).due
    assert due[0] == NOON
    assert list(due) == sorted(due)


def test_upcoming_shows_what_the_rule_says():
    """For people who look before they trust it."""
    assert schedule(Catchup.LAST).upcoming(NOON, 3) == [NOON + n * MINUTE for n in (1, 2, 3)]
