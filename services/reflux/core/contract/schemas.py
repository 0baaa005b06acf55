"""Questions to a JSON Schema 2020-12 that is a tree (`flow.schema.written_out`).

Each answer allows at least as much as the schema does: keywords that are not looked at allow everything.
`allOf` and what stands beside it hold together; of `anyOf` and `oneOf` one branch holds. Every place of the
tree is looked at a bounded number of times, and the tree is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.core.flow.compiler import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reflux.core.document import JsonValue

FRACTION: Final = "fraction"
"""A number that is no integer: `number` is both."""
EVERYTHING: Final = frozenset({"null", "boolean", "integer", FRACTION, "string", "array", "object"})
_NUMBER: Final = frozenset({"integer", FRACTION})
_NOBODY: Final = "\0"
"""A name that no schema mentions."""
_DEMANDS: Final = {
    **dict.fromkeys(("maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "multipleOf"), _NUMBER),
    **dict.fromkeys(("maxLength", "minLength", "pattern", "format"), frozenset({"string"})),
    **dict.fromkeys(("maxItems", "minItems", "uniqueItems", "contains"), frozenset({"array"})),
    **dict.fromkeys(("maxProperties", "minProperties", "propertyNames"), frozenset({"object"})),
    **dict.fromkeys(("dependentRequired", "dependentSchemas"), frozenset({"object"})),
    **dict.fromkeys(("not", "if"), EVERYTHING),
}
"""Keywords that ask something of values of a type, beside being of it."""
_BRANCHES: Final = ("if", "then", "else")
_BOUNDS: Final = {
    "maximum": ("maximum", 1, 0),
    "exclusiveMaximum": ("maximum", 1, -1),
    "minimum": ("minimum", -1, 0),
    "exclusiveMinimum": ("minimum", -1, -1),
    **{word: (word, 1, 0) for word in ("maxLength", "maxItems", "maxProperties")},
    **{word: (word, -1, 0) for word in ("minLength", "minItems", "minProperties")},
}
"""What is bounded, in which direction, and by how little more when the bound itself is out: of two bounds of
the same the smaller one is tighter."""


@dataclass(frozen=True, slots=True)
class Part:
    """A member or an item of what a schema describes."""

    schema: JsonValue
    named: bool
    """The schema speaks of it; else it may be there because nothing is said against it."""
    always: bool
    """Whoever gives the whole gives it too."""


def part(schema: JsonValue, key: str | int) -> Part | None:
    """The member (a text) or item (a number) `key`; None when it cannot be there."""
    if not isinstance(schema, dict):
        return None if schema is False else Part(True, named=False, always=False)
    found = [_own(schema, key)]
    found += [part(each, key) for each in _together(schema)]
    found += [_one_of([part(each, key) for each in branches]) for branches in _choices(schema)]
    parts = [each for each in found if each is not None]
    if len(parts) < len(found):
        return None
    always = any(each.always for each in parts) and types(schema) <= {"object"}
    return Part(_all([each.schema for each in parts]), any(each.named for each in parts), always)


def types(schema: JsonValue) -> frozenset[str]:
    """The types of the values it takes."""
    if not isinstance(schema, dict):
        return frozenset() if schema is False else EVERYTHING
    found = _named_types(schema)
    if (listed := _listed(schema)) is not None:
        found &= frozenset(_type_of(value) for value in listed)
    for each in _together(schema):
        found &= types(each)
    for branches in _choices(schema):
        found &= frozenset[str]().union(*map(types, branches))
    return found


def values(schema: JsonValue) -> frozenset[bytes] | None:
    """The only values it takes, each as canonical JSON; None when they are not listed."""
    if not isinstance(schema, dict):
        return None
    listed = _listed(schema)
    sets = [frozenset(map(canonical, listed))] if listed is not None else []
    sets += [found for each in _together(schema) if (found := values(each)) is not None]
    for branches in _choices(schema):
        listings = [found for each in branches if (found := values(each)) is not None]
        if len(listings) == len(branches):
            sets.append(frozenset[bytes]().union(*listings))
    return frozenset.intersection(*sets) if sets else None


def demands(schema: JsonValue) -> dict[str, frozenset[bytes]]:
    """What it asks for beside types and values, by keyword: each value, as canonical JSON, must be kept."""
    if not isinstance(schema, dict):
        return {}
    found = {word: {_asked(schema, word)} for word in _DEMANDS if word in schema}
    for each in _together(schema):
        for word, asked in demands(each).items():
            found.setdefault(word, set()).update(asked)
    for branches in _choices(schema):
        asking = [(types(each), demands(each)) for each in branches]
        for word in {word for _, asked in asking for word in asked}:
            heard = [asked.get(word, frozenset()) for kinds, asked in asking if kinds & _DEMANDS[word]]
            if heard:
                found.setdefault(word, set()).update(frozenset.intersection(*heard))
    return {word: frozenset(asked) for word, asked in found.items() if asked}


def _asked(schema: dict[str, JsonValue], word: str) -> bytes:
    """A condition is nothing without its branches."""
    if word != "if":
        return canonical(schema[word])
    return canonical({each: schema[each] for each in _BRANCHES if each in schema})


def is_kept(word: str, asked: bytes, before: dict[str, frozenset[bytes]]) -> bool:
    """Whether what keeps the demands `before` keeps this one too."""
    if word not in _BOUNDS:
        return asked in before.get(word, frozenset()) or (word, asked) == ("uniqueItems", b"false")
    what, limit = _bound(word, asked)
    bounds = [_bound(each, value) for each in before if each in _BOUNDS for value in before[each]]
    return any(of == what and had <= limit for of, had in bounds)


def required(schema: JsonValue) -> frozenset[str]:
    """The members that an object must have."""
    return _gathered(schema, "required", frozenset.intersection)


def names(schema: JsonValue) -> frozenset[str]:
    """The members that it speaks of."""
    return _gathered(schema, "properties", frozenset.union)


def is_closed(schema: JsonValue) -> bool:
    """Whether an object may have no members but those it speaks of."""
    return "object" in types(schema) and part(schema, _NOBODY) is None


def spoken(of: Iterable[str]) -> str:
    """Types for people, such as `integer or null`."""
    found = set(of)
    if FRACTION in found:
        found = (found - _NUMBER) | {"number"}
    return " or ".join(sorted(found, key=lambda each: (each == "null", each))) or "nothing"


def _own(schema: dict[str, JsonValue], key: str | int) -> Part | None:
    """By the keywords that stand here, not by what is combined with them."""
    needed = "object" if isinstance(key, str) else "array"
    if needed not in _named_types(schema):
        return None
    if isinstance(key, str):
        inner, rest = schema.get("properties"), schema.get("additionalProperties", True)
        named = isinstance(inner, dict) and key in inner
        found = inner[key] if isinstance(inner, dict) and named else rest
        asked = schema.get("required")
        always = isinstance(asked, list) and key in asked
    else:
        first, rest = schema.get("prefixItems"), schema.get("items", True)
        listed = isinstance(first, list) and 0 <= key < len(first)
        found = first[key] if isinstance(first, list) and listed else rest
        named, always = listed or "items" in schema, False
    return None if found is False else Part(found, named, always)


def _one_of(parts: list[Part | None]) -> Part | None:
    """One of several branches holds; those in which the part cannot be are not what is read."""
    there = [each for each in parts if each is not None]
    if not there:
        return None
    schema: JsonValue = {"anyOf": [each.schema for each in there]}
    always = len(there) == len(parts) and all(each.always for each in there)
    return Part(schema, any(each.named for each in there), always)


def _all(schemas: list[JsonValue]) -> JsonValue:
    """All of them hold."""
    saying = [each for each in schemas if each is not True]
    return saying[0] if len(saying) == 1 else {"allOf": saying} if saying else True


def _together(schema: dict[str, JsonValue]) -> list[JsonValue]:
    found = schema.get("allOf")
    return found if isinstance(found, list) else []


def _choices(schema: dict[str, JsonValue]) -> list[list[JsonValue]]:
    found = [schema.get("anyOf"), schema.get("oneOf")]
    return [each for each in found if isinstance(each, list) and each]


def _named_types(schema: dict[str, JsonValue]) -> frozenset[str]:
    named = schema.get("type")
    if named is None:
        return EVERYTHING
    listed = named if isinstance(named, list) else [named]
    return frozenset(one for each in listed for one in (_NUMBER if each == "number" else (str(each),)))


def _listed(schema: dict[str, JsonValue]) -> list[JsonValue] | None:
    if "const" in schema:
        return [schema["const"]]
    listed = schema.get("enum")
    return listed if isinstance(listed, list) else None


def _type_of(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "integer" if float(value).is_integer() else FRACTION
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _gathered(schema: JsonValue, word: str, of_branches: Callable[..., frozenset[str]]) -> frozenset[str]:
    """The names under a keyword, here and in what is combined; `of_branches` says what of a choice holds."""
    if not isinstance(schema, dict):
        return frozenset()
    own = schema.get(word)
    found = frozenset(map(str, own)) if isinstance(own, dict | list) else frozenset[str]()
    for each in _together(schema):
        found |= _gathered(each, word, of_branches)
    for branches in _choices(schema):
        objects = [_gathered(each, word, of_branches) for each in branches if "object" in types(each)]
        if objects:
            found |= of_branches(*objects)
    return found


def _bound(word: str, value: bytes) -> tuple[str, tuple[float, int]]:
    what, direction, more = _BOUNDS[word]
    return what, (direction * float(value), more)
