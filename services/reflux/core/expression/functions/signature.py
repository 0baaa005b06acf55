"""What a function declares: one readable line from which arity and kinds of parameters are read.

    replace(text: string, old: string, new: string, count?: int): string
    max(values...: list|number): any

`?` marks an optional parameter, `...` one that repeats, `|` alternatives. The kinds are those of
`values.py`, and `number` (int or double) and `any`. A call is checked against them before the
implementation runs, which so may trust its arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from reflux.core.expression.budget import MAX_SOURCE
from reflux.core.expression.values import KINDS, Value

if TYPE_CHECKING:
    from collections.abc import Callable

Implementation: TypeAlias = "Callable[..., Value]"
"""Takes the budget, to pay for its work before doing it, and the arguments. Raises `Fault`."""

_PARAMETER = re.compile(r"(\w+)(\?|\.\.\.)?: ([\w|]+)")
_NAMED: dict[str, frozenset[type]] = {
    **{name: frozenset({form}) for form, name in KINDS.items()},
    "number": frozenset({int, float}),
    "any": frozenset(KINDS),
}


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the language, as documented and as called."""

    name: str
    signature: str
    summary: str
    call: Implementation
    parameters: tuple[tuple[str, frozenset[type]], ...]
    least: int
    most: int

    def parameter(self, number: int) -> tuple[str, frozenset[type]]:
        """Name and accepted Python types of the argument at `number`, from 0."""
        return self.parameters[min(number, len(self.parameters) - 1)]


def function(signature: str, summary: str, call: Implementation) -> Function:
    """Read a signature."""
    name, _, rest = signature.partition("(")
    found = [match.groups() for match in _PARAMETER.finditer(rest.rpartition(")")[0])]
    parameters = tuple(
        (str(label), frozenset[type]().union(*(_NAMED[kind] for kind in kinds.split("|"))))
        for label, _, kinds in found
    )
    marks = [mark for _, mark, _ in found]
    most = MAX_SOURCE if "..." in marks else len(found)
    return Function(name, signature, summary, call, parameters, len(found) - marks.count("?"), most)
