"""Functions of lists and maps. Each takes time linear in what it reads, `sort` but for a logarithm."""

# ruff: noqa: D103  # the table in this package's __init__ says what each function does

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from reflux.core.document import MAX_DEPTH
from reflux.core.expression.errors import ErrorCode, Fault
from reflux.core.expression.operators import BINARY, comparable
from reflux.core.expression.values import NUMBERS, TIMES, Value, kind, with_article

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from reflux.core.expression.budget import Budget

_NANOSECONDS = attrgetter("nanoseconds")
_WHOLE = 1e20  # beyond it no int of JSON equals a double


def size(_budget: Budget, value: str | list[Value] | dict[str, Value]) -> int:
    return len(value)


def keys(budget: Budget, value: dict[str, Value]) -> list[Value]:
    budget.build_items(len(value))
    return list(value)


def values(budget: Budget, value: dict[str, Value]) -> list[Value]:
    budget.build_items(len(value))
    return list(value.values())


def total(budget: Budget, elements: list[Value]) -> Value:
    budget.spend(len(elements) * 2)
    add = BINARY["+"]
    result: Value = 0
    for element in elements:
        if type(element) not in NUMBERS:
            message = f"sum() wants a list of numbers, not with {with_article(kind(element))} in it"
            raise Fault(ErrorCode.WRONG_TYPE, message)
        result = add(budget, result, element)
    return result


def _extreme(better: str, budget: Budget, *arguments: Value) -> Value:
    elements = arguments[0] if len(arguments) == 1 and type(arguments[0]) is list else arguments
    if not elements:
        raise Fault(ErrorCode.BAD_VALUE, "an empty list has neither a smallest nor a largest element")
    budget.spend(len(elements) * 2)
    is_better = BINARY[better]
    best = elements[0]
    comparable(budget, better, best, best)
    for element in elements:
        if is_better(budget, element, best):
            best = element
    return best


smallest: Callable[..., Value] = partial(_extreme, "<")
largest: Callable[..., Value] = partial(_extreme, ">")


def sort(budget: Budget, elements: list[Value]) -> list[Value]:
    budget.build_items(len(elements))
    characters = 0
    for element in elements:
        comparable(budget, "<", elements[0], element)
        if type(element) is str:
            characters += len(element)
    _pay_for_sorting(budget, len(elements), characters)
    # Numbers are compared in C, times in Python.
    return sorted(elements, key=_NANOSECONDS if elements and type(elements[0]) in TIMES else None)


def _pay_for_sorting(budget: Budget, count: int, characters: int) -> None:
    budget.spend((count * 16 + characters >> 6) * count.bit_length())


def distinct(budget: Budget, elements: list[Value]) -> list[Value]:
    budget.build_items(len(elements))
    found: dict[Hashable, Value] = {}
    for element in elements:
        found.setdefault(_identity(budget, element), element)
    return list(found.values())


def _identity(budget: Budget, value: Value) -> Hashable:
    """Something hashable that is equal for equal values only: `1` and `1.0`, never `1` and `true`.

    Always a text, alone or in a tuple: only hashes of texts are keyed with a secret. Those of numbers are
    known to everybody, and lists of -1 and -2 all have the same one.
    """
    if type(value) is str:
        budget.spend(10)
        budget.read(len(value))
        return value
    parts: list[str] = []
    _spell(budget, value, 0, parts)
    return ("".join(parts),)


def _spell(budget: Budget, value: Value, depth: int, parts: list[str]) -> None:
    """Append a spelling of the value which tells where it ends."""
    form = type(value)
    budget.spend(10)
    if form is str:
        budget.build_text(len(value))
        parts.append(f"{len(value)}'{value}")
    elif form in NUMBERS:
        whole = form is float and value.is_integer() and abs(value) < _WHOLE
        parts.append(f"{int(value) if whole else value!r};")
    elif form is list or form is dict:
        if depth >= MAX_DEPTH:
            raise Fault(ErrorCode.BUDGET_DEPTH, f"this value nests deeper than {MAX_DEPTH} levels")
        parts.append("[" if form is list else "{")
        if form is dict:
            _pay_for_sorting(budget, len(value), sum(map(len, value)))
        for part in value if form is list else sorted(value):
            _spell(budget, part, depth + 1, parts)
            if form is dict:
                _spell(budget, value[part], depth + 1, parts)
        parts.append("]")
    else:
        parts.append(f"{kind(value)} {value.nanoseconds if form in TIMES else value};")


def flatten(budget: Budget, elements: list[Value]) -> list[Value]:
    budget.spend(len(elements))
    budget.build_items(sum(len(part) if type(part) is list else 1 for part in elements))
    result: list[Value] = []
    for part in elements:
        if type(part) is list:
            result += part
        else:
            result.append(part)
    return result


def reverse(budget: Budget, value: str | list[Value]) -> Value:
    if isinstance(value, str):
        budget.build_text(len(value))
    else:
        budget.build_items(len(value))
    return value[::-1]


def slice_list(budget: Budget, elements: list[Value], start: int, end: int | None = None) -> list[Value]:
    stop = len(elements) if end is None else end
    if not 0 <= start <= stop <= len(elements):
        raise Fault(ErrorCode.INDEX, f"this range is outside the list, which has {len(elements):,} elements")
    budget.build_items(stop - start)
    return elements[start:stop]


def first(_budget: Budget, elements: list[Value]) -> Value:
    return _end(elements, 0)


def last(_budget: Budget, elements: list[Value]) -> Value:
    return _end(elements, -1)


def _end(elements: list[Value], index: int) -> Value:
    if not elements:
        raise Fault(
            ErrorCode.INDEX, "an empty list has no first and no last element; [?0] gives null instead"
        )
    return elements[index]


def integers(budget: Budget, count: int) -> list[Value]:
    if count < 0:
        raise Fault(ErrorCode.BAD_VALUE, "range() wants a count, and this is negative")
    budget.build_items(count)
    return list(range(count))
