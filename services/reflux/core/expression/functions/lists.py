"""Functions of lists and maps. Each takes time linear in what it reads, `sort` but for a logarithm."""

# ruff: noqa: D103  # the table in this package's __init__ says what each function does

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from reflux.core.document import MAX_DEPTH
from reflux.core.expression.errors import ErrorCode, Fault
from reflux.core.expression.operators import BINARY, comparable
from reflux.core.expression.values import NUMBERS, Value, kind, with_article

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from reflux.core.expression.budget import Budget


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
    budget.spend((len(elements) * 16 + characters >> 6) * len(elements).bit_length())
    return sorted(elements)


def distinct(budget: Budget, elements: list[Value]) -> list[Value]:
    budget.build_items(len(elements))
    found: dict[Hashable, Value] = {}
    for element in elements:
        found.setdefault(_identity(budget, element, 0), element)
    return list(found.values())


def _identity(budget: Budget, value: Value, depth: int) -> Hashable:
    """Something hashable that is equal for equal values only: `1` and `1.0`, never `1` and `true`."""
    form = type(value)
    budget.spend(10)
    if form is str:
        budget.read(len(value))
    elif form is list or form is dict:
        if depth >= MAX_DEPTH:
            raise Fault(ErrorCode.BUDGET_DEPTH, f"this value nests deeper than {MAX_DEPTH} levels")
        if form is list:
            return (list, tuple(_identity(budget, part, depth + 1) for part in value))
        return (dict, frozenset((key, _identity(budget, part, depth + 1)) for key, part in value.items()))
    elif form in NUMBERS:
        return (float, value)
    kind(value)
    return (form, value)


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
