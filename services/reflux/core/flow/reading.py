"""Typed reading of a document: each method gives the value, or records a problem and gives what lets the
compiler go on, so that one compilation finds every problem.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from reflux.core.expression import (
    RESERVED,
    Expression,
    ExpressionProblem,
    compile_expression,
    compile_template,
    readable_part,
    template_problems,
)
from reflux.core.flow.durations import format_duration, parse_duration
from reflux.core.flow.problems import Place, ProblemCode, Problems
from reflux.core.flow.schema import Schema, SchemaProblem

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta

    from reflux.core.document import JsonValue
    from reflux.core.expression import Template

Choice = TypeVar("Choice", bound=StrEnum)

IDENTIFIER_RULE: Final = "a letter, then at most 62 letters, digits or _"

_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
NEVER: Final = compile_expression("false")
"""Stands for a condition that could not be compiled."""
NOTHING: Final = compile_template(None)
"""Stands for a template that could not be compiled."""

_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "a bool",
    int: "a whole number",
    float: "a decimal number",
    str: "text",
    list: "a list",
    dict: "an object",
}


class Reader:
    """Reads places of one document; what is wrong goes to `problems`."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def wrong_type(self, place: Place, wanted: str, hint: str = "") -> None:
        """Record that `place` should be `wanted`."""
        message = f"this should be {wanted}, not {_KINDS[type(place.value)]}"
        self.problems.add(ProblemCode.WRONG_TYPE, place, message, hint)

    def mapping(self, place: Place, wanted: str = "an object") -> dict[str, JsonValue]:
        """The object at `place`, or an empty one."""
        if isinstance(place.value, dict):
            return place.value
        self.wrong_type(place, wanted)
        return {}

    def items(self, place: Place, wanted: str = "a list") -> list[Place]:
        """The places of a list, or none."""
        if isinstance(place.value, list):
            return [place.at(n) for n in range(len(place.value))]
        self.wrong_type(place, wanted)
        return []

    def known_keys(
        self,
        place: Place,
        known: Collection[str],
        ignored: Collection[str] = (),
    ) -> None:
        """Record every key of the object that is neither `known` nor `ignored`."""
        for key in self.mapping(place):
            if key not in known and key not in ignored:
                message = f"there is no key {key[:100]!r} here"
                where = (*place.path, key)
                self.problems.add_unknown(ProblemCode.UNKNOWN_KEY, where, message, key, known)

    def required(self, place: Place, key: str) -> Place | None:
        """The member `key`; None, and a problem, when there is none."""
        if not isinstance(place.value, dict):
            return None
        if key in place.value:
            return place.at(key)
        self.problems.add(ProblemCode.MISSING_KEY, place, f"{key} is missing")
        return None

    def optional(self, place: Place, key: str) -> Place | None:
        """The member `key`, or None."""
        return place.at(key) if isinstance(place.value, dict) and key in place.value else None

    def text(self, place: Place | None) -> str | None:
        """The text at `place`."""
        if place is None or isinstance(place.value, str):
            return None if place is None else str(place.value)
        single = not isinstance(place.value, dict | list)
        self.wrong_type(place, "text", "write it in quotes: they make text of anything" if single else "")
        return None

    def boolean(self, place: Place | None) -> bool:
        """The bool at `place`; False without one."""
        if place is None:
            return False
        if not isinstance(place.value, bool):
            self.wrong_type(place, "true or false")
        return place.value is True

    def choice(self, place: Place | None, choices: type[Choice], unless: Choice) -> Choice:
        """One of `choices`; `unless` when there is nothing to read."""
        text = self.text(place)
        if place is None or text is None:
            return unless
        if text in set(choices):
            return choices(text)
        self.bad_choice(place, text, list(choices))
        return unless

    def bad_choice(self, place: Place, text: str, choices: Collection[str]) -> None:
        """Record that `text` is none of `choices`."""
        message = f"{text[:100]!r} is not accepted here"
        self.problems.add_unknown(ProblemCode.BAD_VALUE, place, message, text, choices)

    def identifier(self, place: Place | None, what: str) -> str | None:
        """A name that expressions can select."""
        text = self.text(place)
        if place is None or text is None:
            return None
        message, hint = f"{text[:100]!r} cannot be {what}", f"write {IDENTIFIER_RULE}"
        if _IDENTIFIER.fullmatch(text):
            if text not in RESERVED:
                return text
            message, hint = f"{message}: it is a word of the expression language", "choose another name"
        self.problems.add(ProblemCode.BAD_NAME, place, message, hint)
        return None

    def number(self, place: Place | None, low: float, high: float, unless: float) -> float:
        """A number between two bounds; whole when `unless` is."""
        if place is None:
            return unless
        value = place.value
        kinds = int if isinstance(unless, int) else int | float
        if isinstance(value, bool) or not isinstance(value, kinds):
            self.wrong_type(place, "a whole number" if kinds is int else "a number")
        elif not low <= value <= high:
            message = f"{value} is not between {low} and {high}"
            self.problems.add(ProblemCode.BAD_VALUE, place, message)
        else:
            return value
        return unless

    def duration(self, place: Place, low: timedelta, high: timedelta) -> timedelta | None:
        """A duration between two bounds."""
        try:
            duration = parse_duration(place.value)
        except ValueError as error:
            self.problems.add(ProblemCode.BAD_VALUE, place, str(error))
            return None
        if low <= duration <= high:
            return duration
        bounds = f"between {format_duration(low)} and {format_duration(high)}"
        message = f"{format_duration(duration)} is not {bounds}"
        self.problems.add(ProblemCode.BAD_VALUE, place, message)
        return None

    def condition(self, place: Place) -> Expression:
        """What gives a bool: exactly one `{{ … }}`, or a plain true or false."""
        if isinstance(place.value, bool):
            return compile_expression("true" if place.value else "false")
        text = self.text(place)
        if text is None:
            return NEVER
        if (expression := only_expression(text)) is not None:
            return expression
        if "{{" not in text or not self._report_faults(place):
            message = "a condition is exactly one expression"
            hint = 'write "{{ … }}" and nothing around it'
            self.problems.add(ProblemCode.NOT_A_CONDITION, place, message, hint)
        return NEVER

    def template(self, place: Place) -> Template:
        """The value at `place` with its templates compiled."""
        try:
            return compile_template(place.value)
        except ExpressionProblem:
            self._report_faults(place)
            return NOTHING if isinstance(place.value, str) else readable_part(place.value)

    def _report_faults(self, place: Place) -> bool:
        """Record every template inside that cannot be compiled; whether there was one."""
        faults = template_problems(place.value)
        for fault in faults:
            where = place.inside(fault.pointer)
            message = f"{fault.message} (at character {fault.position + 1})"
            self.problems.add(ProblemCode.BAD_EXPRESSION, where, message)
        return bool(faults)

    def schema(self, place: Place | None) -> Schema | None:
        """The JSON Schema at `place`; None without one, or when it cannot be used."""
        if place is None:
            return None
        try:
            return Schema.compile(place.value)
        except SchemaProblem as problem:
            self.problems.add(ProblemCode.BAD_SCHEMA, (*place.path, *problem.path), problem.message)
            return None

    def constants(self, place: Place) -> Mapping[str, JsonValue]:
        """An object that holds no template."""
        value = self.mapping(place)
        for inner in _texts(place):
            if "{{" in str(inner.value):
                message = "vars are constants: nothing is evaluated here"
                hint = "write the template where the value is used"
                self.problems.add(ProblemCode.TEMPLATE_NOT_ALLOWED, inner, message, hint)
        return value


def only_expression(text: str) -> Expression | None:
    """The expression of a text that is one `{{ … }}` and nothing else."""
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    try:
        return compile_expression(text[2:-2])
    except ExpressionProblem:
        return None


def _texts(place: Place) -> list[Place]:
    """Every text inside a value."""
    if isinstance(place.value, str):
        return [place]
    keys: Collection[str | int] = ()
    if isinstance(place.value, dict):
        keys = place.value
    elif isinstance(place.value, list):
        keys = range(len(place.value))
    return [text for key in keys for text in _texts(place.at(key))]
