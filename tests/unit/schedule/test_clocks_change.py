"""Daylight saving, case by case; the property test has all the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from reflux.core.schedule import Cron, CronRule, IntervalRule, find_zone, nearest_zones


def firings(text: str, zone: str, start: str, count: int) -> list[str]:
    rule, moment, found = CronRule(Cron.parse(text), ZoneInfo(zone)), datetime.fromisoformat(start), []
    for _ in range(count):
        moment = rule.next_after(moment)
        found.append(moment.strftime("%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["28 01:30", "29 01:00", "30 00:30"]),  # leapt over: at 03:00, which is 01:00 UTC
        ("0,20,40 2 * * *", ["28 01:00", "28 01:20", "28 01:40", "29 01:00", "30 00:00"]),  # once for all
        ("30 3 * * *", ["28 02:30", "29 01:30", "30 01:30"]),
        ("*/30 2 * * *", ["28 01:00", "28 01:30", "30 00:00"]),  # real time: that day has no 02:00
    ],
)
def test_a_time_that_does_not_exist_fires_once_after_the_gap(text, expected):
    """Europe/Oslo, 29 March 2026: 02:00 is followed by 03:00."""
    assert firings(text, "Europe/Oslo", "2026-03-28T00:00:00+00:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["24 00:30", "25 00:30", "26 01:30"]),  # the first of the two
        (
            "*/30 2 * * *",
            ["24 00:00", "24 00:30", "25 00:00", "25 00:30", "25 01:00", "25 01:30", "26 01:00"],
        ),
        ("30 * * * *", [f"{24 + n // 24} {n % 24:02}:30" for n in range(30)]),
    ],
)
def test_a_time_that_exists_twice_fires_once_unless_it_follows_real_time(text, expected):
    """Europe/Oslo, 25 October 2026: 02:59 is followed by 02:00."""
    assert firings(text, "Europe/Oslo", "2026-10-23T23:59:00+00:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "zone", "first"),
    [
        ("*/20 2 31 10 *", "Europe/Berlin", "2027-10-31T00:00:00+00:00"),
        ("*/20 2 * * sun", "Europe/Berlin", "2027-10-31T00:00:00+00:00"),
        ("*/20 1 7 11 *", "America/New_York", "2027-11-07T05:00:00+00:00"),
    ],
)
def test_the_repeated_hour_of_a_rare_day_is_whole(text, zone, first):
    """Also when the next day that matches is a week or a year away."""
    start = datetime.fromisoformat(first)
    expected = [start + turn * timedelta(minutes=20) for turn in range(6)]
    rule, moment, found = CronRule(Cron.parse(text), ZoneInfo(zone)), start - timedelta(hours=1), []
    for _ in expected:
        moment = rule.next_after(moment)
        found.append(moment)
    assert found == expected


def test_asked_within_the_repeated_hour_no_firing_comes_again():
    """At 02:30 the second time, the 02:45 of that day has been."""
    rule = CronRule(Cron.parse("45 2 * * *"), ZoneInfo("Europe/Oslo"))
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert rule.next_after(second) == datetime(2026, 10, 26, 1, 45, tzinfo=UTC)


def test_a_change_by_half_an_hour_loses_no_minute():
    """Lord Howe, 4 October 2026: 02:00 is followed by 02:30, and the hour of 03 is whole."""
    found = firings("*/10 3 * * *", "Australia/Lord_Howe", "2026-10-03T15:00:00+00:00", 6)
    assert found == ["03 16:00", "03 16:10", "03 16:20", "03 16:30", "03 16:40", "03 16:50"]


def test_a_day_that_does_not_exist_fires_once():
    """Samoa had no 30 December 2011."""
    found = firings("0 9,17 * * *", "Pacific/Apia", "2011-12-29T12:00:00+00:00", 4)
    assert found == ["29 19:00", "30 03:00", "30 10:00", "30 19:00"]


def test_an_interval_is_counted_from_its_anchor():
    """Whoever asks whenever; a moment that is a firing is not its own next one."""
    quarter = IntervalRule(timedelta(minutes=15))
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert quarter.next_after(noon) == noon + timedelta(minutes=15)
    assert quarter.next_after(noon - timedelta(microseconds=1)) == noon
    anchored = IntervalRule(timedelta(days=7), datetime(2026, 1, 5, 6, tzinfo=UTC))
    assert anchored.next_after(noon) == datetime(2026, 1, 5, 6, tzinfo=UTC)  # before the anchor, too
    assert anchored.next_after(datetime(2026, 1, 5, 6, tzinfo=UTC)) == datetime(2026, 1, 12, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("europe/oslo", "Europe/Oslo"), ("Oslo", "Europe/Oslo"), ("Europe/Olso", "Europe/Oslo")],
)
def test_a_zone_that_is_not_there_has_near_names(written, meant):
    """By another case, by its city alone, by a slip."""
    assert find_zone(written) is None
    assert meant in nearest_zones(written)


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "/etc/localtime", "Mars/Olympus", "x" * 5000, "a\0b"]
)
def test_a_name_is_looked_for_in_the_list_and_not_on_the_disk(name):
    """Nothing that somebody writes becomes a path."""
    assert find_zone(name) is None
    assert isinstance(nearest_zones(name), list)


@pytest.mark.parametrize("name", ["localtime", "Factory"])
def test_what_each_machine_sets_for_itself_is_no_zone(name):
    """It lies among the zones, and would fire at another time after a move to another machine."""
    assert find_zone(name) is None
    assert name not in nearest_zones(name)
