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


def played(planned: Schedule, end: datetime, late: timedelta) -> tuple[list[datetime], int]:
    """Who looks when something is due, or a little later: what was started, and how many were missed."""
    first, started, missed = planned.rule.next_after(NOON), [], 0
    while (at := planned.fires_at(first, KEY)) <= end:
        firings = planned.plan(first, at + late, KEY)
        started += firings.due
        missed += firings.missed
        first = firings.following
    return started, missed


@pytest.mark.parametrize("catchup", Catchup)
@pytest.mark.parametrize(
    ("cron", "jitter"),
    [
        ("* * * * *", 10 * MINUTE),
        ("* * * * *", 60 * MINUTE),
        ("0,5 * * * *", 30 * MINUTE),
        ("* * * * *", MINUTE),
    ],
)
def test_a_jitter_wider_than_the_gap_loses_no_firing(cron, jitter, catchup):
    """One waits for the one before it, and all that come together then have their run; nobody was away."""
    spread = Schedule(CronRule(Cron.parse(cron), ZoneInfo("UTC")), catchup, Overlap.ALLOW, jitter)
    end = NOON + timedelta(hours=6)
    started, missed = played(spread, end, timedelta(milliseconds=500))
    assert started == spread.upcoming(NOON, len(started))
    assert spread.fires_at(spread.upcoming(started[-1], 1)[0], KEY) > end
    assert missed == 0


def test_a_firing_that_waits_for_the_one_before_it_is_named_with_the_time_of_that_one():
    """What is shown as its time is when it comes: in order, and still later by less than the jitter."""
    rule = CronRule(Cron.parse("* * * * *"), ZoneInfo("UTC"))
    spread = Schedule(rule, Catchup.LAST, Overlap.ALLOW, 10 * MINUTE)
    moments = spread.upcoming(NOON, 300)
    times = [spread.fires_at(moment, KEY) for moment in moments]
    assert times == sorted(times)
    assert all(timedelta() <= at - moment < 10 * MINUTE for at, moment in zip(times, moments, strict=True))
    alone = Schedule(IntervalRule(10 * MINUTE), Catchup.LAST, Overlap.ALLOW, 10 * MINUTE)
    on_the_tens = [moment for moment in moments if moment.minute % 10 == 0]
    assert all(spread.fires_at(moment, KEY) >= alone.fires_at(moment, KEY) for moment in on_the_tens)


def test_what_a_change_of_the_clock_pushes_together_is_not_missed():
    """Oslo, 29 March 2026: 02:58 fires at 03:00, a minute before 03:01, with a jitter of an hour."""
    rule = CronRule(Cron.parse("58,1 2,3 * * *"), ZoneInfo("Europe/Oslo"))
    first = datetime(2026, 3, 29, 1, tzinfo=UTC)
    spread = Schedule(rule, Catchup.LAST, Overlap.ALLOW, 60 * MINUTE)
    assert rule.next_after(first) == first + MINUTE
    keys = [f"flow/t{number}" for number in range(50)]
    both = [key for key in keys if spread.fires_at(first, key) == spread.fires_at(first + MINUTE, key)]
    assert both
    for key in both:
        firings = spread.plan(first, spread.fires_at(first, key), key)
        assert (firings.due[:2], firings.missed) == ((first, first + MINUTE), 0)


def test_upcoming_shows_what_the_rule_says():
    """For people who look before they trust it."""
    assert schedule(Catchup.LAST).upcoming(NOON, 3) == [NOON + n * MINUTE for n in (1, 2, 3)]
