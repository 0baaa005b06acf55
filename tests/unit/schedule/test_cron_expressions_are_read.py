"""The five fields of cron(5): what they mean, and what is told about those that mean nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from reflux.core.schedule import Cron, CronProblem, CronRule

START = datetime(2026, 1, 1, 12, 7, 30, tzinfo=UTC)  # a Thursday


def firings(text: str, count: int = 3, start: datetime = START) -> list[str]:
    rule, found, moment = CronRule(Cron.parse(text), ZoneInfo("UTC")), [], start
    for _ in range(count):
        moment = rule.next_after(moment)
        found.append(moment.strftime("%y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", ["26-01-01 12:08", "26-01-01 12:09", "26-01-01 12:10"]),
        ("*/30 9-10 * * mon-fri", ["26-01-02 09:00", "26-01-02 09:30", "26-01-02 10:00"]),
        ("0 2 * * *", ["26-01-02 02:00", "26-01-03 02:00", "26-01-04 02:00"]),
        ("15,45 10 1 JAN,jul *", ["26-07-01 10:15", "26-07-01 10:45", "27-01-01 10:15"]),
        ("0 0 * * 7", ["26-01-04 00:00", "26-01-11 00:00", "26-01-18 00:00"]),
        ("0 0 * * 5-7", ["26-01-02 00:00", "26-01-03 00:00", "26-01-04 00:00"]),
        ("0 0 29 2 *", ["28-02-29 00:00", "32-02-29 00:00", "36-02-29 00:00"]),
        ("@weekly", ["26-01-04 00:00", "26-01-11 00:00", "26-01-18 00:00"]),
        ("@HOURLY", ["26-01-01 13:00", "26-01-01 14:00", "26-01-01 15:00"]),
        ("0 0 1-7/3 2 *", ["26-02-01 00:00", "26-02-04 00:00", "26-02-07 00:00"]),
    ],
)
def test_fields_name_times_and_days(text, expected):
    """Numbers, names, ranges, steps, lists, aliases; both ends of a range belong to it."""
    assert firings(text) == expected


def test_two_day_fields_are_either_or_unless_one_begins_with_a_star():
    """As cron has it since 1979: the 13th and every Friday; with a `*` in front, both must hold."""
    assert firings("0 0 13 * fri") == ["26-01-02 00:00", "26-01-09 00:00", "26-01-13 00:00"]
    assert firings("0 0 */13 * fri") == ["26-02-27 00:00", "26-03-27 00:00", "26-05-01 00:00"]


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 feb *", "0 0 31 2,4 */2"])
def test_what_never_fires_is_told(text):
    """Also where it takes decades to be sure."""
    with pytest.raises(CronProblem, match="never fires"):
        Cron.parse(text)


def test_what_comes_after_eight_years_comes():
    """There is no 29 February in 2100, and a 29 February on a certain weekday comes once in 28 years."""
    assert firings("0 0 29 2 *", 1, datetime(2096, 3, 1, tzinfo=UTC)) == ["04-02-29 00:00"]
    assert firings("0 0 29-31/1 2 *", 1) == ["28-02-29 00:00"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("1 2 3", "has 3", "minute hour"),
        ("0 * * * * *", "has 6", "no seconds"),
        ("", "has 0", "minute hour"),
        ("@reboot", "none of the schedules", "@daily"),
        ("60 * * * *", "'60' is nothing in the field minute", "0 to 59"),
        ("* 24 * * *", "field hour", "0 to 23"),
        ("* * 0 * *", "field day of month", "1 to 31"),
        ("* * * 13 *", "field month", "jan"),
        ("* * * * 8", "field day of week", "sun"),
        ("* * * * fri-mon", "goes backwards", "5-7,0-1"),
        ("5/15 * * * *", "where its steps begin", "5-59/15"),
        ("*/0 * * * *", "step of '*/0'", ""),
        ("*/99 * * * *", "step of '*/99'", ""),
        ("0 0 L * *", "another kind of cron", ""),
        ("0 0 15W * *", "another kind of cron", ""),
        ("0 0 ? * *", "another kind of cron", ""),
        ("0 0 * * 5#2", "another kind of cron", ""),
        ("0 0 * * 5L", "another kind of cron", ""),
        ("1,,2 * * * *", "'' is nothing", ""),
        ("-1 * * * *", "'-1' is nothing", ""),
        ("٣ * * * *", "is nothing", ""),
        ("0 " * 300, "has 300", ""),
    ],
)
def test_what_is_no_expression_is_refused_with_what_to_write(text, message, hint):
    """The message names the term and its field."""
    with pytest.raises(CronProblem) as refused:
        Cron.parse(text)
    assert message in refused.value.message
    assert hint in refused.value.hint
