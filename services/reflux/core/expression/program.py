"""The whole way from text to something that runs: lexer, parser, references, compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.expression.compiler import compile_tree
from reflux.core.expression.lexer import tokenize
from reflux.core.expression.parser import parse
from reflux.core.expression.references import Reference, references, unwind
from reflux.core.expression.values import Value, seal

if TYPE_CHECKING:
    from reflux.core.expression.frame import Frame, Run


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled piece of `source`, from `begin` (its first token) to `end` (after its `}}`, if any).

    `slots` is what its frame must offer. `is_plain` says that it only selects a part of the scope,
    which is JSON within its limits already and need not be walked again.
    """

    source: str
    begin: int
    end: int
    run: Run
    slots: int
    references: tuple[Reference, ...]
    is_plain: bool

    def result(self, frame: Frame) -> Value:
        """The value as a checked `JsonValue`. Raises `Fault`; without a place it is about the result."""
        value = self.run(frame)
        return value if self.is_plain and type(value) in {dict, list} else seal(value)


def compile_program(source: str, start: int = 0, *, in_template: bool = False) -> Program:
    """Compile the expression at `start`; with `in_template` it ends before `}}`, else with the source.

    Raises:
        ExpressionSyntaxError: with positions in the whole of `source`.
    """
    tokens, end = tokenize(source, start, in_template=in_template)
    tree = parse(source, tokens)
    run, slots = compile_tree(source, tree)
    return Program(source, tree.start, end, run, slots, references(tree), unwind(tree) is not None)
