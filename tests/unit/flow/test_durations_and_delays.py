"""Durations as people write them, and how long a retry waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflux.core.flow import Jitter, Retry
from reflux.core.flow.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("15m", 900),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("1.5s", 1.5),
        ("1m30s5ms", 90.005),
        (30, 30),
        (0.5, 0.5),
        ("0s", 0),
    ],
)
def test_a_duration_is_read(text, seconds):
    """Units in falling order, or a number of seconds."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "1s1m", "1 h", "-1s", "1.5m30s", "1e3s", "٣s", -1, True, None, [], float("nan"), 1e300],
)
def test_what_is_no_duration_is_refused(text):
    """Also a bare number as text: nobody could tell its unit."""
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(text)


@pytest.mark.parametrize(("given", "numbers"), [("5", False), ("soon", False), (-1, True), ([], True)])
def test_numbers_are_proposed_only_where_one_could_be_given(given, numbers):
    """Who sends the text `5` reads of its unit, not that a number of seconds is fine: he has sent one."""
    with pytest.raises(ValueError, match="such as 250ms") as refused:
        parse_duration(given)
    assert ("with its unit" in str(refused.value), "number of seconds" in str(refused.value)) == (
        not numbers,
        numbers,
    )


@given(st.integers(0, 10**12))
def test_a_duration_written_is_read_back(milliseconds):
    """To the millisecond, whatever its length."""
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


def test_delays_grow_to_the_cap():
    """delay, delay·factor, … and never more than cap."""
    retry = Retry(
        attempts=9, delays=(timedelta(seconds=1),), factor=3, cap=timedelta(seconds=10), jitter=Jitter.NONE
    )
    assert [retry.delay_before(n, 0.0).total_seconds() for n in (2, 3, 4, 5, 100)] == [1, 3, 9, 10, 10]


@given(st.floats(0, 1, exclude_max=True), st.integers(2, 100))
def test_full_jitter_spreads_over_the_whole_delay(randomness, attempt):
    """Between nothing and the delay, in proportion."""
    plain, full = Retry(jitter=Jitter.NONE), Retry(jitter=Jitter.FULL)
    bound = plain.delay_before(attempt, 0.0)
    assert full.delay_before(attempt, randomness) == timedelta(seconds=bound.total_seconds() * randomness)


def test_the_first_attempt_waits_for_nothing():
    """Asking for its delay is a mistake of the caller."""
    with pytest.raises(ValueError, match="only a retry waits"):
        Retry().delay_before(1, 0.0)
