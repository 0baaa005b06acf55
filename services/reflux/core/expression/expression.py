"""One expression, compiled once and evaluated as often as needed."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Self

from reflux.core.expression.errors import Fault
from reflux.core.expression.frame import Frame
from reflux.core.expression.program import compile_program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.core.document import JsonValue
    from reflux.core.expression.program import Program
    from reflux.core.expression.references import Reference


class Expression:
    """A compiled expression; `compile_expression` makes one.

    It is immutable, and may be shared between runs and threads: each evaluation has its own frame and
    budget. It is a function of the scope: the same scope gives the same value, or the same error.
    """

    __slots__ = ("_program", "at")

    def __init__(self, program: Program) -> None:
        self._program = program
        self.at = ""
        """JSON pointer of its text in something larger, which its errors name; empty: nothing is named."""

    def placed(self, at: str) -> Self:
        """The same one, at this place."""
        other = copy(self)
        other.at = at
        return other

    @property
    def source(self) -> str:
        """The text it was compiled from."""
        return self._program.source

    @property
    def references(self) -> tuple[Reference, ...]:
        """What it reads of the scope, in source order."""
        return self._program.references

    @property
    def roots(self) -> frozenset[str]:
        """The roots of the scope that it reads, by their present names."""
        return frozenset(reference.root for reference in self.references)

    def evaluate(self, scope: Mapping[str, object]) -> JsonValue:
        """The value over `scope`: JSON values by the names of the roots.

        The scope is not changed, and the result may share parts with it.

        Raises:
            ExpressionError: whatever goes wrong.
        """
        program = self._program
        try:
            return program.result(Frame(scope, program.slots))  # type: ignore[no-any-return]  # sealed
        except Fault as fault:
            raise fault.at(program.begin).report(program.source, self.at) from None


def compile_expression(source: str) -> Expression:
    """Compile a bare expression, without `{{ }}`.

    Raises:
        ExpressionSyntaxError: it is no expression, calls what is no function, or is too long or deep.
    """
    return Expression(compile_program(source))
