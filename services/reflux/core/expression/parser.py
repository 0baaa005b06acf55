"""Tokens to a syntax tree: a Pratt parser over the grammar of CEL, with `??`.

From loose to tight:

    c ? a : b                      right to left
    ||
    &&
    == != < <= > >= in             left to right
    ??                             so `a ?? 0 > 5` is `(a ?? 0) > 5`, as in Kotlin and Swift
    + -
    * / %
    ! -                            prefixes
    .f  .?f  [i]  [?i]  .f(x)      suffixes; a minus right before a number belongs to the number

Macros and `default` are expanded here, where a bare name in an argument still is a name and not a
value. Every recursion goes through `_nested`, which counts, and the finished tree is measured once:
no later pass can run out of stack.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from reflux.core.document import MAX_DEPTH
from reflux.core.expression import nodes
from reflux.core.expression.errors import ErrorCode, ExpressionSyntaxError
from reflux.core.expression.lexer import DOUBLE, END, INT, KEYWORDS, NAME, Token
from reflux.core.expression.nodes import Macro, Node
from reflux.core.expression.values import INT_MAX, INT_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CONDITIONAL, _OR, _AND, _RELATION, _COALESCE, _SUM, _PRODUCT = range(7)
_POWER = {
    "?": _CONDITIONAL,
    "||": _OR,
    "&&": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), _RELATION),
    "??": _COALESCE,
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "%"), _PRODUCT),
}
_MACROS = {macro.value: macro for macro in Macro}

RESERVED = KEYWORDS | {
    *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
    *("package", "namespace", "return", "var", "void", "while"),
}
"""Words that CEL keeps for itself: neither a root nor a macro variable can be called so."""


NAMESPACES = frozenset({"base64", "json", "math"})
"""First halves of function names: `json.encode(x)` is a function, not a method of a root `json`."""


def parse(source: str, tokens: Sequence[Token]) -> Node:
    """The tree of one whole expression.

    Raises:
        ExpressionSyntaxError: SYNTAX, OVERFLOW for a number outside its range, BUDGET_DEPTH.
    """
    parser = _Parser(source, tokens)
    tree = parser.expression()
    parser.expect(END)
    _check_depth(source, tree)
    return tree


def _check_depth(source: str, tree: Node) -> None:
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep(source, node.start)
        waiting += [(part, depth + 1) for part in nodes.children(node)]


def _too_deep(source: str, position: int) -> ExpressionSyntaxError:
    message = f"this expression nests deeper than {MAX_DEPTH} levels"
    return ExpressionSyntaxError(message, ErrorCode.BUDGET_DEPTH, position, source)


class _Parser:
    """One pass over the tokens; `_next` is the index of the next one, `_depth` the open nesting."""

    def __init__(self, source: str, tokens: Sequence[Token]) -> None:
        self._source = source
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    # -- tokens ------------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _accept(self, kind: str) -> bool:
        if self._peek().kind == kind:
            self._next += 1
            return True
        return False

    def expect(self, kind: str) -> Token:
        """The next token, which must be of `kind`.

        Raises:
            ExpressionSyntaxError: it is not.
        """
        if self._peek().kind != kind:
            raise self._unexpected({NAME: "a name", END: "the end of the expression"}.get(kind, f"'{kind}'"))
        return self._take()

    def _unexpected(self, wanted: str) -> ExpressionSyntaxError:
        token = self._peek()
        found = "the end" if token.kind == END else repr(self._source[token.start : token.end][:40])
        return self._refuse(f"expected {wanted}, found {found}", token.start)

    def _refuse(self, message: str, position: int) -> ExpressionSyntaxError:
        return ExpressionSyntaxError(message, ErrorCode.SYNTAX, position, self._source)

    @contextmanager
    def _nested(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _too_deep(self._source, self._peek().start)
        yield
        self._depth -= 1

    # -- operators ---------------------------------------------------------------------------------

    def expression(self, floor: int = _CONDITIONAL) -> Node:
        """An expression whose operators bind at least as tightly as `floor`."""
        left = self._prefixed()
        while (power := _POWER.get(self._peek().kind, -1)) >= floor:
            left = self._infix(left, power)
        return left

    def _infix(self, left: Node, power: int) -> Node:
        if power == _CONDITIONAL:
            return self._conditional(left)
        links: list[nodes.Link] = []
        while _POWER.get(self._peek().kind) == power:
            operator = self._take()
            links.append(nodes.Link(operator.kind, self.expression(power + 1), operator.start))
        start, end = left.start, links[-1].operand.end
        operands = (left, *(link.operand for link in links))
        if power == _COALESCE:
            return nodes.Coalesce(start, end, operands)
        if power in {_AND, _OR}:
            return nodes.Logic(start, end, power == _OR, operands)
        return nodes.Chain(start, end, left, tuple(links))

    def _conditional(self, condition: Node) -> Node:
        self.expect("?")
        with self._nested():
            then = self.expression()
            self.expect(":")
            otherwise = self.expression()
        return nodes.Conditional(condition.start, otherwise.end, condition, then, otherwise)

    def _prefixed(self) -> Node:
        prefixes: list[Token] = []
        while self._peek().kind in {"!", "-"}:
            if self._peek().kind == "-" and self._peek(1).kind in {INT, DOUBLE}:
                break
            prefixes.append(self._take())
        operand = self._suffixed(self._primary())
        for prefix in reversed(prefixes):
            operand = nodes.Unary(prefix.start, operand.end, prefix.kind, operand)
        return operand

    def _suffixed(self, operand: Node) -> Node:
        while True:
            start = operand.start
            if self._accept("["):
                optional = self._accept("?")
                with self._nested():
                    key = self.expression()
                end = self.expect("]").end
                operand = nodes.Index(start, end, operand, key, optional, key.start)
            elif self._accept(".?"):
                field = self._field()
                operand = nodes.Select(start, field.end, operand, str(field.value), True, field.start)
            elif self._accept("."):
                field = self._field()
                if self._peek().kind == "(":
                    operand = self._method(operand, field)
                else:
                    operand = nodes.Select(start, field.end, operand, str(field.value), False, field.start)
            else:
                return operand

    def _field(self) -> Token:
        if self._peek().kind in KEYWORDS:
            raise self._refuse(f'a field of this name is written ["{self._peek().kind}"]', self._peek().start)
        return self.expect(NAME)

    # -- operands ----------------------------------------------------------------------------------

    def _primary(self) -> Node:
        token = self._peek()
        match token.kind:
            case "true" | "false" | "null":
                self._take()
                value = {"true": True, "false": False, "null": None}[token.kind]
                return nodes.Literal(token.start, token.end, value)
            case "string":
                self._take()
                return nodes.Literal(token.start, token.end, token.value)
            case "-" | "int" | "double":
                return self._number()
            case "name":
                self._take()
                return self._function(token) if self._peek().kind == "(" else self._name(token)
            case "(":
                self._take()
                with self._nested():
                    inner = self.expression()
                self.expect(")")
                return inner
            case "[":
                return self._list()
            case "{":
                return self._map()
        raise self._unexpected("a value")

    def _number(self) -> Node:
        start = self._peek().start
        sign = -1 if self._accept("-") else 1
        token = self._take()
        assert not isinstance(token.value, str)
        value = sign * token.value
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            message = "this number is outside the range of int; write it as a double, with '.0'"
            raise ExpressionSyntaxError(message, ErrorCode.OVERFLOW, start, self._source)
        if value in {float("inf"), float("-inf")}:
            message = "this number is outside the range of double"
            raise ExpressionSyntaxError(message, ErrorCode.OVERFLOW, start, self._source)
        return nodes.Literal(start, token.end, value)

    def _name(self, token: Token) -> Node:
        if token.value in RESERVED:
            raise self._refuse(f"{token.value!r} is a reserved word", token.start)
        return nodes.Name(token.start, token.end, str(token.value))

    def _list(self) -> Node:
        start = self.expect("[").start
        items: list[Node] = []
        with self._nested():
            while self._peek().kind != "]":
                items.append(self.expression())
                if not self._accept(","):
                    break
        return nodes.ListLiteral(start, self.expect("]").end, tuple(items))

    def _map(self) -> Node:
        start = self.expect("{").start
        entries: list[tuple[Node, Node]] = []
        with self._nested():
            while self._peek().kind != "}":
                key = self.expression()
                self.expect(":")
                entries.append((key, self.expression()))
                if not self._accept(","):
                    break
        return nodes.MapLiteral(start, self.expect("}").end, tuple(entries))

    # -- calls -------------------------------------------------------------------------------------

    def _arguments(self) -> tuple[tuple[Node, ...], int]:
        """The arguments between parentheses, and the offset after them."""
        self.expect("(")
        arguments: list[Node] = []
        if self._peek().kind != ")":
            with self._nested():
                arguments.append(self.expression())
                while self._accept(","):
                    arguments.append(self.expression())
        return tuple(arguments), self.expect(")").end

    def _function(self, name: Token) -> Node:
        arguments, end = self._arguments()
        if name.value == "has":
            return self._has(name, arguments, end)
        return self._call(name.start, name, str(name.value), arguments, end)

    def _method(self, receiver: Node, name: Token) -> Node:
        arguments, end = self._arguments()
        if name.value in _MACROS:
            return self._comprehension(receiver, name, arguments, end)
        if isinstance(receiver, nodes.Name) and receiver.name in NAMESPACES:
            return self._call(receiver.start, name, f"{receiver.name}.{name.value}", arguments, end)
        return self._call(receiver.start, name, str(name.value), (receiver, *arguments), end)

    def _call(self, start: int, name: Token, function: str, arguments: tuple[Node, ...], end: int) -> Node:
        if function == "default":
            if len(arguments) != 2:
                raise self._refuse("default(value, fallback) takes two arguments", name.start)
            return nodes.Coalesce(start, end, arguments)
        return nodes.Call(start, end, function, arguments, name.start)

    def _has(self, name: Token, arguments: tuple[Node, ...], end: int) -> Node:
        match arguments:
            case (nodes.Select() as selection,):
                return nodes.Has(name.start, end, selection)
        raise self._refuse("has() asks for a field: has(value.field)", name.start)

    def _comprehension(self, over: Node, name: Token, arguments: tuple[Node, ...], end: int) -> Node:
        macro = _MACROS[str(name.value)]
        match arguments:
            case (nodes.Name(name=variable), body):
                condition = None
            case (nodes.Name(name=variable), condition, body) if macro is Macro.MAP:
                pass
            case _:
                forms = "variable, transform or variable, condition, transform"
                wanted = forms if macro is Macro.MAP else "variable, condition"
                raise self._refuse(f"{macro}() takes ({wanted})", name.start)
        return nodes.Comprehension(over.start, end, macro, over, variable, condition, body, name.start)
