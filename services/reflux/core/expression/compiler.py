"""A syntax tree to closures.

Each node becomes one function of the frame; names, keys, functions and the cost of loop bodies are
settled here, once. Nothing is ever handed to `eval`, and no closure outlives the expression.
A macro variable lives in the slot of its nesting level, so siblings share slots and nested macros
never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from reflux.core.expression import control, nodes, selection
from reflux.core.expression.errors import ErrorCode, ExpressionSyntaxError, Fault
from reflux.core.expression.functions import FUNCTIONS, Function, hint
from reflux.core.expression.operators import BINARY, Operator, negate, truth
from reflux.core.expression.references import ALIASES, unwind
from reflux.core.expression.values import Value, kind, with_article

if TYPE_CHECKING:
    from reflux.core.expression.frame import Frame, Run
    from reflux.core.expression.nodes import Node

_SHOWN = 60  # characters of source quoted in a message


def compile_tree(source: str, tree: Node) -> tuple[Run, int]:
    """The closure for a tree, and how many slots its frame needs.

    Raises:
        ExpressionSyntaxError: UNKNOWN_FUNCTION, WRONG_ARGUMENTS.
    """
    compiler = _Compiler(source)
    return compiler.build(tree), compiler.slots


class _Compiler:
    def __init__(self, source: str) -> None:
        self._source = source
        self._bound: list[str] = []  # macro variables in force, the innermost last; the index is the slot
        self.slots = 0

    def build(self, node: Node) -> Run:
        """The closure for a node."""
        match node:
            case nodes.Literal(value=value):
                return lambda _frame: value
            case nodes.Name() | nodes.Select() | nodes.Index():
                return self._selection(node)
            case nodes.Call():
                return self._call(node)
            case nodes.ListLiteral():
                items = [self.build(item) for item in node.items]
                return lambda frame: [item(frame) for item in items]
            case nodes.MapLiteral():
                return _map([(self.build(k), self.build(v), k.start) for k, v in node.entries])
            case nodes.Unary():
                return _unary(node.operator, self.build(node.operand), node.start)
            case nodes.Chain():
                return self._chain(node)
            case nodes.Logic():
                parts = tuple((self.build(operand), operand.start) for operand in node.operands)
                return control.logic(parts, absorbing=node.absorbing)
            case nodes.Conditional():
                branches = (self.build(node.condition), self.build(node.then), self.build(node.otherwise))
                return control.conditional(*branches, node.condition.start)
            case nodes.Coalesce():
                *operands, last = [self.build(operand) for operand in node.operands]
                return control.coalesce(tuple(operands), last)
            case nodes.Has(selection=chosen):
                operand, what = self.build(chosen.operand), self._quote(chosen.operand)
                return selection.has(operand, chosen.field, what, chosen.at)
            case nodes.Comprehension():
                return self._comprehension(node)
            case _:
                assert_never(node)

    # -- reading -----------------------------------------------------------------------------------

    def _selection(self, node: nodes.Name | nodes.Select | nodes.Index) -> Run:
        careful = self._careful(node)
        static = unwind(node)
        if static is None or static[2] is not None or not static[1]:
            return careful
        name, keys, _ = static
        names = tuple(key for key in keys if isinstance(key, str))
        if len(names) < len(keys):
            return careful
        slot = self._slot(name.name)
        if slot is not None:
            return selection.variable_path(slot, names, careful)
        return selection.path(ALIASES.get(name.name, name.name), names, careful)

    def _careful(self, node: nodes.Name | nodes.Select | nodes.Index) -> Run:
        if isinstance(node, nodes.Name):
            slot = self._slot(node.name)
            if slot is not None:
                return selection.variable(slot)
            return selection.root(ALIASES.get(node.name, node.name), node.start)
        operand, what = self.build(node.operand), self._quote(node.operand)
        lenient = _is_lenient(node)
        if isinstance(node, nodes.Select):
            return selection.field(operand, node.field, what, node.at, lenient=lenient)
        return selection.element(operand, self.build(node.key), what, node.at, lenient=lenient)

    def _slot(self, name: str) -> int | None:
        for slot in range(len(self._bound) - 1, -1, -1):
            if self._bound[slot] == name:
                return slot
        return None

    def _quote(self, node: Node) -> str:
        text = self._source[node.start : node.end]
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"

    # -- computing ---------------------------------------------------------------------------------

    def _chain(self, node: nodes.Chain) -> Run:
        first = self.build(node.first)
        rest = [(BINARY[link.operator], self.build(link.operand), link.at) for link in node.rest]
        if len(rest) == 1:
            return _binary(first, *rest[0])
        return _fold(first, rest, joins=all(link.operator == "+" for link in node.rest))

    def _call(self, node: nodes.Call) -> Run:
        function = FUNCTIONS.get(node.function)
        if function is None:
            message = f"there is no function {node.function}(){hint(node.function)}"
            raise self._refuse(ErrorCode.UNKNOWN_FUNCTION, message, node.at)
        if not function.least <= len(node.arguments) <= function.most:
            message = f"wrong number of arguments: {function.signature}"
            raise self._refuse(ErrorCode.WRONG_ARGUMENTS, message, node.at)
        return _function(function, [(self.build(a), a.start) for a in node.arguments], node.at)

    def _comprehension(self, node: nodes.Comprehension) -> Run:
        over = self.build(node.over)
        slot = len(self._bound)
        self._bound.append(node.variable)
        self.slots = max(self.slots, len(self._bound))
        condition = None if node.condition is None else self.build(node.condition)
        body = self.build(node.body)
        self._bound.pop()
        cost = 1 + sum(nodes.cost(part) for part in (node.condition, node.body) if part is not None)
        return control.comprehension(node.macro, over, control.Loop(slot, condition, body, cost), node.at)

    def _refuse(self, code: ErrorCode, message: str, position: int) -> ExpressionSyntaxError:
        return ExpressionSyntaxError(message, code, position, self._source)


def _is_lenient(node: Node) -> bool:
    """Whether this selection, or one before it in the same row of suffixes, is marked with `?`."""
    while isinstance(node, nodes.Select | nodes.Index):
        if node.optional:
            return True
        node = node.operand
    return False


def _map(entries: list[tuple[Run, Run, int]]) -> Run:
    def run(frame: Frame) -> Value:
        result: dict[str, Value] = {}
        for key_of, value_of, position in entries:
            key = key_of(frame)
            if type(key) is not str:
                message = f"a key of a map is a string, not {with_article(kind(key))}"
                raise Fault(ErrorCode.WRONG_TYPE, message, position)
            if key in result:
                raise Fault(ErrorCode.DUPLICATE_KEY, "this key is set twice", position)
            result[key] = value_of(frame)
        return result

    return run


def _unary(operator: str, operand: Run, at: int) -> Run:
    def run(frame: Frame) -> Value:
        value = operand(frame)
        try:
            return not truth(value, "'!'") if operator == "!" else negate(value)
        except Fault as fault:
            raise fault.at(at)  # noqa: B904  # the same fault, placed

    return run


def _binary(left: Run, compute: Operator, right: Run, at: int) -> Run:
    def run(frame: Frame) -> Value:
        a, b = left(frame), right(frame)
        try:
            return compute(frame, a, b)
        except Fault as fault:
            raise fault.at(at)  # noqa: B904  # the same fault, placed

    return run


def _fold(first: Run, rest: list[tuple[Operator, Run, int]], *, joins: bool) -> Run:
    """A chain of operators; `joins` if all of them are `+`, which may then join strings or lists."""

    def run(frame: Frame) -> Value:
        total = first(frame)
        join = joins and type(total) in {str, list}
        parts = [total]
        for compute, operand, at in rest:
            value = operand(frame)
            try:
                if not join:
                    total = compute(frame, total, value)
                elif type(value) is type(total):
                    parts.append(value)
                else:
                    compute(frame, total, value)  # raises what `+` has to say about these kinds
            except Fault as fault:
                raise fault.at(at)  # noqa: B904  # the same fault, placed
        return _join(frame, parts, rest[-1][2]) if join else total

    return run


def _join(frame: Frame, parts: list[Value], at: int) -> Value:
    """`a + b + c + …` in linear time: one copy at the end instead of one for each `+`."""
    length = sum(map(len, parts))
    try:
        if type(parts[0]) is str:
            frame.build_text(length)
            return "".join(parts)
        frame.build_items(length)
    except Fault as fault:
        raise fault.at(at)  # noqa: B904  # the same fault, placed
    return [item for part in parts for item in part]


def _function(function: Function, arguments: list[tuple[Run, int]], at: int) -> Run:
    call = function.call
    checks = [
        (run, position, *function.parameter(number)) for number, (run, position) in enumerate(arguments)
    ]

    def run(frame: Frame) -> Value:
        values: list[Value] = []
        for argument, position, name, kinds in checks:
            value = argument(frame)
            if type(value) not in kinds:
                message = f"{function.name}() does not take {with_article(kind(value))} as {name!r}: "
                raise Fault(ErrorCode.WRONG_TYPE, message + function.signature, position)
            values.append(value)
        try:
            return call(frame, *values)
        except Fault as fault:
            raise fault.at(at)  # noqa: B904  # the same fault, placed

    return run
