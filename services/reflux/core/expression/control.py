"""What decides whether something is evaluated at all: logic, conditions, defaults, macros.

`&&`, `||`, `all` and `exists` follow CEL: the result does not depend on the order of the operands. If one
of them decides, an error in another does not matter; only if none decides is the first error the
result. `map`, `filter` and `exists_one` need every element, so an error is an error.
Faults of the budget are never absorbed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.expression.errors import ErrorCode, Fault
from reflux.core.expression.nodes import Macro
from reflux.core.expression.operators import truth
from reflux.core.expression.values import Value, kind, with_article

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from reflux.core.expression.frame import Frame, Run


def logic(operands: tuple[tuple[Run, int], ...], *, absorbing: bool) -> Run:
    """`&&` or `||` over operands with their positions; the value `absorbing` decides."""
    where = "'||'" if absorbing else "'&&'"

    def run(frame: Frame) -> bool:
        first: Fault | None = None
        for operand, position in operands:
            try:
                if truth(operand(frame), where) is absorbing:
                    return absorbing
            except Fault as fault:
                frame.absorb(fault.at(position))
                first = first or fault
        if first is not None:
            raise first
        return not absorbing

    return run


def conditional(condition: Run, then: Run, otherwise: Run, position: int) -> Run:
    """`condition ? then : otherwise`."""

    def run(frame: Frame) -> Value:
        chosen = condition(frame)
        if chosen is True:
            return then(frame)
        if chosen is False:
            return otherwise(frame)
        raise Fault(ErrorCode.WRONG_TYPE, f"'?' wants a bool, not {with_article(kind(chosen))}", position)

    return run


def coalesce(operands: tuple[Run, ...], last: Run) -> Run:
    """`a ?? b`: missing fields and null lead to the next operand; any other error is one."""

    def run(frame: Frame) -> Value:
        for operand in operands:
            try:
                value = operand(frame)
            except Fault as fault:
                if fault.code is not ErrorCode.MISSING_FIELD:
                    raise
                frame.absorb(fault)
            else:
                if value is not None:
                    return value
        return last(frame)

    return run


@dataclass(frozen=True, slots=True)
class Loop:
    """The inside of a macro: its variable's slot, what is evaluated for each element, and the price of
    one iteration, which is paid before it happens.
    """

    slot: int
    condition: Run | None
    body: Run
    cost: int


def comprehension(macro: Macro, over: Run, loop: Loop, at: int) -> Run:
    """`over.macro(…)`."""
    finish = _FINISH[macro]

    def run(frame: Frame) -> Value:
        items = over(frame)
        if type(items) is not list and type(items) is not dict:
            message = f"{macro}() goes through a list or the keys of a map, not {with_article(kind(items))}"
            raise Fault(ErrorCode.WRONG_TYPE, message, at)
        try:
            return finish(frame, items, loop)
        except Fault as fault:
            raise fault.at(at)  # noqa: B904  # the same fault, placed

    return run


def _all(frame: Frame, items: Collection[Value], loop: Loop) -> Value:
    return not _decide(frame, items, loop, deciding=False)


def _exists(frame: Frame, items: Collection[Value], loop: Loop) -> Value:
    return _decide(frame, items, loop, deciding=True)


def _decide(frame: Frame, items: Collection[Value], loop: Loop, *, deciding: bool) -> bool:
    """Whether the condition gives `deciding` for some element."""
    first: Fault | None = None
    slots, slot, body, cost = frame.slots, loop.slot, loop.body, loop.cost
    for item in items:
        frame.iterate(1, cost)
        slots[slot] = item
        try:
            if truth(body(frame), "the condition") is deciding:
                return True
        except Fault as fault:
            frame.absorb(fault)
            first = first or fault
    if first is not None:
        raise first
    return False


def _exists_one(frame: Frame, items: Collection[Value], loop: Loop) -> Value:
    return len(_filter(frame, items, loop)) == 1


def _filter(frame: Frame, items: Collection[Value], loop: Loop) -> list[Value]:
    slots, slot, body = _begin(frame, items, loop)
    result: list[Value] = []
    for item in items:
        slots[slot] = item
        if truth(body(frame), "the condition"):
            result.append(item)
    return result


def _map(frame: Frame, items: Collection[Value], loop: Loop) -> list[Value]:
    slots, slot, body = _begin(frame, items, loop)
    condition = loop.condition
    result: list[Value] = []
    for item in items:
        slots[slot] = item
        if condition is None or truth(condition(frame), "the condition"):
            result.append(body(frame))
    return result


def _begin(frame: Frame, items: Collection[Value], loop: Loop) -> tuple[list[Value], int, Run]:
    """Pay for all iterations, since each element will be looked at."""
    frame.iterate(len(items), loop.cost)
    frame.build_items(len(items))
    return frame.slots, loop.slot, loop.body


_FINISH: dict[Macro, Callable[[Frame, Collection[Value], Loop], Value]] = {
    Macro.ALL: _all,
    Macro.EXISTS: _exists,
    Macro.EXISTS_ONE: _exists_one,
    Macro.MAP: _map,
    Macro.FILTER: _filter,
}
