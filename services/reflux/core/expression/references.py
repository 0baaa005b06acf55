"""Which parts of the scope an expression reads: what a flow is checked against when it is compiled.

A reference is a root and the longest static path after it: `steps.fetch.output.lines[0].sku`, and
also `steps["fetch"]`; it ends before the first computed index. Variables of macros are not roots.

A reference tells how much of its path must exist. `.?` and `[?]` make everything from their place on
optional, `??` and `default()` everything after the root of all that stands left of them, `has()` the
last field. `has(a.b) && …` and `has(a.b) ? … : …` guard `a.b` in the places that are evaluated only if
it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from reflux.core.expression import nodes

if TYPE_CHECKING:
    from reflux.core.expression.nodes import Node

Path: TypeAlias = tuple[str | int, ...]

ALIASES = {"inputs": "input", "nodes": "steps"}
"""Roots of older flows and what they are called now. References and scopes know only the latter."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One read of the scope.

    `path` begins with `root`. Its first `required` parts must exist, or the evaluation fails with
    MISSING_FIELD; the rest may be missing. `source[start:end]` is the place, in a template at
    `pointer` (RFC 6901) of the document.
    """

    root: str
    path: Path
    required: int
    start: int
    end: int
    pointer: str = ""

    @property
    def optional(self) -> bool:
        """Whether some part of the path may be missing."""
        return self.required < len(self.path)

    def within(self, pointer: str) -> Reference:
        """The same reference, in the string at `pointer` of a document."""
        return replace(self, pointer=pointer)


def references(tree: Node) -> tuple[Reference, ...]:
    """All references of a tree, in source order."""
    found: list[Reference] = []
    _Finder(found).visit(tree, _Context())
    return tuple(sorted(found, key=lambda reference: reference.start))


def unwind(node: Node) -> tuple[nodes.Name, Path, int | None] | None:
    """The name at the bottom of a static selection, the keys after it, and the number of keys before
    the first optional one; None for anything else.
    """
    keys: list[str | int] = []
    optional: int | None = None
    while True:
        match node:
            case nodes.Select():
                keys.append(node.field)
            case nodes.Index(key=nodes.Literal(value=str() | int() as key)) if not isinstance(key, bool):
                keys.append(key)
            case nodes.Name():
                return node, tuple(reversed(keys)), None if optional is None else len(keys) - optional
            case _:
                return None
        if node.optional:
            optional = len(keys)
        node = node.operand


@dataclass(frozen=True, slots=True)
class _Context:
    """What is known at a place: macro variables, guarded paths, and whether absence is answered."""

    bound: frozenset[str] = frozenset()
    proved: tuple[Path, ...] = ()
    answered: bool = False
    last_optional: bool = False


class _Finder:
    def __init__(self, found: list[Reference]) -> None:
        self._found = found

    def visit(self, node: Node, context: _Context) -> None:
        """Record the references in `node`."""
        match node:
            case nodes.Name() | nodes.Select() | nodes.Index():
                self._selection(node, context)
            case nodes.Has():
                self._selection(node.selection, _within(context, last_optional=True))
            case nodes.Coalesce():
                for operand in node.operands[:-1]:
                    self.visit(operand, _within(context, answered=True))
                self.visit(node.operands[-1], context)
            case nodes.Logic(absorbing=False):
                for operand in node.operands:
                    self.visit(operand, context)
                    context = _within(context, proved=_proved(operand))
            case nodes.Conditional():
                self.visit(node.condition, context)
                self.visit(node.then, _within(context, proved=_proved(node.condition)))
                self.visit(node.otherwise, context)
            case nodes.Comprehension():
                self.visit(node.over, context)
                inner = _within(context, bound=node.variable)
                for part in nodes.children(node)[1:]:
                    self.visit(part, inner)
            case _:
                for part in nodes.children(node):
                    self.visit(part, context)

    def _selection(self, node: Node, context: _Context) -> None:
        static = unwind(node)
        if static is None:
            # A computed key, or something that is no name at the bottom: its parts are on their own.
            for part in nodes.children(node):
                self.visit(part, _Context(context.bound, context.proved, context.answered))
            return
        name, keys, before_optional = static
        if name.name in context.bound:
            return
        root = ALIASES.get(name.name, name.name)
        path = (root, *keys)
        required = len(path) if before_optional is None else 1 + before_optional
        if context.answered:
            required = 1
        if context.last_optional:
            required = min(required, len(path) - 1)
        for proved in context.proved:
            if path[: len(proved)] == proved:
                required = min(required, len(proved) - 1)
        self._found.append(Reference(root, path, required, node.start, node.end))


def _within(
    context: _Context,
    *,
    bound: str | None = None,
    proved: tuple[Path, ...] = (),
    answered: bool = False,
    last_optional: bool = False,
) -> _Context:
    return _Context(
        context.bound if bound is None else context.bound | {bound},
        context.proved + proved,
        context.answered or answered,
        last_optional,
    )


def _proved(condition: Node) -> tuple[Path, ...]:
    """The paths that exist if `condition` is true."""
    match condition:
        case nodes.Has(selection=selection):
            static = unwind(selection)
            if static is None:
                return ()
            name, keys, _ = static
            return ((ALIASES.get(name.name, name.name), *keys),)
        case nodes.Logic(absorbing=False):
            return tuple(path for operand in condition.operands for path in _proved(operand))
        case _:
            return ()
