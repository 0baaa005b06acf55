"""Cron expressions, over the local clock alone: which days and which times of the day they name.

What a local time means in UTC is not asked here (`rules`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT: Final = 200
"""Characters of an expression."""
HORIZON_YEARS: Final = 40
"""Within which everything that can ever match does: a 29 February on a certain weekday comes at least once in
40 years, also across a century that has none."""

_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TERM: Final = re.compile(r"(?P<range>\*|(?P<low>[a-z0-9]+)(?:-(?P<high>[a-z0-9]+))?)(?:/(?P<step>\d{1,4}))?")
_FOREIGN: Final = re.compile(r"[?#]|(?:^|[,\d])[lw]+(?:$|[,/-])")
"""What Quartz and others have: `?`, `5#2`, `L`, `15W`."""
_MINUTES_OF_DAY: Final = 24 * 60


class CronProblem(ValueError):
    """The text is no cron expression, or never fires; `hint` says what to write."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields."""

    name: str
    low: int
    high: int
    names: Mapping[str, int]


_FIELDS: Final = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression. Made by `Cron.parse`."""

    text: str
    """As it was written."""
    times: tuple[int, ...]
    """Minutes since midnight, rising."""
    days: frozenset[int]
    """Of the month, 1 to 31."""
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Monday, as `date.weekday` counts."""
    both_days: bool
    """A day must match `days` and `weekdays`; else one of them."""
    real_time: bool
    """Minute or hour is written with a `*`: what a change of the clock means differs (see the package)."""

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read five fields, or an alias such as `@daily`.

        >>> Cron.parse("*/30 9-10 * * mon-fri").times
        (540, 570, 600, 630)

        Raises:
            CronProblem: it is none, or no day ever matches.
        """
        words = _ALIASES.get(text.strip().lower(), text).lower().split()
        if len(text) > MAX_TEXT or len(words) != len(_FIELDS):
            _refuse_shape(text, len(words))
        minutes, hours, days, months, weekdays = (
            _read(field, word) for field, word in zip(_FIELDS, words, strict=True)
        )
        cron = cls(
            text=text,
            times=tuple(hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)),
            days=frozenset(days),
            months=frozenset(months),
            weekdays=frozenset((day - 1) % 7 for day in weekdays),
            both_days=words[2].startswith("*") or words[4].startswith("*"),
            real_time="*" in words[0] or "*" in words[1],
        )
        if cron.next_local(datetime(1999, 12, 31)) is None:  # noqa: DTZ001 - a local clock
            message = f"{text.strip()[:100]!r} never fires: no month of {words[3]} has a day {words[2]}"
            raise CronProblem(message, "write a day that the month has; the last one cannot be named")
        return cron

    def next_local(self, after: datetime) -> datetime | None:
        """The next matching time of a clock that is never changed; `after` and the answer are naive.

        None: none within `HORIZON_YEARS`.
        """
        start = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
        day, earliest = start.date(), start.hour * 60 + start.minute
        last_year = day.year + HORIZON_YEARS
        while day.year <= last_year:
            if day.month not in self.months:
                day, earliest = _first_of_next_month(day), 0
                continue
            if self.matches_day(day):
                place = bisect_left(self.times, earliest)
                if place < len(self.times):
                    hour, minute = divmod(self.times[place], 60)
                    return datetime.combine(day, time(hour, minute))
            day, earliest = day + timedelta(days=1), 0
        return None

    def matches_day(self, day: date) -> bool:
        """Whether something happens on that day."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.weekday() in self.weekdays
        return (of_month and of_week) if self.both_days else (of_month or of_week)


def _first_of_next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _read(field: _Field, word: str) -> set[int]:
    """The numbers that a field names."""
    if _FOREIGN.search(word):
        message = f"{word!r} in the field {field.name} belongs to another kind of cron"
        raise CronProblem(message, "the five fields of cron have * , - / numbers and names")
    values: set[int] = set()
    for term in word.split(","):
        values |= _term(field, term)
    return values


def _term(field: _Field, term: str) -> set[int]:
    read = _TERM.fullmatch(term)
    if read is None:
        _refuse(field, term)
    low, high = field.low, field.high
    if read["low"] is not None:
        low = _number(field, read["low"])
        high = low if read["high"] is None else _number(field, read["high"])
        if read["step"] is not None and read["high"] is None:
            message = f"{term!r} in the field {field.name} says where its steps begin and not where they end"
            raise CronProblem(message, f"write {low}-{field.high}/{read['step']}")
    elif field.high == 7:
        high = 6
    if low > high:
        message = f"{term!r} in the field {field.name} goes backwards"
        raise CronProblem(message, f"write two ranges, {low}-{field.high},{field.low}-{high}")
    step = 1 if read["step"] is None else int(read["step"])
    if not 1 <= step <= field.high:
        message = f"the step of {term!r} in the field {field.name} is not between 1 and {field.high}"
        raise CronProblem(message)
    return set(range(low, high + 1, step))


def _number(field: _Field, text: str) -> int:
    number = field.names.get(text)
    if number is None and text.isdecimal() and len(text) <= 4:
        number = int(text)
    if number is None or not field.low <= number <= field.high:
        _refuse(field, text)
    return number


def _refuse(field: _Field, term: str) -> NoReturn:
    names = f" or {', '.join(field.names)}" if field.names else ""
    hint = f"write {field.low} to {field.high}{names}, as in 1,2 or 1-5 or */2"
    raise CronProblem(f"{term[:50]!r} is nothing in the field {field.name}", hint)


def _refuse_shape(text: str, count: int) -> NoReturn:
    shown = text.strip()[:100]
    if shown.startswith("@"):
        hint = f"one of: {', '.join(_ALIASES)}"
        raise CronProblem(f"{shown!r} is none of the schedules that have a name", hint)
    hint = "minute hour day-of-month month day-of-week, such as 0 2 * * mon-fri"
    if count == len(_FIELDS) + 1:
        hint = "there are no seconds: write five fields, or a trigger of type interval"
    raise CronProblem(f"a cron expression has five fields, and {shown!r} has {count}", hint)
