"""Templates: JSON documents with expressions in their strings.

- A string that is exactly one `{{ e }}` gives the value of `e`, whatever its kind. In any other text
  each `{{ e }}` becomes text: maps and lists as compact JSON, null is an error.
- The text is tokenised. `}}` inside a string literal or at the end of map literals does not end an
  expression, and `{{a}}{{b}}` is two.
- A literal `{{` is written as an expression: `{{ '{{' }}`. A `}}` outside of expressions is just text.
- Keys are not templates; a key with `{{` is refused, because it would be taken literally in silence.
- All expressions of a document share one budget, and their results together have one size limit: a
  document of many references to the same large value is as large as it is when written out. The limit of
  depth counts the levels around an expression. The first expression to run over is the one that is named.

What is constant in a document is settled when it is compiled and shared by all results.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from reflux.core.document import MAX_DEPTH, Json, TooDeep
from reflux.core.expression.budget import MAX_SIZE
from reflux.core.expression.errors import ErrorCode, ExpressionError, ExpressionSyntaxError, Fault
from reflux.core.expression.frame import Frame
from reflux.core.expression.program import Program, compile_program
from reflux.core.expression.values import Value, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reflux.core.document import JsonValue
    from reflux.core.expression.budget import Room
    from reflux.core.expression.references import Reference

    Part: TypeAlias = "Callable[[Frame], Value] | None"
    """How to evaluate a part of a document; None if it is constant. Raises `ExpressionError`."""

_OPEN = "{{"
MAX_SHOWN: Final = 200
"""Characters of a value in an error."""


class Template:
    """A compiled document; `compile_template` makes one. Immutable and shareable, as `Expression` is."""

    __slots__ = ("_constant", "_programs", "_run", "_slots", "at", "references")

    def __init__(self, constant: JsonValue, run: Part, programs: Sequence[tuple[str, Program]]) -> None:
        self.at = ""
        """JSON pointer of the document in something larger: the pointers of errors begin with it."""
        self._constant = constant
        self._run = run
        self._programs = programs
        self._slots = max((program.slots for _, program in programs), default=0)
        self.references: tuple[Reference, ...] = tuple(
            reference.within(pointer) for pointer, program in programs for reference in program.references
        )
        """What it reads of the scope, each with the pointer of its string, in document order."""

    def placed(self, at: str) -> Self:
        """The same one, at this place."""
        other = copy(self)
        other.at = at
        return other

    @property
    def is_constant(self) -> bool:
        """Whether there is no expression in it."""
        return self._run is None

    @property
    def roots(self) -> frozenset[str]:
        """The roots of the scope that it reads, by their present names."""
        return frozenset(reference.root for reference in self.references)

    def evaluate(self, scope: Mapping[str, object], room: Room | None = None) -> JsonValue:
        """The document over `scope`; parts may be shared with the scope and with other results.

        With `room` it takes its size from there. A single part of the scope, which nothing is computed of, is
        as large and as deep as it is: who writes the result finds out, as `document` does.

        Raises:
            ExpressionError: the first expression that fails, with its pointer.
        """
        if self._run is None:
            return self._constant
        try:
            if room is None:
                return self._run(Frame(scope, self._slots, is_shared=len(self._programs) > 1))  # type: ignore[no-any-return]
            frame = Frame(scope, self._slots, is_shared=True)
            frame.room = given = min(room.left, MAX_SIZE)
            result: JsonValue = self._run(frame)
        except ExpressionError as error:
            error.pointer = self.at + error.pointer
            raise
        room.left -= given - frame.room
        return result

    def document(self, scope: Mapping[str, object]) -> Json:
        """As `evaluate`, written, and not deeper than `MAX_DEPTH`.

        Raises:
            ExpressionError: the first expression that fails, with its pointer.
        """
        value = self.evaluate(scope)
        try:
            return Json.bounded(value)
        except TooDeep as error:
            pointer, program = self._programs[0]  # the only one, since all others were measured
            raise _report(Fault(ErrorCode.BUDGET_DEPTH, str(error)), program, self.at + pointer) from None

    def unfit(self, message: str, value: JsonValue) -> ExpressionError:
        """That `value`, to which it evaluated, is of no use where it is used, as `message` says."""
        shown = Json.of(value).raw.decode()[:MAX_SHOWN]
        if not self._programs:
            return ExpressionError(message, ErrorCode.WRONG_TYPE, 0, shown, self.at)
        pointer, program = self._programs[0]
        return _report(
            Fault(ErrorCode.WRONG_TYPE, f"{message}; this gives {shown}"), program, self.at + pointer
        )


def compile_template(value: JsonValue) -> Template:
    """Compile a JSON document.

    Raises:
        ExpressionSyntaxError: the first problem, in document order.
    """
    template, problems = _compile(value)
    if problems:
        raise problems[0]
    return template


def template_problems(value: JsonValue) -> tuple[ExpressionSyntaxError, ...]:
    """Everything that `compile_template` would refuse, in document order."""
    return tuple(_compile(value)[1])


def readable_part(value: JsonValue) -> Template:
    """What can be compiled of a document, for whoever looks for more that is wrong with it."""
    return _compile(value)[0]


def _compile(value: JsonValue) -> tuple[Template, list[ExpressionSyntaxError]]:
    builder = _Builder()
    run = builder.build(value, "", 0)
    return Template(value, run, builder.programs), builder.problems


class _Builder:
    """One walk over a document; collects its expressions and what is wrong with them."""

    def __init__(self) -> None:
        self.programs: list[tuple[str, Program]] = []
        self.problems: list[ExpressionSyntaxError] = []

    def build(self, value: JsonValue, pointer: str, depth: int) -> Part:
        """The way to evaluate `value`, which stands at `pointer`."""
        if depth >= MAX_DEPTH and isinstance(value, list | dict):
            message = f"this document nests deeper than {MAX_DEPTH} levels"
            self._problem(ErrorCode.BUDGET_DEPTH, message, 0, "", pointer)
            return None
        match value:
            case str():
                return self._text(value, pointer, depth)
            case list():
                items = [self.build(item, f"{pointer}/{i}", depth + 1) for i, item in enumerate(value)]
                return _list(value, items) if any(items) else None
            case dict():
                return self._map(value, pointer, depth)
            case None | bool() | int() | float():
                return None
        message = f"a Python {type(value).__name__} is no JSON value"
        self._problem(ErrorCode.NOT_JSON, message, 0, "", pointer)
        return None

    def _map(self, value: dict[str, JsonValue], pointer: str, depth: int) -> Part:
        entries: dict[str, Part] = {}
        for key, part in value.items():
            if not isinstance(key, str):
                self._problem(ErrorCode.NOT_JSON, "a key of a map is no string", 0, "", pointer)
                continue
            place = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            if _OPEN in key:
                message = "a key cannot be a template; build the map in an expression"
                self._problem(ErrorCode.SYNTAX, message, key.index(_OPEN), key, place)
            entries[key] = self.build(part, place, depth + 1)
        return _dict(value, entries) if any(entries.values()) else None

    def _text(self, text: str, pointer: str, depth: int) -> Part:
        pieces: list[str | Program] = []
        position = 0
        while (begin := text.find(_OPEN, position)) >= 0:
            try:
                program = compile_program(text, begin + len(_OPEN), in_template=True)
            except ExpressionSyntaxError as error:
                self._problem(error.code, error.message, error.position, text, pointer)
                return None
            self.programs.append((pointer, program))
            if begin > position:
                pieces.append(text[position:begin])
            pieces.append(program)
            position = program.end
        if position < len(text):
            pieces.append(text[position:])
        match pieces:
            case [Program() as program]:
                return _typed(program, pointer, depth)
            case _ if position == 0:
                return None
            case _:
                return _joined(text, pieces, pointer)

    def _problem(self, code: ErrorCode, message: str, position: int, source: str, pointer: str) -> None:
        self.problems.append(ExpressionSyntaxError(message, code, position, source, pointer))


def _list(constant: list[JsonValue], items: list[Part]) -> Part:
    changing = [(index, item) for index, item in enumerate(items) if item is not None]

    def run(frame: Frame) -> Value:
        result = constant.copy()
        for index, item in changing:
            result[index] = item(frame)
        return result

    return run


def _dict(constant: dict[str, JsonValue], entries: dict[str, Part]) -> Part:
    changing = [(key, entry) for key, entry in entries.items() if entry is not None]

    def run(frame: Frame) -> Value:
        result = constant.copy()  # which also keeps the order of the keys
        for key, entry in changing:
            result[key] = entry(frame)
        return result

    return run


def _typed(program: Program, pointer: str, depth: int) -> Part:
    def run(frame: Frame) -> Value:
        try:
            return program.result(frame, depth)
        except Fault as fault:
            raise _report(fault, program, pointer) from None

    return run


def _joined(source: str, pieces: list[str | Program], pointer: str) -> Part:
    def run(frame: Frame) -> Value:
        texts: list[str] = []
        for piece in pieces:
            if isinstance(piece, str):
                texts.append(piece)
                continue
            try:
                texts.append(to_text(frame, piece.run(frame)))
            except Fault as fault:
                raise _report(fault, piece, pointer) from None
        try:
            length = sum(map(len, texts))
            frame.build_text(length)
            frame.keep(length)
        except Fault as fault:
            raise fault.report(source, pointer) from None
        return "".join(texts)

    return run


def _report(fault: Fault, program: Program, pointer: str) -> ExpressionError:
    return fault.at(program.begin).report(program.source, pointer)
