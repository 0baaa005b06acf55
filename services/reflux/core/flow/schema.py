"""JSON Schema 2020-12 for documents of people, made harmless.

A schema comes from anyone and is applied inside the orchestrator, so it must end soon on every value:

- `$ref` is resolved here, once, by writing out what it names. A schema is then a tree, each place of which
  looks at each place of a value at most once. References that leave the document, or come back to
  themselves, are refused.
- What is left to a value and a schema that are both large is bounded by `MAX_WORK`; see `fitting`.
- Regular expressions (`pattern`, `patternProperties`) are refused: Python's can be made to run for ever.

`lenient` is for the schemas of nodes, which check their input themselves: what is refused above is then left
out, so that the check finds less but nothing that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from reflux.core.document import MAX_DEPTH, JsonValue
from reflux.core.errors import Violation
from reflux.core.flow.fitting import Place, TooMuchWork, Work
from reflux.core.flow.keywords import TYPES
from reflux.core.flow.problems import Path, pointer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from jsonschema import ValidationError

    from reflux.core.flow.fitting import Fault

MAX_PLACES: Final = 5_000
"""Values inside a schema, references written out."""
MAX_VIOLATIONS: Final = 20
MAX_WORK: Final = 1_500_000
"""To check one value, in the units of `fitting`: about 80 ms. 1 MiB of ordinary rows takes 50 to 75 ms."""
MAX_POINTER: Final = 1_000
"""Characters."""

_TOO_LONG: Final = "this takes too long to check against the schema: give it fewer or smaller parts"

_INSIDE_ONLY: Final = "only references inside the schema, such as #/$defs/item, are supported"
_NO_PATTERNS: Final = "regular expressions are not supported yet"
_REFUSED: Final = {
    "pattern": _NO_PATTERNS,
    "patternProperties": _NO_PATTERNS,
    "$id": _INSIDE_ONLY,
    "$anchor": _INSIDE_ONLY,
    "$dynamicRef": _INSIDE_ONLY,
    "$dynamicAnchor": _INSIDE_ONLY,
}
_OF_THE_REST: Final = frozenset({"additionalProperties", "unevaluatedProperties"})
_EITHER_WAY: Final = frozenset(
    {"not", "if", "oneOf", "contains"}
)  # may refuse what less inside them would take
_VALUES: Final = frozenset({"const", "enum", "default", "examples"})  # hold values, not schemas
_NAMED: Final = frozenset({"properties", "$defs", "dependentSchemas"})  # hold schemas by names of people
_SHAPE: Final = frozenset(
    {
        "type",
        "required",
        "additionalProperties",
        "dependentRequired",
        "minProperties",
        "maxProperties",
        "minItems",
        "maxItems",
    }
)  # keywords that look at a value's shape, not at what is in it

_META: Final = Draft202012Validator(Draft202012Validator.META_SCHEMA)


class SchemaProblem(Exception):
    """The schema cannot be used; `path` is the place inside it."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema that is safe to apply. Made by `Schema.compile`."""

    source: JsonValue
    """As it was written."""
    _place: Place = field(repr=False, compare=False)
    _lenient: bool = field(repr=False, compare=False)

    @classmethod
    def compile(cls, source: JsonValue, *, lenient: bool = False) -> Schema:
        """Check and prepare a schema.

        Raises:
            SchemaProblem: no JSON Schema 2020-12, or one that is refused (see the module).
        """
        if not isinstance(source, dict | bool):
            raise SchemaProblem((), "a schema is an object, or true or false")
        _refuse_large(source)
        error = best_match(_META.iter_errors(source))
        if error is not None:
            raise SchemaProblem(tuple(error.absolute_path), _told(error))
        tree = _Writer(source, lenient=lenient).write(source, (), ())
        assert isinstance(tree, dict | bool), "written out like its source"
        return cls(source, Place(tree), lenient)

    def violations(
        self, value: JsonValue, at: str = "", unknown: Collection[str] = ()
    ) -> tuple[Violation, ...]:
        """Where `value` does not fit, at most `MAX_VIOLATIONS`, as pointers that begin with `at`.

        `unknown` are pointers to parts of the value that are not known yet, such as templates. Whatever may
        turn out well with them is not reported.
        """
        doubt = _Doubt.of(unknown) if unknown else None
        found: list[Violation] = []
        work = Work(MAX_WORK)
        try:
            for fault in self._place.faults(value, work):
                if doubt is None or not doubt.covers(fault, work):
                    found.append(Violation(at + _pointer(fault.path), _shorten(fault.message)))
                    if len(found) == MAX_VIOLATIONS:
                        break
        except TooMuchWork:
            if not found and not self._lenient:
                found.append(Violation(at, _TOO_LONG))
        return tuple(found)


def written_out(source: JsonValue) -> JsonValue:
    """A node's schema as a tree to be looked at, not applied: references written out, `pattern` kept.

    Raises:
        SchemaProblem: as `Schema.compile` with `lenient`.
    """
    Schema.compile(source, lenient=True)
    return _Writer(source, lenient=True, patterns=True).write(source, (), ())


