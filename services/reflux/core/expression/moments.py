"""Points in time and lengths of time, inside expressions only: as results they become text.

Both count nanoseconds in an int, as CEL does; `datetime` stops at microseconds. There is no clock and
no time-zone database here (it lives in files, and changes): zones are UTC or fixed offsets.
Texts are those of protobuf JSON: RFC 3339 in UTC with `Z`, and seconds with `s`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from reflux.core.expression.errors import ErrorCode, Fault

SECOND: Final = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = -62_135_596_800 * SECOND  # 0001-01-01T00:00:00Z
_LAST = 253_402_300_800 * SECOND - 1  # 9999-12-31T23:59:59.999999999Z
_LONGEST = (1 << 63) - 1  # nanoseconds, as CEL has it: 292 years

_LONG = 64  # characters; no duration needs more

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
}
_TERM = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?(ns|us|µs|ms|s|m|h|d)")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-]?)([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time; `str()` gives `3600s` or `-0.500s`."""

    nanoseconds: int

    def __post_init__(self) -> None:
        if not -_LONGEST <= self.nanoseconds <= _LONGEST:
            raise Fault(ErrorCode.OVERFLOW, "this duration is longer than 292 years")

    def __str__(self) -> str:
        whole, rest = divmod(abs(self.nanoseconds), SECOND)
        return f"{'-' if self.nanoseconds < 0 else ''}{whole}{_fraction(rest)}s"


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A point in time, in nanoseconds since 1970; `str()` gives RFC 3339 in UTC."""

    nanoseconds: int

    def __post_init__(self) -> None:
        if not _FIRST <= self.nanoseconds <= _LAST:
            raise Fault(ErrorCode.OVERFLOW, "this timestamp is outside the years 0001 to 9999")

    def __str__(self) -> str:
        whole, rest = divmod(self.nanoseconds, SECOND)
        return f"{(_EPOCH + timedelta(seconds=whole)).isoformat()[:19]}{_fraction(rest)}Z"

    def calendar(self, zone: str) -> datetime:
        """Date and time of day, to the microsecond, in `zone`: `UTC` or an offset like `+02:00`.

        Raises:
            Fault: BAD_VALUE for another zone, OVERFLOW at the edges of the calendar.
        """
        found = _OFFSET.fullmatch(zone)
        if found is None and zone not in {"UTC", "Z"}:
            message = "a zone is 'UTC' or an offset such as '+02:00'; zones by name change over the years"
            raise Fault(ErrorCode.BAD_VALUE, message)
        offset = timedelta(0)
        if found is not None:
            offset = timedelta(hours=int(found[2]), minutes=int(found[3])) * (-1 if found[1] == "-" else 1)
        try:
            shown = _EPOCH + timedelta(microseconds=self.nanoseconds // 1_000)
            return shown.astimezone(timezone(offset))
        except (OverflowError, ValueError) as error:
            raise Fault(ErrorCode.OVERFLOW, "this timestamp has no date in that zone") from error


def parse_timestamp(text: str) -> Timestamp:
    """Read RFC 3339: `2026-02-03T04:05:06.789Z`, `2026-02-03T04:05:06+02:00`.

    Raises:
        Fault: BAD_VALUE, OVERFLOW.
    """
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        message = "this text is no timestamp; write it like '2026-02-03T04:05:06Z' (RFC 3339)"
        raise Fault(ErrorCode.BAD_VALUE, message)
    try:
        parts = [int(part) for part in found.group(1, 2, 3, 4, 5, 6)]
        since = datetime(*parts, tzinfo=UTC) - _EPOCH  # type: ignore[misc, arg-type]  # six ints
    except ValueError as error:
        raise Fault(
            ErrorCode.BAD_VALUE, "this text is no timestamp: there is no such date or time"
        ) from error
    offset = int(found[9] or 0) * 3_600 + int(found[10] or 0) * 60
    seconds = since.days * 86_400 + since.seconds - (-offset if found[8] == "-" else offset)
    return Timestamp(seconds * SECOND + int((found[7] or "").ljust(9, "0")))


def parse_duration(text: str) -> Duration:
    """Read `1h30m`, `-1.5s`, `250ms`, `7d`: numbers with units, largest first or not, one sign.

    Raises:
        Fault: BAD_VALUE, OVERFLOW.
    """
    position = 1 if text[:1] in {"-", "+"} else 0
    total = 0
    while len(text) <= _LONG and (found := _TERM.match(text, position)) is not None:
        unit = _UNITS[found[3]]
        fraction = found[2] or ""
        total += int(found[1]) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        position = found.end()
    if total == 0 and text in {"0", "-0", "+0"}:
        return Duration(0)
    if position < len(text) or text in {"", "-", "+"}:
        message = "this text is no duration; write it like '1h30m', '90s', '250ms' or '7d'"
        raise Fault(ErrorCode.BAD_VALUE, message)
    return Duration(-total if text[0] == "-" else total)


def _fraction(nanoseconds: int) -> str:
    """None, 3, 6 or 9 digits, as protobuf JSON writes them."""
    if not nanoseconds:
        return ""
    digits = f"{nanoseconds:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}" if digits else ""
