"""The syntax tree.

Left-associative operators of one level (`a + b - c`) are one `Chain`, `a && b && c` one `Logic`: the
depth of a tree then measures real nesting, and no recursion over it is deeper than `MAX_DEPTH`,
which the parser guarantees. Macros are expanded by the parser, so a `Call` is always a function.

`start` and `end` are offsets into the source; `at` is where a failure of the node itself points.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, assert_never


@dataclass(frozen=True, slots=True)
class Span:
    """What every node has: the piece of source it was read from, `source[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Literal(Span):
    """null, a bool, a number or a string."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Name(Span):
    """A root of the scope, or the variable of an enclosing macro."""

    name: str


@dataclass(frozen=True, slots=True)
class Select(Span):
    """`operand.field`, or `operand.?field`."""

    operand: Node
    field: str
    optional: bool
    at: int


@dataclass(frozen=True, slots=True)
class Index(Span):
    """`operand[key]`, or `operand[?key]`."""

    operand: Node
    key: Node
    optional: bool
    at: int


@dataclass(frozen=True, slots=True)
class Call(Span):
    """A function by its full name (`json.encode`); a receiver is the first argument."""

    function: str
    arguments: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class ListLiteral(Span):
    """`[a, b]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapLiteral(Span):
    """`{key: value}`; keys are expressions that must give strings."""

    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Unary(Span):
    """`!a` or `-a`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Link:
    """One more operand of a chain, and the operator before it, which stands at `at`."""

    operator: str
    operand: Node
    at: int


@dataclass(frozen=True, slots=True)
class Chain(Span):
    """Operators of one level, folded from the left: arithmetic, comparison, `in`."""

    first: Node
    rest: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Logic(Span):
    """`&&` (`absorbing` is False) or `||` (`absorbing` is True) over two or more operands."""

    absorbing: bool
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Conditional(Span):
    """`condition ? then : otherwise`."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Coalesce(Span):
    """`a ?? b ?? c`: the first operand that is there and not null, else the last one as it is."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Has(Span):
    """`has(operand.field)`."""

    selection: Select


class Macro(StrEnum):
    """The comprehensions."""

    ALL = "all"
    EXISTS = "exists"
    EXISTS_ONE = "exists_one"
    MAP = "map"
    FILTER = "filter"


@dataclass(frozen=True, slots=True)
class Comprehension(Span):
    """`over.macro(variable, …)`: `body` is the predicate, or for `map` the transform, for which a
    `condition` may choose the elements.
    """

    macro: Macro
    over: Node
    variable: str
    condition: Node | None
    body: Node
    at: int


Node: TypeAlias = (
    Literal
    | Name
    | Select
    | Index
    | Call
    | ListLiteral
    | MapLiteral
    | Unary
    | Chain
    | Logic
    | Conditional
    | Coalesce
    | Has
    | Comprehension
)


def children(node: Node) -> tuple[Node, ...]:
    """The direct parts of a node, in the order in which they are evaluated."""
    match node:
        case Literal() | Name():
            return ()
        case Select(operand=operand) | Unary(operand=operand):
            return (operand,)
        case Index():
            return (node.operand, node.key)
        case Call(arguments=parts) | ListLiteral(items=parts):
            return parts
        case Logic(operands=parts) | Coalesce(operands=parts):
            return parts
        case MapLiteral():
            return tuple(part for entry in node.entries for part in entry)
        case Chain():
            return (node.first, *(link.operand for link in node.rest))
        case Conditional():
            return (node.condition, node.then, node.otherwise)
        case Has():
            return (node.selection,)
        case Comprehension():
            return (node.over, *(() if node.condition is None else (node.condition,)), node.body)
        case _:
            assert_never(node)


def cost(node: Node) -> int:
    """Units of work of one evaluation of `node`; bodies of macros inside pay for themselves."""
    parts = (node.over,) if isinstance(node, Comprehension) else children(node)
    # Calls and literals of lists and maps make objects, which takes longer than reading or adding.
    own = 3 if isinstance(node, Call | ListLiteral | MapLiteral) else 1
    return own + sum(cost(part) for part in parts)
