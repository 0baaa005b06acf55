"""The whole way from text to something that runs: lexer, parser, references, compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.document import write
from reflux.core.expression.compiler import compile_tree
from reflux.core.expression.lexer import tokenize
from reflux.core.expression.parser import parse
from reflux.core.expression.references import ALIASES, Reference, references, unwind
from reflux.core.expression.values import Value, seal

if TYPE_CHECKING:
    from reflux.core.expression.frame import Frame, Run
    from reflux.core.expression.nodes import Node


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled piece of `source`, from `begin` (its first token) to `end` (after its `}}`, if any).

    `slots` is what its frame must offer. `is_plain` says that it only selects a part of one document,
    which is JSON within its limits already and need not be walked again.
    """

    source: str
    begin: int
    end: int
    run: Run
    slots: int
    references: tuple[Reference, ...]
    is_plain: bool

    def result(self, frame: Frame, around: int = 0) -> Value:
        """The value as a checked `JsonValue`, to stand inside of `around` levels.

        Raises `Fault`; without a place it is about the result. What is plain and alone in its document is not
        looked at: whoever writes the document finds its size and its depth.
        """
        value = self.run(frame)
        if not self.is_plain or type(value) not in {dict, list}:
            return seal(frame, value, around)
        if frame.is_shared:
            try:
                frame.keep(len(write(value, around)))  # some 20 times faster than to walk through it
            except (TypeError, ValueError):
                return seal(frame, value, around)  # which finds out why
        return value


def compile_program(source: str, start: int = 0, *, in_template: bool = False) -> Program:
    """Compile the expression at `start`; with `in_template` it ends before `}}`, else with the source.

    Raises:
        ExpressionSyntaxError: with positions in the whole of `source`.
    """
    tokens, end = tokenize(source, start, in_template=in_template)
    tree = parse(source, tokens)
    run, slots = compile_tree(source, tree)
    return Program(source, tree.start, end, run, slots, references(tree), _is_plain(tree))


def _is_plain(tree: Node) -> bool:
    static = unwind(tree)
    if static is None:
        return False
    name, keys, _ = static
    # All steps together are no document: there are as many in them as a run may hold.
    return bool(keys) or ALIASES.get(name.name, name.name) != "steps"
