"""What can go wrong with an expression, and how it is told.

    ExpressionProblem            message, code, position, source, pointer; render() draws the caret
    ├── ExpressionSyntaxError    the author of the flow must act: the text cannot be compiled
    └── ExpressionError          the author or the data must change: this evaluation failed

Inside the package a failure travels as a `Fault`: light, without the source, because `&&`, `||`,
`??` and the macros absorb faults in loops. Whoever knows the place sets it once, and the outermost
call turns the fault into an `ExpressionError`. Faults of the budget are final: nothing absorbs them.

Messages name fields and kinds, never values, so that a message may be logged.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING

from reflux.core.similar import most_similar

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NAME = 100  # characters of a name in a message
_WINDOW = 100  # characters of the source line that render() shows


class ErrorCode(StrEnum):
    """Why an expression was refused or failed; the closed list."""

    SYNTAX = "SYNTAX"  # the text is not an expression
    TOO_LONG = "TOO_LONG"  # more source than MAX_SOURCE
    UNKNOWN_FUNCTION = "UNKNOWN_FUNCTION"
    WRONG_ARGUMENTS = "WRONG_ARGUMENTS"  # a function called with too few or too many arguments
    UNKNOWN_ROOT = "UNKNOWN_ROOT"  # the scope has no such root
    MISSING_FIELD = "MISSING_FIELD"  # a map, or null, without that field: what `??` answers
    INDEX = "INDEX"  # outside a list or a string
    WRONG_TYPE = "WRONG_TYPE"  # an operator or function does not take this kind of value
    BAD_VALUE = "BAD_VALUE"  # right kind, but cannot be read or used: int("x"), min([])
    DUPLICATE_KEY = "DUPLICATE_KEY"  # a map literal sets a key twice
    DIVISION_BY_ZERO = "DIVISION_BY_ZERO"
    OVERFLOW = "OVERFLOW"  # outside int64, or outside the range of times
    NULL_IN_TEXT = "NULL_IN_TEXT"  # null inside the text of a template
    NOT_JSON = "NOT_JSON"  # the result (NaN, an infinity, a foreign object) has no JSON form
    BUDGET_DEPTH = "BUDGET_DEPTH"  # nested deeper than MAX_DEPTH, as source or as value
    BUDGET_ITERATIONS = "BUDGET_ITERATIONS"  # more than MAX_ITERATIONS of macros
    BUDGET_SIZE = "BUDGET_SIZE"  # a value larger than MAX_SIZE
    BUDGET_WORK = "BUDGET_WORK"  # more than MAX_WORK in total


FINAL = frozenset(
    {
        ErrorCode.BUDGET_DEPTH,
        ErrorCode.BUDGET_ITERATIONS,
        ErrorCode.BUDGET_SIZE,
        ErrorCode.BUDGET_WORK,
    }
)
"""Codes that `&&`, `||`, `all` and `exists` never absorb: what is spent is spent."""


class ExpressionProblem(Exception):
    """Anything wrong with an expression, with its place.

    `position` is an offset in characters into `source`; for a template `source` is the whole string
    that holds the expression, and `pointer` (RFC 6901) says where in the document that string is.
    """

    def __init__(self, message: str, code: ErrorCode, position: int, source: str, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.position = position
        self.source = source
        self.pointer = pointer

    def render(self) -> str:
        """The message, the place in the document if there is one, the line and a caret under it."""
        begin = self.source.rfind("\n", 0, self.position) + 1
        end = self.source.find("\n", self.position)
        line = self.source[begin : end if end >= 0 else len(self.source)]
        column = self.position - begin
        shift = max(0, column - _WINDOW * 2 // 3)
        # Anything that would move the cursor, a tab for instance, is shown as one space.
        shown = "".join(c if c.isprintable() else " " for c in line[shift : shift + _WINDOW])
        where = [f"  at {self.pointer}"] if self.pointer else []
        if not self.source:  # it concerns a document as a whole
            return "\n".join([self.message, *where])
        indent = " " * sum(map(_columns, shown[: column - shift]))
        return "\n".join([self.message, *where, f"  {shown}", f"  {indent}^"])


class ExpressionSyntaxError(ExpressionProblem):
    """The source cannot be compiled; no scope would help."""


class ExpressionError(ExpressionProblem):
    """The compiled expression failed over this scope."""


class Fault(Exception):
    """A failure on its way out of an evaluation; internal to this package.

    `choices` are the names that would have been right; they become a hint only if the fault is
    reported, so an absorbed one costs nothing.
    """

    def __init__(
        self, code: ErrorCode, message: str, position: int | None = None, choices: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.position = position
        self.choices = choices
        self.wanted = ""

    def at(self, position: int) -> Fault:
        """The fault, placed at `position` unless something further inside placed it already."""
        if self.position is None:
            self.position = position
        return self

    def report(self, source: str, pointer: str = "") -> ExpressionError:
        """The public error for this fault."""
        message = self.message + self._hint()
        return ExpressionError(message, self.code, self.position or 0, source, pointer)

    def _hint(self) -> str:
        close = most_similar(self.wanted, self.choices)
        return "" if close is None else f"; did you mean {close!r}?"


def _columns(character: str) -> int:
    """How many columns a terminal gives to it: none to what is drawn over the one before (UAX #11)."""
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def missing(code: ErrorCode, message: str, position: int, wanted: str, choices: Iterable[str]) -> Fault:
    """A fault about the absent name `wanted`, which may be a misspelling of one of `choices`."""
    fault = Fault(code, message, position, choices)
    fault.wanted = wanted
    return fault
