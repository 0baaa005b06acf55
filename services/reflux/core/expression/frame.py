"""One evaluation: the scope it reads, the variables of its macros, and its budget.

A compiled node is a `Run`, a function from the frame to a value. Whatever it raises is a `Fault`, with
a place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from reflux.core.expression.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reflux.core.expression.values import Value


class Frame(Budget):
    """A budget (a frame *is* one, because creating a second object would double the cost of a small
    expression) with a scope and one slot for every level of nested macros.
    """

    __slots__ = ("is_shared", "scope", "slots")

    def __init__(self, scope: Mapping[str, object], slots: int, *, is_shared: bool = False) -> None:
        super().__init__()
        self.scope = scope
        self.is_shared = is_shared  # several results stand in one document
        self.slots: list[Value] = [None] * slots


Run: TypeAlias = "Callable[[Frame], Value]"