def _refuse_large(source: JsonValue) -> None:
    """Count before anything walks the schema; without recursion, for nobody has looked at its depth."""
    rest, places = [source], 0
    while rest and places <= MAX_PLACES:
        value = rest.pop()
        places += 1
        if isinstance(value, dict | list):
            rest.extend(value.values() if isinstance(value, dict) else value)
    if places > MAX_PLACES:
        raise SchemaProblem((), f"the schema has more than {MAX_PLACES:,} values")


def _pointer(path: Path) -> str:
    """To the place, or around it: the names of members are as long as their writer likes."""
    found = pointer(path)
    while len(found) > MAX_POINTER:
        found = found.rpartition("/")[0]
    return found


@dataclass(frozen=True, slots=True)
class _Doubt:
    """The parts of a value that are not known yet, and everything around them."""

    parts: frozenset[str]
    around: frozenset[str]

    @classmethod
    def of(cls, unknown: Collection[str]) -> _Doubt:
        return cls(frozenset(unknown), frozenset(place for part in unknown for place in _upwards(part)))

    def covers(self, fault: Fault, work: Work) -> bool:
        """Whether the fault might vanish when the parts are known.

        Raises:
            TooMuchWork: there are too many faults, or their places have long names.
        """
        here = pointer(fault.path)
        work.spend(len(here))
        if fault.conditional or any(place in self.parts for place in _upwards(here)):
            return True
        return fault.keyword not in _SHAPE and here in self.around


def _upwards(place: str) -> Iterator[str]:
    """The place itself and all that it is in."""
    yield place
    while place:
        place = place.rpartition("/")[0]
        yield place


def _told(error: ValidationError) -> str:
    """What is wrong with a schema; of `type`, which is written in two forms, more than that neither fits."""
    if error.validator == "anyOf" and error.absolute_path and error.absolute_path[-1] == "type":
        return f"{_shorten(repr(error.instance))} is no type; one of: {', '.join(TYPES)}; or a list of them"
    return _shorten(error.message)


def _shorten(message: str) -> str:
    """A message quotes the whole value it is about; nobody reads more than its ends."""
    return message if len(message) <= 200 else f"{message[:120]} … {message[-70:]}"


class _Writer:
    """Writes out a valid schema as a tree."""

    def __init__(self, root: JsonValue, *, lenient: bool, patterns: bool = False) -> None:
        self._root = root
        self._lenient = lenient
        self._patterns = patterns
        self._places = 0
        self._left_out = 0

    def write(self, node: JsonValue, path: Path, inside: tuple[str, ...], depth: int = 0) -> JsonValue:
        """What stands at `path`; `inside` are the references that are being written out around it."""
        self._places += 1
        if self._places > MAX_PLACES or depth > MAX_DEPTH:
            limit = f"{MAX_PLACES:,} values or {MAX_DEPTH} levels"
            raise SchemaProblem(path[:1], f"the schema has more than {limit}, references written out")
        if isinstance(node, list):
            return [self.write(item, (*path, n), inside, depth + 1) for n, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        tree: dict[str, JsonValue] = {}
        for key, value in node.items():
            here = (*path, key)
            if key == "pattern" and self._patterns:
                tree[key] = value
            elif key in _OF_THE_REST and "patternProperties" in node:
                continue  # which members are the rest cannot be said without the patterns
            elif key in _REFUSED:
                self._refuse(here, _REFUSED[key])
            elif key in _VALUES:
                tree[key] = value
            elif key in _NAMED and isinstance(value, dict):
                tree[key] = {
                    name: self.write(schema, (*here, name), inside, depth + 2)
                    for name, schema in value.items()
                }
            elif key != "$ref":
                left_out = self._left_out
                written = self.write(value, here, inside, depth + 1)
                if key not in _EITHER_WAY or left_out == self._left_out:
                    tree[key] = written
        if "$ref" in node:
            beside = tree.get("allOf", [])
            named = self._follow(node["$ref"], (*path, "$ref"), inside, depth)
            tree["allOf"] = [*(beside if isinstance(beside, list) else []), named]
        return tree

    def _follow(self, target: JsonValue, path: Path, inside: tuple[str, ...], depth: int) -> JsonValue:
        if target == "#" or target in inside:
            self._refuse(path, "a schema that refers to itself is not supported yet")
            return True
        if not isinstance(target, str) or not target.startswith("#/"):
            self._refuse(path, _INSIDE_ONLY)
            return True
        found: JsonValue = self._root
        for part in target[2:].split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, dict | bool):
            raise SchemaProblem(path, f"there is no schema {target}")
        return self.write(found, path, (*inside, target), depth + 2)

    def _refuse(self, path: Path, message: str) -> None:
        if not self._lenient:
            raise SchemaProblem(path, message)
        self._left_out += 1
