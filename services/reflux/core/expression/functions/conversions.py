"""Functions from one kind to another: numbers, texts, times, base64, JSON."""

# ruff: noqa: D103  # the table in this package's __init__ says what each function does

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import TYPE_CHECKING

import orjson

from reflux.core.document import MAX_DEPTH, shape
from reflux.core.expression.errors import ErrorCode, Fault
from reflux.core.expression.moments import SECOND, Duration, Timestamp, parse_duration, parse_timestamp
from reflux.core.expression.values import (
    INT_MAX,
    INT_MIN,
    Value,
    checked_int,
    json_text,
    kind,
    scalar_text,
)
from reflux.core.expression.values import to_double as as_double

if TYPE_CHECKING:
    from reflux.core.expression.budget import Budget

_INT = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_DOUBLE = re.compile(
    r"[+-]?(?:[0-9]{1,300}(?:\.[0-9]{1,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,4})?", re.ASCII
)
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LONG_DIGITS = re.compile(r"[0-9]{19}")
_LONG_INT = re.compile(r"(?<![-+.\w])-?[0-9]{19,}(?![.\w])", re.ASCII)
_PARSING = 30  # units of work for reading a time
_NUMBER = 6  # for reading a number, or writing a double or a time
_SPELT = frozenset({str, bool, int})  # whose text costs nothing
_BOOLS = {"true": True, "false": False}


def to_int(budget: Budget, value: Value) -> int:
    budget.spend(_NUMBER)
    match value:
        case int():
            return checked_int(value)
        case float():
            if not INT_MIN < value < INT_MAX:  # neither end, as CEL has it; also false for NaN
                raise Fault(ErrorCode.OVERFLOW, "this number is outside the range of int (64 bits)")
            return math.trunc(value)
        case Timestamp():
            return value.nanoseconds // SECOND
        case _:
            if _INT.fullmatch(value) is None:
                raise Fault(ErrorCode.BAD_VALUE, "this text is no int")
            return checked_int(int(value))


def to_double(budget: Budget, value: Value) -> float:
    budget.spend(_NUMBER)
    if type(value) is str and _DOUBLE.fullmatch(value) is None:
        raise Fault(ErrorCode.BAD_VALUE, "this text is no number")
    return as_double(float(value) if type(value) is str else value)


def to_string(budget: Budget, value: Value) -> str:
    if type(value) not in _SPELT:
        budget.spend(_NUMBER)
    return scalar_text(value) or ""


def to_bool(_budget: Budget, value: Value) -> bool:
    if isinstance(value, bool):
        return value
    if value in _BOOLS:
        return _BOOLS[value]
    raise Fault(ErrorCode.BAD_VALUE, "this text is neither 'true' nor 'false'")


def type_of(_budget: Budget, value: Value) -> str:
    return kind(value)


def to_timestamp(budget: Budget, value: Value) -> Timestamp:
    budget.spend(_PARSING)
    match value:
        case Timestamp():
            return value
        case int():
            return Timestamp(value * SECOND)
        case _:
            return parse_timestamp(value)


def to_duration(budget: Budget, value: Value) -> Duration:
    budget.spend(_PARSING)
    return value if isinstance(value, Duration) else parse_duration(value)


def base64_encode(budget: Budget, text: str) -> str:
    budget.build_text(len(text))
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise Fault(ErrorCode.BAD_VALUE, "this text has characters without UTF-8") from error
    budget.build_text((len(data) + 2) // 3 * 4)
    return base64.b64encode(data).decode()


def base64_decode(budget: Budget, text: str) -> str:
    budget.build_text(len(text))
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Fault(ErrorCode.BAD_VALUE, "this text is no base64 of UTF-8 text") from error


def json_encode(budget: Budget, value: Value) -> str:
    return json_text(budget, value)


def json_decode(budget: Budget, text: str) -> Value:
    # Three characters (`{},`) may become an object of 64 bytes, so decoding is dearer than other building.
    # It also pays for the counts below.
    budget.spend((len(text) >> 1) + 1)
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        raise Fault(ErrorCode.BAD_VALUE, "this text is no JSON") from error
    depth, members = shape(value)
    if depth > MAX_DEPTH:
        raise Fault(ErrorCode.BUDGET_DEPTH, f"this value nests deeper than {MAX_DEPTH} levels")
    # The parser keeps the last of two members with one key, and makes doubles of long integers.
    if text.count(":") != members or _LONG_DIGITS.search(text):
        bare = _STRING.sub("", text)
        if bare.count(":") != members:
            raise Fault(ErrorCode.DUPLICATE_KEY, "this text has the same key twice in one object")
        for found in _LONG_INT.finditer(bare):
            if len(found.group()) > 20 or not INT_MIN <= int(found.group()) <= INT_MAX:
                raise Fault(ErrorCode.OVERFLOW, "this text has an integer beyond 64 bits; write it as text")
    return value
