"""Functions that take times apart. Months, days of the month, week and year count from 0, as in CEL;
only `getDate` counts from 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.expression.moments import Duration, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from reflux.core.expression.budget import Budget
    from reflux.core.expression.functions.signature import Implementation

_CALENDAR = 20  # units of work for finding a date


def date_part(read: Callable[[datetime], int]) -> Implementation:
    """A function of a timestamp and, if wanted, a zone."""

    def call(budget: Budget, value: Timestamp, zone: str = "UTC") -> int:
        budget.spend(_CALENDAR)
        return read(value.calendar(zone))

    return call


def time_part(read: Callable[[datetime], int], unit: int) -> Implementation:
    """A function that also takes a duration, of which it gives the whole length in `unit` nanoseconds."""

    def call(budget: Budget, value: Timestamp | Duration, zone: str = "UTC") -> int:
        budget.spend(_CALENDAR)
        if isinstance(value, Timestamp):
            return read(value.calendar(zone))
        return value.nanoseconds // unit if value.nanoseconds >= 0 else -(-value.nanoseconds // unit)

    return call
