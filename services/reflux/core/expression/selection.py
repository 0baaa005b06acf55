"""Reading the scope: roots, fields, elements.

Most expressions are one path such as `steps.fetch.output.total`. `path` follows it with plain
indexing and, whenever that fails in any way, lets the careful closures find out why: they know the
place and the message. Both agree wherever the quick way succeeds, because it uses only string keys,
which nothing but a map accepts.

After the first `.?` or `[?]` a selection is *lenient* to its end: what is missing is null. Without
one, a missing field is an error, and so is a field of null, which `??` and `has()` answer likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reflux.core.expression.errors import MAX_NAME, ErrorCode, Fault, missing
from reflux.core.expression.values import Value, kind, with_article

if TYPE_CHECKING:
    from reflux.core.expression.frame import Frame, Run


def root(name: str, position: int) -> Run:
    """Read a root of the scope."""

    def run(frame: Frame) -> Value:
        try:
            return frame.scope[name]
        except KeyError:
            scope = frame.scope
        message = f"there is no {_quoted(name)} here"
        raise missing(ErrorCode.UNKNOWN_ROOT, message, position, name, scope)

    return run


def variable(slot: int) -> Run:
    """Read the variable of an enclosing macro."""
    return lambda frame: frame.slots[slot]


def path(name: str, keys: tuple[str, ...], careful: Run) -> Run:
    """Follow string keys from a root."""

    def run(frame: Frame) -> Value:
        try:
            value: Value = frame.scope[name]
            for key in keys:
                value = value[key]
        except (KeyError, TypeError, IndexError):
            return careful(frame)
        return value

    return run


def variable_path(slot: int, keys: tuple[str, ...], careful: Run) -> Run:
    """Follow string keys from the variable of a macro."""

    def run(frame: Frame) -> Value:
        try:
            value = frame.slots[slot]
            for key in keys:
                value = value[key]
        except (KeyError, TypeError, IndexError):
            return careful(frame)
        return value

    return run


def field(operand: Run, name: str, what: str, position: int, *, lenient: bool) -> Run:
    """`operand.name`; `what` is the source of the operand, for messages."""

    def run(frame: Frame) -> Value:
        holder = operand(frame)
        if isinstance(holder, Mapping) and name in holder:
            return holder[name]
        if lenient and (holder is None or isinstance(holder, Mapping)):
            return None
        raise _no_field(holder, name, what, position)

    return run


def element(operand: Run, key: Run, what: str, position: int, *, lenient: bool) -> Run:
    """`operand[key]`: an element of a list, or a field of a map by a computed name."""

    def run(frame: Frame) -> Value:
        holder, at = operand(frame), key(frame)
        if isinstance(holder, list):
            index = _index(at, position)
            if 0 <= index < len(holder):
                return holder[index]
            if lenient:
                return None
            message = f"{what} has no element {index}; its size is {len(holder):,}"
            raise Fault(ErrorCode.INDEX, message, position)
        if holder is None and lenient:
            return None
        if type(at) is not str and isinstance(holder, Mapping):
            message = f"the fields of a map are strings, not {with_article(kind(at))}"
            raise Fault(ErrorCode.WRONG_TYPE, message, position)
        if isinstance(holder, Mapping) and at in holder:
            return holder[at]
        if lenient and isinstance(holder, Mapping):
            return None
        raise _no_field(holder, at, what, position)

    return run


def has(operand: Run, name: str, what: str, position: int) -> Run:
    """`has(operand.name)`: whether the map has the field; null has none."""

    def run(frame: Frame) -> bool:
        holder = operand(frame)
        if isinstance(holder, Mapping):
            return name in holder
        if holder is None:
            return False
        raise _no_field(holder, name, what, position)

    return run


def _index(key: Value, position: int) -> int:
    """A list index; a double without a fraction counts, since JSON does not tell 1 from 1.0."""
    if type(key) is int:
        return key
    if type(key) is float and key.is_integer():
        return int(key)
    message = f"the index of a list is an int, not {with_article(kind(key))}"
    raise Fault(ErrorCode.WRONG_TYPE, message, position)


def _no_field(holder: Value, name: Value, what: str, position: int) -> Fault:
    if isinstance(holder, Mapping):
        message = f"{what} has no field {_quoted(name)}"
        return missing(ErrorCode.MISSING_FIELD, message, position, name, holder)
    if holder is None:
        return Fault(ErrorCode.MISSING_FIELD, f"{what} is null, so it has no field {_quoted(name)}", position)
    return Fault(ErrorCode.WRONG_TYPE, f"{what} is {with_article(kind(holder))}; it has no fields", position)


def _quoted(name: Value) -> str:
    """A name in a message; one that is computed may be as long as any text, or none at all."""
    if type(name) is str:
        return repr(name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…")
    return with_article(kind(name)) if isinstance(name, list | dict) else str(name)
