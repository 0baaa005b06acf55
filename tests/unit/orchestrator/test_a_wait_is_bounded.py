"""How long a caller may wait for a run, and how that is written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reflux.core.errors import InvalidArgument
from reflux.orchestrator.waiting import parse_wait


def test_a_wait_is_a_duration_or_nothing():
    """Up to 300 s."""
    assert [parse_wait(text) for text in ("", "250ms", "5m")] == [
        None,
        timedelta(milliseconds=250),
        timedelta(minutes=5),
    ]


@pytest.mark.parametrize("text", ["5", "soon"])
def test_a_wait_without_a_unit_is_told_how_to_write_one(text):
    """And not that a number of seconds would do, which it has just been."""
    with pytest.raises(InvalidArgument) as refused:
        parse_wait(text)
    rule = "such as 250ms, 30s, 15m, 1h30m or 7d"
    assert refused.value.message == f"wait: a duration is written with its unit, {rule}; at most 300s"


def test_a_wait_that_is_too_long_is_told_the_longest():
    """In the form that can be sent."""
    with pytest.raises(InvalidArgument, match="wait: at most 300s"):
        parse_wait("301s")
