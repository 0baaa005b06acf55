"""The operators over two values, and equality and order, which functions share.

int and double mix: `1 == 1.0`, `2 * 1.5 == 3.0`. Between ints results are exact in int64 or an
OVERFLOW; division truncates towards zero and `%` has the sign of its left side, as in C and CEL.
With a double the rules of IEEE 754 hold. Values of different kinds are never equal and have no order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from reflux.core.document import MAX_DEPTH
from reflux.core.expression.budget import TIME_WORK
from reflux.core.expression.errors import ErrorCode, Fault
from reflux.core.expression.moments import Duration, Timestamp
from reflux.core.expression.values import (
    NUMBERS,
    SCALARS,
    TIMES,
    Value,
    checked_int,
    kind,
    to_double,
    with_article,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.expression.budget import Budget

_LONG = 256  # characters from which comparing strings is paid for
_TIMES = 4  # units for the order of two times
_ENTER = 6  # units for going into two lists or maps, beside their elements
_KEYS = frozenset({bool, int, float, str})  # what may be asked for; only a string is ever found
_ORDERED = frozenset({bool, int, float, str, Timestamp, Duration})


def _no_overload(operator: str, left: Value, right: Value) -> Fault:
    sides = f"{with_article(kind(left))} and {with_article(kind(right))}"
    hint = "; convert with string()" if operator == "+" and str in {type(left), type(right)} else ""
    return Fault(ErrorCode.WRONG_TYPE, f"'{operator}' is not defined for {sides}{hint}")


def add(budget: Budget, left: Value, right: Value) -> Value:
    """`+`: numbers, strings, lists, a time and a duration."""
    a, b = type(left), type(right)
    if a is int and b is int:
        return checked_int(left + right)
    if a in NUMBERS and b in NUMBERS:
        first, second = to_double(left), to_double(right)
        return first + second
    if a is str and b is str:
        budget.build_text(len(left) + len(right))
        return left + right
    if a is list and b is list:
        budget.build_items(len(left) + len(right))
        return left + right
    if a in TIMES and b in TIMES and Duration in {a, b}:
        budget.spend(TIME_WORK)
        total = left.nanoseconds + right.nanoseconds
        return Duration(total) if a is b else Timestamp(total)
    raise _no_overload("+", left, right)


def subtract(budget: Budget, left: Value, right: Value) -> Value:
    """`-`: numbers, times and durations."""
    a, b = type(left), type(right)
    if a is int and b is int:
        return checked_int(left - right)
    if a in NUMBERS and b in NUMBERS:
        first, second = to_double(left), to_double(right)
        return first - second
    if a in TIMES and (b is a or b is Duration):
        budget.spend(TIME_WORK)
        rest = left.nanoseconds - right.nanoseconds
        return Duration(rest) if a is b else Timestamp(rest)
    raise _no_overload("-", left, right)


def multiply(_budget: Budget, left: Value, right: Value) -> Value:
    """`*` of numbers."""
    if type(left) is int and type(right) is int:
        return checked_int(left * right)
    if type(left) in NUMBERS and type(right) in NUMBERS:
        first, second = to_double(left), to_double(right)
        return first * second
    raise _no_overload("*", left, right)


def divide(_budget: Budget, left: Value, right: Value) -> Value:
    """`/` of numbers; between ints the quotient without its fraction."""
    if type(left) is int and type(right) is int:
        if right == 0:
            raise Fault(ErrorCode.DIVISION_BY_ZERO, "division by zero")
        quotient = abs(left) // abs(right)
        return checked_int(quotient if (left < 0) == (right < 0) else -quotient)
    if type(left) in NUMBERS and type(right) in NUMBERS:
        first, second = to_double(left), to_double(right)
        if second:
            return first / second
        if first == 0 or math.isnan(first):
            return math.nan
        return math.copysign(math.inf, first) * math.copysign(1.0, second)
    raise _no_overload("/", left, right)


def modulo(budget: Budget, left: Value, right: Value) -> Value:
    """`%` of numbers, with the sign of `left`."""
    if type(left) is int and type(right) is int:
        # Where there is no quotient there is no rest: by zero, and of the least int by -1.
        return left - right * divide(budget, left, right)
    if type(left) in NUMBERS and type(right) in NUMBERS:
        if right == 0:
            raise Fault(ErrorCode.DIVISION_BY_ZERO, "division by zero")
        first, second = to_double(left), to_double(right)
        return math.nan if math.isinf(first) else math.fmod(first, second)
    raise _no_overload("%", left, right)


def equal(budget: Budget, left: Value, right: Value, depth: int = 0) -> bool:
    """`==`, through lists and maps.

    Raises:
        Fault: NOT_JSON for a foreign object, BUDGET_DEPTH, BUDGET_WORK.
    """
    a, b = type(left), type(right)
    if a is b:
        if a is str and len(left) > _LONG:
            budget.read(len(left))
        if a in SCALARS:
            return bool(left == right)
    elif a in NUMBERS and b in NUMBERS:
        return bool(left == right)
    kind(left)
    kind(right)
    if a is not b or len(left) != len(right):
        return False
    if depth >= MAX_DEPTH:
        raise Fault(ErrorCode.BUDGET_DEPTH, f"this value nests deeper than {MAX_DEPTH} levels")
    budget.spend(2 * len(left) + _ENTER)
    depth += 1
    # Loops: a generator for every small list would cost as much again as what is in it.
    if a is list:
        for x, y in zip(left, right, strict=True):  # noqa: SIM110
            if not equal(budget, x, y, depth):
                return False
        return True
    for key, x in left.items():  # noqa: SIM110
        if key not in right or not equal(budget, x, right[key], depth):
            return False
    return True


def differ(budget: Budget, left: Value, right: Value) -> bool:
    """`!=`."""
    return not equal(budget, left, right)


def comparable(budget: Budget, operator: str, left: Value, right: Value) -> None:
    """Check that two values have an order, and pay for finding it.

    Raises:
        Fault: WRONG_TYPE, BUDGET_WORK.
    """
    a, b = type(left), type(right)
    if not ((a is b and a in _ORDERED) or (a in NUMBERS and b in NUMBERS)):
        raise _no_overload(operator, left, right)
    if a is str:
        budget.read(min(len(left), len(right)))
    elif a in TIMES:
        budget.spend(_TIMES)


def less(budget: Budget, left: Value, right: Value) -> bool:
    """`<`."""
    comparable(budget, "<", left, right)
    return bool(left < right)


def less_or_equal(budget: Budget, left: Value, right: Value) -> bool:
    """`<=`."""
    comparable(budget, "<=", left, right)
    return bool(left <= right)


def greater(budget: Budget, left: Value, right: Value) -> bool:
    """`>`."""
    comparable(budget, ">", left, right)
    return bool(left > right)


def greater_or_equal(budget: Budget, left: Value, right: Value) -> bool:
    """`>=`."""
    comparable(budget, ">=", left, right)
    return bool(left >= right)


def contained(budget: Budget, left: Value, right: Value) -> bool:
    """`in`: an element of a list, or a key of a map."""
    if type(right) is dict and type(left) in _KEYS:
        return type(left) is str and left in right
    if type(right) is not list:
        raise _no_overload("in", left, right)
    kind(left)
    if type(left) is str:
        # Only a str equals a str, so the loop may run in C: eight elements for a unit of work.
        budget.spend((len(right) * (32 + (len(left) >> 3)) >> 8) + 1)
        return left in right
    budget.spend(len(right) + 1)
    return any(equal(budget, left, element) for element in right)


Operator: TypeAlias = "Callable[[Budget, Value, Value], Value]"

BINARY: dict[str, Operator] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
    "==": equal,
    "!=": differ,
    "<": less,
    "<=": less_or_equal,
    ">": greater,
    ">=": greater_or_equal,
    "in": contained,
}


def negate(value: Value) -> Value:
    """`-` before a number or a duration."""
    if type(value) is int:
        return checked_int(-value)
    if type(value) is float:
        return -value
    if type(value) is Duration:
        return Duration(-value.nanoseconds)
    raise Fault(ErrorCode.WRONG_TYPE, f"'-' is not defined for {with_article(kind(value))}")


def truth(value: Value, where: str) -> bool:
    """A bool; nothing else is taken for one.

    Raises:
        Fault: WRONG_TYPE.
    """
    if value is True or value is False:
        return bool(value)
    raise Fault(ErrorCode.WRONG_TYPE, f"{where} wants a bool, not {with_article(kind(value))}")
