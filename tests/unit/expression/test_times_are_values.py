"""Timestamps and durations: read from text, computed with, written as text."""

from __future__ import annotations

import pytest

from reflux.core.expression import ErrorCode
from tests.unit.expression.language import failure, value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("timestamp('2026-02-03T04:05:06+02:00')", "2026-02-03T02:05:06Z"),
        ("timestamp('2026-02-03T04:05:06.120Z')", "2026-02-03T04:05:06.120Z"),
        ("timestamp('2026-02-03T04:05:06.000000001Z')", "2026-02-03T04:05:06.000000001Z"),
        ("timestamp('0001-01-01T00:00:00Z')", "0001-01-01T00:00:00Z"),
        ("timestamp(60)", "1970-01-01T00:01:00Z"),
        ("timestamp(run.started_at) + duration('7d')", "2026-03-07T00:00:00Z"),
        ("timestamp(run.started_at) - timestamp('2026-02-27T23:59:00Z')", "60s"),
        ("duration('1h30m') - duration('90m')", "0s"),
        ("duration('-1.5s')", "-1.500s"),
        ("-duration('1m')", "-60s"),
        ("duration('250ms') < duration('1s')", True),
        ("timestamp(0) < timestamp(1)", True),
        ("[duration('2s'), duration('1s')].sort()", ["1s", "2s"]),
        ("{'at': timestamp(0), 'n': 1}", {"at": "1970-01-01T00:00:00Z", "n": 1}),
        ("'at ' + string(timestamp(0))", "at 1970-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_computed_exactly_and_becomes_text(source: str, expected: object) -> None:
    """To the nanosecond, in the spelling of protobuf JSON."""
    assert value(source, run={"started_at": "2026-02-28T00:00:00Z"}) == expected


@pytest.mark.parametrize(
    ("part", "utc", "east"),
    [
        ("getFullYear", 2024, 2025),
        ("getMonth", 11, 0),
        ("getDate", 31, 1),
        ("getDayOfMonth", 30, 0),
        ("getDayOfWeek", 2, 3),
        ("getDayOfYear", 365, 0),
        ("getHours", 23, 1),
        ("getMinutes", 30, 0),
        ("getSeconds", 15, 15),
        ("getMilliseconds", 250, 250),
    ],
)
def test_a_part_of_a_date_is_read_in_utc_or_at_an_offset(part: str, utc: int, east: int) -> None:
    """New year's eve of a leap year, a Tuesday, is Wednesday further east."""
    moment = "timestamp('2024-12-31T23:30:15.25Z')"
    assert value(f"{moment}.{part}()") == utc
    assert value(f"{moment}.{part}('+01:30')") == east


def test_a_part_of_a_duration_is_its_whole_length() -> None:
    """Truncated towards zero."""
    parts = "[d.getHours(), d.getMinutes(), d.getSeconds(), d.getMilliseconds()]"
    assert value(f"[duration('-90m')].map(d, {parts})[0]") == [-1, -90, -5_400, -5_400_000]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("timestamp('2026-02-30T00:00:00Z')", ErrorCode.BAD_VALUE),
        ("timestamp('2026-02-03')", ErrorCode.BAD_VALUE),
        ("timestamp('2026-02-03T04:05:06+24:00')", ErrorCode.BAD_VALUE),
        ("duration('')", ErrorCode.BAD_VALUE),
        ("duration('5')", ErrorCode.BAD_VALUE),
        ("duration('1h-5m')", ErrorCode.BAD_VALUE),
        ("timestamp(0).getHours('Europe/Oslo')", ErrorCode.BAD_VALUE),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", ErrorCode.OVERFLOW),
        ("timestamp('0001-01-01T00:00:00Z').getHours('-01:00')", ErrorCode.OVERFLOW),
        ("duration('200000d')", ErrorCode.OVERFLOW),
        ("timestamp(0) + timestamp(0)", ErrorCode.WRONG_TYPE),
        ("timestamp(0) < duration('1s')", ErrorCode.WRONG_TYPE),
        ("timestamp(0) + 1", ErrorCode.WRONG_TYPE),
    ],
)
def test_a_time_that_does_not_exist_is_an_error(source: str, code: ErrorCode) -> None:
    """Nothing rolls over, and no zone is looked up by name."""
    assert failure(source).code is code
