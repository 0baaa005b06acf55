"""Durations as people write them: `250ms`, `15m`, `1h30m`, or a number of seconds.

Units are `d h m s ms`, each at most once and in this order; whole numbers before a unit, and one decimal
fraction where there is only one unit (`1.5s`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(
    r"(?:(?P<days>\d{1,6})d)?(?:(?P<hours>\d{1,9})h)?(?:(?P<minutes>\d{1,9})m(?!s))?"
    r"(?:(?P<seconds>\d{1,9})s)?(?:(?P<milliseconds>\d{1,12})ms)?",
    re.ASCII,
)
_FRACTION = re.compile(r"(?P<number>\d{1,9}\.\d{1,6})(?P<unit>ms|[dhms])", re.ASCII)
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_MAX_SECONDS = 1e11  # more is no time that anybody means, and a timedelta would overflow

LONGEST_WAIT = timedelta(days=366)
"""No `wait` is longer."""

SHORTEST_WAIT = timedelta(milliseconds=1)

RULE = "such as 250ms, 30s, 15m, 1h30m or 7d"


def parse_duration(value: object) -> timedelta:
    """Read a text, or a number as seconds.

    >>> parse_duration("1h30m")
    datetime.timedelta(seconds=5400)

    Raises:
        ValueError: neither, or negative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_SECONDS:
        return timedelta(seconds=value)
    if isinstance(value, str):
        fraction = _FRACTION.fullmatch(value)
        if fraction:
            return timedelta(seconds=float(fraction["number"]) * _SECONDS[fraction["unit"]])
        parts = _DURATION.fullmatch(value)
        if value and parts:
            return timedelta(**{unit: int(number) for unit, number in parts.groupdict(default="0").items()})
    wanted = f"a text {RULE}, or a number of seconds"
    if isinstance(value, str):  # where only texts can be sent, as in a URL, a number is no way out
        wanted = f"written with its unit, {RULE}"
    raise ValueError(f"a duration is {wanted}")


def parse_moment(value: object) -> datetime:
    """Read a point in time with its zone, as RFC 3339 writes it; the result is in UTC.

    >>> parse_moment("2026-01-31T12:00:00+01:00").isoformat()
    '2026-01-31T11:00:00+00:00'

    Raises:
        ValueError: it is none, has no zone, or lies before the year 1 or after 9999.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("a point in time is a text with its zone, such as 2026-01-31T12:00:00Z")


def format_moment(moment: datetime) -> str:
    """RFC 3339 in UTC, as expressions see points in time.

    >>> format_moment(datetime(2026, 1, 31, 12, tzinfo=UTC))
    '2026-01-31T12:00:00Z'
    """
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def format_duration(duration: timedelta) -> str:
    """The text that `parse_duration` reads as `duration`, to the millisecond.

    >>> format_duration(timedelta(seconds=90, milliseconds=5))
    '1m30s5ms'
    """
    rest = round(duration / timedelta(milliseconds=1))
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"
