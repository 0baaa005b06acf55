"""What a step reads of the run around it: what must be given to a step that is executed alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.expression import Expression, Template
from reflux.core.flow.model import Scope
from reflux.core.flow.variant import inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.core.expression import Reference
    from reflux.core.flow.model import Flow, Step


@dataclass(frozen=True, slots=True)
class Reads:
    """Of a step and everything inside of it."""

    roots: frozenset[str]
    """E.g. `input`, `steps`, and what the loops around it call their items."""
    steps: frozenset[str] | None
    """Ids of the steps read that are not inside; None: which ones is known only when it happens."""


def reads_of(flow: Flow, step: Step) -> Reads:
    """What it reads from outside."""
    own = {str(each.path) for each in inside(flow, step)}
    found = [
        reference
        for each in inside(flow, step)
        for value in (each.action, each.when if each is not step else None)
        for reference in _references(value)
    ]
    named = [reference.path for reference in found if reference.root == "steps"]
    roots = frozenset(reference.root for reference in found)
    if any(len(path) < 2 for path in named):
        return Reads(roots, None)
    return Reads(roots, frozenset(str(path[1]) for path in named) - own)


def _references(value: object) -> Iterator[Reference]:
    match value:
        case Expression() | Template():
            yield from value.references
        case Scope():
            return  # its steps are looked at by themselves
        case tuple():
            for item in value:
                yield from _references(item)
        case _ if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                yield from _references(getattr(value, field.name))
