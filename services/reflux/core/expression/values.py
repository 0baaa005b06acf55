"""The values of expressions: those of JSON, and two kinds of time that become text at the end.

    kind        Python type            as JSON
    null        None
    bool        bool
    int         int, in int64          arithmetic beyond int64 is an error, never a wrap or a double
    double      float                  NaN and infinities may occur on the way, not in a result
    string      str
    list        list
    map         dict with str keys
    timestamp   moments.Timestamp      RFC 3339 text
    duration    moments.Duration       text such as "3600s"

Kinds are told by `type(value)`, exactly: a bool is no int. Any other Python object, a StrEnum for
instance, is refused where it is met, because comparing it would silently be false.
Values are shared and never changed; whoever builds one makes a new object.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from reflux.core.document import MAX_DEPTH
from reflux.core.expression.budget import (
    CONTAINER_WEIGHT,
    MAX_SIZE,
    TIME_WEIGHT,
    TIME_WORK,
    VALUE_WEIGHT,
    Budget,
    too_large,
)
from reflux.core.expression.errors import ErrorCode, Fault
from reflux.core.expression.moments import Duration, Timestamp

if TYPE_CHECKING:
    from reflux.core.document import JsonValue

Value: TypeAlias = Any
"""Any value of the table above. It is `Any` because kinds are found by table look-ups on `type(value)`,
which a type checker cannot follow; what leaves the package is a checked `JsonValue`."""

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1

NUMBERS = frozenset({int, float})
TIMES = frozenset({Timestamp, Duration})
SCALARS = frozenset({type(None), bool, int, float, str, Timestamp, Duration})
KINDS: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    list: "list",
    dict: "map",
    Timestamp: "timestamp",
    Duration: "duration",
}
_FINISHED = frozenset({type(None), bool, int, str})


def kind(value: Value) -> str:
    """The name of the value's kind.

    Raises:
        Fault: NOT_JSON for a foreign object.
    """
    try:
        return KINDS[type(value)]
    except KeyError:
        raise Fault(ErrorCode.NOT_JSON, f"a Python {type(value).__name__} is no JSON value") from None


def with_article(noun: str) -> str:
    """`an int`, `a list`; null stays as it is."""
    if noun == "null":
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def described(value: Value) -> str:
    """The kind of a value in a sentence: `a list`, `an int`, `null`."""
    return with_article(kind(value))


def checked_int(value: int) -> int:
    """The value, if it is in the range of int64.

    Raises:
        Fault: OVERFLOW.
    """
    if INT_MIN <= value <= INT_MAX:
        return value
    raise Fault(ErrorCode.OVERFLOW, "this number is outside the range of int (64 bits); use double()")


def to_double(value: float) -> float:
    """A number as a double.

    Raises:
        Fault: OVERFLOW for an int from outside that is beyond even a double.
    """
    try:
        return float(value)
    except OverflowError as error:
        raise Fault(ErrorCode.OVERFLOW, "this number is outside the range of double") from error


def double_text(value: float) -> str:
    """The shortest decimal that reads back as `value`, without `.0`: `12`, `0.1`, `1e+22`.

    Raises:
        Fault: NOT_JSON for NaN and infinities.
    """
    if not math.isfinite(value):
        raise Fault(ErrorCode.NOT_JSON, "this number is not finite, so it has no text")
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


def scalar_text(value: Value) -> str | None:
    """How a value is written in text; None for null, lists and maps."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return double_text(value)
        case int() | Timestamp() | Duration():
            return str(value)
        case _:
            return None


def to_text(budget: Budget, value: Value) -> str:
    """How a value appears in the text of a template: maps and lists as compact JSON.

    Raises:
        Fault: NULL_IN_TEXT, NOT_JSON, BUDGET_SIZE, BUDGET_DEPTH, BUDGET_WORK.
    """
    if type(value) is str:
        return value
    if value is None:
        raise Fault(ErrorCode.NULL_IN_TEXT, "this is null, which has no text; give a default with '??'")
    if type(value) in SCALARS:
        return scalar_text(value) or ""
    return json_text(budget, value)


def json_text(budget: Budget, value: Value) -> str:
    """The value as compact JSON.

    Raises:
        Fault: NOT_JSON, BUDGET_SIZE, BUDGET_DEPTH, BUDGET_WORK.
    """
    sealer = Sealer(MAX_SIZE, budget)
    sealed = sealer.seal(value)
    budget.build_text(MAX_SIZE - sealer.room)
    try:
        text = orjson.dumps(sealed).decode()
    except TypeError as error:  # lone surrogates, integers beyond 64 bits
        raise Fault(ErrorCode.NOT_JSON, "this value has no JSON form") from error
    budget.build_text(len(text))  # escapes may have made it longer
    return text


def seal(budget: Budget, value: Value, around: int = 0) -> JsonValue:
    """A result: JSON, not deeper than MAX_DEPTH inside of `around` levels, within the room of its document.

    Parts that are JSON already are shared with `value`; only what holds times is copied.

    Raises:
        Fault: NOT_JSON, BUDGET_SIZE, BUDGET_DEPTH.
    """
    if type(value) in _FINISHED:
        if type(value) is str:
            budget.keep(len(value))
        return value  # type: ignore[no-any-return]
    sealer = Sealer(budget.room)
    sealed: JsonValue = sealer.seal(value, around)
    budget.room = sealer.room
    return sealed


class Sealer:
    """Checks that values together fit into `room`. A value used twice counts twice, since it is written
    twice. What is a step on the way rather than a result also pays from a budget for being walked through.
    """

    __slots__ = ("_budget", "room")

    def __init__(self, room: int, budget: Budget | None = None) -> None:
        self._budget = budget
        self.room = room

    def seal(self, value: Value, depth: int = 0) -> Value:
        """As `seal()`, within the room that earlier results left."""
        form = type(value)
        if form is list or form is dict:
            return self._container(value, depth)
        if form in _FINISHED:
            self._take(VALUE_WEIGHT if form is not str else VALUE_WEIGHT + len(value))
            return value
        if form is float:
            if not math.isfinite(value):
                raise Fault(ErrorCode.NOT_JSON, "this number is not finite, so it has no JSON form")
            self._take(VALUE_WEIGHT)
            return value
        if form in TIMES:
            if self._budget is not None:
                self._budget.spend(TIME_WORK)
            self._take(TIME_WEIGHT)
            return str(value)
        kind(value)
        raise AssertionError(form)

    def _container(self, value: Value, depth: int) -> Value:
        if depth >= MAX_DEPTH:
            raise Fault(ErrorCode.BUDGET_DEPTH, f"this value nests deeper than {MAX_DEPTH} levels")
        self._take(CONTAINER_WEIGHT)
        if self._budget is not None:
            self._budget.spend(4 * len(value) + 4)
        pairs = value.items() if type(value) is dict else enumerate(value)
        changed = {}
        for key, part in pairs:
            if type(key) is str:
                self._take(len(key))
            elif type(value) is dict:
                raise Fault(ErrorCode.NOT_JSON, "a key of a map is no string")
            sealed = self.seal(part, depth + 1)
            if sealed is not part:
                changed[key] = sealed
        if not changed:
            return value
        result = value.copy()
        for key, sealed in changed.items():
            result[key] = sealed
        return result

    def _take(self, weight: int) -> None:
        self.room -= weight
        if self.room < 0:
            raise too_large()
