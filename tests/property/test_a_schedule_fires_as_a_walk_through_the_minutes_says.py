"""The evaluator against an oracle that looks at every minute: no jumps, no search, no sums of offsets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.core.schedule import Cron, CronProblem, CronRule

MINUTE = timedelta(minutes=1)
# Zones with a moment near which their clock changes: forward, back, by half an hour, over midnight, by a day.
CHANGES = [
    ("Europe/Oslo", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Oslo", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 6, 1, tzinfo=UTC)),
    ("UTC", datetime(2027, 12, 31, 23, tzinfo=UTC)),
]


def field(low: int, high: int, wild: int) -> st.SearchStrategy[str]:
    """One field: a `*`, with steps or not, numbers, ranges, lists of them."""
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    term = st.one_of(
        number.map(str),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(pair, st.integers(1, 7)).map(lambda t: f"{t[0][0]}-{t[0][1]}/{t[1]}"),
        st.integers(2, 15).filter(lambda step: step <= high).map(lambda step: f"*/{step}"),
    )
    some = st.lists(term, min_size=1, max_size=3).map(",".join)
    return st.one_of(*[st.just("*")] * wild, some)


EXPRESSIONS = st.tuples(
    field(0, 59, 1), field(0, 23, 1), field(1, 31, 4), field(1, 12, 6), field(0, 7, 4)
).map(" ".join)


def of_that_day(name: str, moment: datetime) -> st.SearchStrategy[str]:
    """Expressions of the hours around a change, on its day alone: of the year, the week or the month."""
    shown = moment.astimezone(ZoneInfo(name))
    minutes = st.one_of(st.sampled_from(["*", "*/20", "*/7"]), field(0, 59, 1))
    hours = st.sampled_from(["*", *(str((shown.hour + hours) % 24) for hours in (-2, -1, 0, 1, 2))])
    days = st.sampled_from([f"{shown.day} {shown.month} *", f"* * {shown.isoweekday()}", f"{shown.day} * *"])
    return st.tuples(minutes, hours, days).map(" ".join)


@cache
def numbers(word: str, low: int, high: int) -> frozenset[int]:
    """What a field names, read another way: by striking out."""
    named = set()
    for term in word.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        ends = (low, high) if span == "*" else (int(first), int(last or first))
        named |= {
            n for n in range(low, high + 1) if ends[0] <= n <= ends[1] and (n - ends[0]) % int(step or 1) == 0
        }
    return frozenset(named)


def matches(expression: str, local: datetime) -> bool:
    minute, hour, day, month, weekday = expression.split()
    days, weekdays = numbers(day, 1, 31), {n % 7 for n in numbers(weekday, 0, 6 if weekday[0] == "*" else 7)}
    of_month, of_week = local.day in days, local.isoweekday() % 7 in weekdays
    either = day[0] != "*" and weekday[0] != "*"
    return (
        local.minute in numbers(minute, 0, 59)
        and local.hour in numbers(hour, 0, 23)
        and local.month in numbers(month, 1, 12)
        and ((of_month or of_week) if either else (of_month and of_week))
    )


def walk(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Every firing after `start` and up to `end`.

    With a `*` a minute fires when what the clock shows matches. Without one, it fires when the clock has
    come, or leapt, to a time that it had never shown before, and something on the way there matches.
    """
    real_time = any("*" in word for word in expression.split()[:2])
    firings = []
    moment = start - timedelta(days=2)
    furthest = None
    while moment <= end:
        shown = moment.astimezone(zone).replace(tzinfo=None)
        if real_time:
            fires = moment > start and matches(expression, shown)
        else:
            furthest = furthest or shown - MINUTE
            fires = False
            while furthest < shown:
                furthest += MINUTE
                fires = fires or (moment > start and matches(expression, furthest))
        if fires:
            firings.append(moment)
        moment += MINUTE
    return firings


def compare(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> None:
    """Every firing of both after `start` and up to `end`."""
    try:
        cron = Cron.parse(expression)
    except CronProblem:
        return  # no day ever matches; unit tests say when
    expected = walk(expression, zone, start, end)
    rule, found, last = CronRule(cron, zone), [], start
    while (following := rule.next_after(last)) is not None and following <= end:
        found.append(following)
        last = following
    assert found == expected


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, st.sampled_from(CHANGES), st.integers(-2000, 120))
def test_every_firing_is_found_in_order_and_nothing_else(expression, change, shift):
    """Over two days around a change of the clock, from any minute on, also from one that is shown twice."""
    name, moment = change
    start = moment + shift * MINUTE
    compare(expression, ZoneInfo(name), start, start + timedelta(days=2))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CHANGES).flatmap(lambda change: st.tuples(of_that_day(*change), st.just(change))))
def test_the_day_of_a_change_is_whole_when_the_next_one_is_far_away(expression_and_change):
    """What is looked for after it is a month or a year away, and the clock shows its hours once more."""
    expression, (name, moment) = expression_and_change
    compare(expression, ZoneInfo(name), moment - timedelta(days=1), moment + timedelta(days=1))


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, st.sampled_from(CHANGES), st.integers(-200, 200), st.integers(0, 59))
def test_what_comes_next_does_not_depend_on_where_in_between_one_asks(expression, change, shift, second):
    """A poll a second later sees the same next firing, or the one after a firing that has passed."""
    try:
        rule = CronRule(Cron.parse(expression), ZoneInfo(change[0]))
    except CronProblem:
        return
    moment = change[1] + timedelta(minutes=shift, seconds=second)
    following = rule.next_after(moment)
    assert following > moment
    between = moment + (following - moment) / 2
    assert rule.next_after(between) == following
