"""Functions of numbers. An int stays an int; a double stays a double, as in CEL."""

# ruff: noqa: D103  # the table in this package's __init__ says what each function does

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reflux.core.expression.values import checked_int

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.expression.budget import Budget
    from reflux.core.expression.functions.signature import Implementation


def absolute(_budget: Budget, value: float) -> float:
    return checked_int(abs(value)) if isinstance(value, int) else abs(value)


def sign(_budget: Budget, value: float) -> float:
    if isinstance(value, int):
        return (value > 0) - (value < 0)
    return value if value == 0 or math.isnan(value) else math.copysign(1.0, value)


def _to_whole(rounding: Callable[[float], float]) -> Implementation:
    def call(_budget: Budget, value: float) -> float:
        if isinstance(value, int) or not math.isfinite(value):
            return value
        return math.copysign(float(rounding(value)), value)

    return call


def _half_away_from_zero(value: float) -> float:
    # Adding 0.5 would be wrong for 0.49999999999999994, whose sum rounds up to 1.
    whole = math.trunc(value)
    return whole + math.copysign(1, value) if abs(value - whole) >= 0.5 else whole


ceil = _to_whole(math.ceil)
floor = _to_whole(math.floor)
trunc = _to_whole(math.trunc)
rounded = _to_whole(_half_away_from_zero)
