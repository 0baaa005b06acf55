"""Which partitions there should be, from the time and from those there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from reflux.orchestrator.store.partitions import AHEAD, Span, wanted, without
from reflux.orchestrator.upkeep import Terms

WEEK, DAY = timedelta(days=7), timedelta(days=1)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
NOW = MONDAY + timedelta(days=3, hours=22)


def _weeks(first: int, end: int) -> list[Span]:
    return [Span(MONDAY + number * WEEK, MONDAY + (number + 1) * WEEK) for number in range(first, end)]


def test_the_present_and_what_comes_next_are_wanted() -> None:
    """Of weeks, from the Monday before on."""
    assert wanted([], NOW, WEEK) == _weeks(0, 1 + AHEAD)
    assert [span.name for span in _weeks(0, 2)] == ["20261123", "20261130"]


@pytest.mark.parametrize("now", [MONDAY, MONDAY + WEEK - timedelta(microseconds=1)])
def test_a_moment_on_the_boundary_belongs_to_what_begins_there(now: datetime) -> None:
    """The first microsecond and the last one of a week want the same."""
    assert wanted([], now, WEEK) == _weeks(0, 1 + AHEAD)


def test_what_is_there_is_not_wanted_again() -> None:
    """Nothing when all is there; holes and what is missing at the end otherwise."""
    assert wanted(_weeks(-5, 1 + AHEAD), NOW, WEEK) == []
    assert wanted([*_weeks(0, 1), *_weeks(2, 3)], NOW, WEEK) == _weeks(1, 2)
    assert wanted(_weeks(-5, 0), NOW, WEEK) == _weeks(0, 1 + AHEAD)


@pytest.mark.parametrize(("former", "period"), [(WEEK, DAY), (DAY, WEEK), (WEEK, 10 * DAY), (10 * DAY, WEEK)])
def test_another_period_goes_on_where_the_former_one_ends(former: timedelta, period: timedelta) -> None:
    """Without a gap and without an overlap, whatever the two are, and far enough ahead."""
    known = wanted([], NOW, former)
    new = wanted(known, NOW, period)
    spans = sorted([*known, *new])
    assert all(one.end == other.first for one, other in pairwise(spans))
    assert spans[-1].end >= NOW + AHEAD * period
    assert len({span.name for span in spans}) == len(spans)
    assert wanted(spans, NOW, period) == []


@pytest.mark.parametrize(
    ("retention", "period"), [(0, 30), (7, 1), (8, 2), (30, 7), (90, 22), (120, 30), (36_500, 30)]
)
def test_a_partition_holds_a_quarter_of_the_retention_and_at_most_a_month(
    retention: int, period: int
) -> None:
    """So there are some ten of them; nothing is forgotten when nothing is said."""
    kept = timedelta(days=retention) if retention else None
    assert Terms.of_days(retention) == Terms(timedelta(days=period), kept)


def test_what_no_partition_holds_is_told_up_to_a_moment() -> None:
    """The time before the first one, and every hole."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert without([], NOW) == [Span(epoch, NOW)]
    assert without(_weeks(0, 3), NOW) == [Span(epoch, MONDAY)]
    assert without([*_weeks(-3, -2), *_weeks(-1, 0)], NOW) == [
        Span(epoch, MONDAY - 3 * WEEK),
        *_weeks(-2, -1),
        Span(MONDAY, NOW),
    ]
