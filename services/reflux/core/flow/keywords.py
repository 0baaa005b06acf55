"""The keywords of JSON Schema 2020-12, as `fitting` applies them.

The words of the messages are those of the `jsonschema` library, which people know and pages match.
"""

from __future__ import annotations

import operator
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from reflux.core.flow.sameness import key, listed, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from reflux.core.document import JsonValue
    from reflux.core.flow.fitting import Place, Work

    _Part: TypeAlias = tuple[tuple[()] | tuple[str | int], JsonValue, Place]
    """The step to it, the part itself, and what it must fit."""
    Parts: TypeAlias = Callable[[JsonValue, Work], Iterable[_Part]]

_EACH: Final = 2
"""What looking at a name or at an item costs, beside the visits of places."""


class Test(NamedTuple):
    """A look at one value."""

    keyword: str
    wrong: Callable[[JsonValue, Work], str | None]
    """What is wrong with the value; None when nothing is."""
    quotes: bool = True
    """The text follows the value."""


NEVER: Final = Test("", lambda _, __: "is not allowed here")


def tests(place: Place) -> Iterator[Test]:
    """What the keywords of a place ask of the value as a whole."""
    for keyword, value in place.words.items():
        if keyword in _LIMITS:
            yield _limit(keyword, value)
        elif keyword in _ASKED:
            yield Test(keyword, _ASKED[keyword](value, place), keyword not in _NOT_QUOTING)
        elif keyword in _CLOSED and value.is_false:
            yield Test(keyword, _CLOSED[keyword](place), quotes=False)
        elif keyword == "required":
            for name in value:
                yield Test(keyword, _required(name), quotes=False)
        elif keyword == "dependentRequired":
            for name, others in value.items():
                for other in others:
                    yield Test(keyword, _required(other, name), quotes=False)


def parts(place: Place) -> Iterator[tuple[str, Parts]]:
    """What the keywords of a place ask of the parts of the value."""
    for keyword, value in place.words.items():
        if keyword in _PARTS and not (keyword in _CLOSED and value.is_false):
            yield keyword, _PARTS[keyword](value, place)


# What a value is


TYPES: Final[dict[str, frozenset[type]]] = {
    "array": frozenset({list}),
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "null": frozenset({type(None)}),
    "number": frozenset({int, float}),
    "object": frozenset({dict}),
    "string": frozenset({str}),
}
_NUMBER: Final = TYPES["number"]
_Wrong: TypeAlias = "Callable[[JsonValue, Work], str | None]"


def _type(types: Any, _: Place) -> _Wrong:
    named = [types] if isinstance(types, str) else types
    classes = frozenset[type]().union(*(TYPES[each] for each in named))
    whole = "integer" in named
    text = f"is not of type {', '.join(map(repr, named))}"

    def wrong(value: JsonValue, _: Work) -> str | None:
        if type(value) in classes or (whole and isinstance(value, float) and value.is_integer()):
            return None
        return text

    return wrong


def _const(only: Any, _: Place) -> _Wrong:
    return _among([only], f"{quoted(only)} was expected")


def _enum(values: Any, _: Place) -> _Wrong:
    return _among(values, f"is not one of {quoted(values)}")


def _among(values: list[JsonValue], text: str) -> _Wrong:
    keys = frozenset(key(value) for value in values)
    kinds = frozenset(map(type, values)) | (
        _NUMBER if any(type(v) in _NUMBER for v in values) else frozenset()
    )

    def wrong(value: JsonValue, work: Work) -> str | None:
        return None if type(value) in kinds and key(value, work) in keys else text

    return wrong


# How large it is


_LIMITS: Final[dict[str, tuple[frozenset[type], Callable[[Any, Any], bool], str]]] = {
    "minimum": (_NUMBER, operator.ge, "is less than the minimum of"),
    "maximum": (_NUMBER, operator.le, "is greater than the maximum of"),
    "exclusiveMinimum": (_NUMBER, operator.gt, "is less than or equal to the minimum of"),
    "exclusiveMaximum": (_NUMBER, operator.lt, "is greater than or equal to the maximum of"),
    "minLength": (TYPES["string"], operator.ge, "is too short"),
    "maxLength": (TYPES["string"], operator.le, "is too long"),
    "minItems": (TYPES["array"], operator.ge, "is too short"),
    "maxItems": (TYPES["array"], operator.le, "is too long"),
    "minProperties": (TYPES["object"], operator.ge, "does not have enough properties"),
    "maxProperties": (TYPES["object"], operator.le, "has too many properties"),
}


def _limit(keyword: str, limit: Any) -> Test:
    classes, keeps, text = _LIMITS[keyword]
    if classes is _NUMBER:
        text = f"{text} {limit!r}"
        return Test(
            keyword, lambda value, _: text if type(value) in classes and not keeps(value, limit) else None
        )
    if (keeps, limit) == (operator.ge, 1):
        text = "should be non-empty"
    elif (keeps, limit) == (operator.le, 0):
        text = "is expected to be empty"

    def wrong(value: Any, _: Work) -> str | None:
        return text if type(value) in classes and not keeps(len(value), limit) else None

    return Test(keyword, wrong)


def _multiple_of(step: Any, _: Place) -> _Wrong:
    text = f"is not a multiple of {step!r}"

    def wrong(value: Any, work: Work) -> str | None:
        if type(value) not in _NUMBER:
            return None
        work.spend(_EACH)
        try:
            rest = value % step if isinstance(step, int) else (value / step) % 1
        except OverflowError:
            rest = float("nan")
        if rest != rest:  # noqa: PLR0124  # not a number: the quotient is too large for a float
            work.spend(1_000)
            rest = Fraction(value) % Fraction(step)
        return text if rest else None

    return wrong


# What is in it


def _required(name: str, when: str | None = None) -> _Wrong:
    text = f"{quoted(name)} is a {'required property' if when is None else f'dependency of {quoted(when)}'}"

    def wrong(value: JsonValue, _: Work) -> str | None:
        missing = isinstance(value, dict) and name not in value and (when is None or when in value)
        return text if missing else None

    return wrong


def _unique(wanted: Any, _: Place) -> _Wrong:
    def wrong(value: JsonValue, work: Work) -> str | None:
        if not wanted or not isinstance(value, list):
            return None
        keys = set()
        for item in value:
            work.spend(_EACH)
            keys.add(key(item, work))
        return "has non-unique elements" if len(keys) < len(value) else None

    return wrong


def _contains(wanted: Place, place: Place) -> _Wrong:
    least, most = place.words.get("minContains", 1), place.words.get("maxContains", float("inf"))

    def wrong(value: JsonValue, work: Work) -> str | None:
        if not isinstance(value, list):
            return None
        found = 0
        for item in value:
            found += wanted.fits(item, work)
            if found > most:
                return f"has too many items that match the given schema (expected at most {most})"
        if found >= least:
            return None
        if not found:
            return "does not contain items matching the given schema"
        return f"has too few items that match the given schema (expected at least {least}, not {found})"

    return wrong


def _any_of(places: list[Place], _: Place) -> _Wrong:
    def wrong(value: JsonValue, work: Work) -> str | None:
        fits = any(place.fits(value, work) for place in places)
        return None if fits else "is not valid under any of the given schemas"

    return wrong


def _one_of(places: list[Place], _: Place) -> _Wrong:
    def wrong(value: JsonValue, work: Work) -> str | None:
        fit = list(islice((place for place in places if place.fits(value, work)), 2))
        if not fit:
            return "is not valid under any of the given schemas"
        return "is valid under more than one of the given schemas" if len(fit) > 1 else None

    return wrong


def _not(place: Place, _: Place) -> _Wrong:
    return lambda value, work: (
        "should not be valid under the given schema" if place.fits(value, work) else None
    )


def _no_others(place: Place) -> _Wrong:
    known = place.words.get("properties", {})

    def wrong(value: JsonValue, work: Work) -> str | None:
        if not isinstance(value, dict):
            return None
        work.spend(_EACH * len(value))
        extra = [name for name in value if name not in known]
        return f"Additional properties are not allowed ({listed(extra, work)} unexpected)" if extra else None

    return wrong


def _no_more(place: Place) -> _Wrong:
    first = len(place.words.get("prefixItems", ()))

    def wrong(value: JsonValue, _: Work) -> str | None:
        if not isinstance(value, list) or len(value) <= first:
            return None
        return f"Expected at most {first} item{'s' * (first != 1)} but found {len(value) - first} extra"

    return wrong


def _unevaluated_items(rest: Place, place: Place) -> _Wrong:
    def wrong(value: JsonValue, work: Work) -> str | None:
        if not isinstance(value, list):
            return None
        work.spend(10 * _EACH)  # sets are made
        seen = _seen_items(place, value, work)
        extra = [item for index, item in enumerate(value) if index not in seen]
        return f"Unevaluated items are not allowed ({listed(extra, work)} unexpected)" if extra else None

    del rest  # what fits it is seen
    return wrong


def _unevaluated_properties(rest: Place, place: Place) -> _Wrong:
    def wrong(value: JsonValue, work: Work) -> str | None:
        if not isinstance(value, dict):
            return None
        work.spend(10 * _EACH)
        seen = _seen_names(place, value, work)
        extra = [name for name in value if name not in seen]
        return f"Unevaluated properties are not allowed ({listed(extra, work)} unexpected)" if extra else None

    del rest
    return wrong


def _seen_items(place: Place, value: list[JsonValue], work: Work) -> set[int]:
    """Which items the place has looked at, and found to fit."""
    work.spend(3 * _EACH * len(value))
    words = place.words
    if "items" in words:
        return set(range(len(value)))
    seen = set(range(len(words.get("prefixItems", ()))))
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in words:
            seen.update(index for index, item in enumerate(value) if words[keyword].fits(item, work))
    for other in _agreeing(place, value, work):
        seen |= _seen_items(other, value, work)
    return seen


def _seen_names(place: Place, value: dict[str, JsonValue], work: Work) -> set[str]:
    words = place.words
    known = words.get("properties", {})
    work.spend(3 * _EACH * (len(value) + len(known)))
    seen = {name for name in known if name in value}
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in words:
            seen.update(name for name, each in value.items() if words[keyword].fits(each, work))
    for name, other in words.get("dependentSchemas", {}).items():
        if name in value:
            seen |= _seen_names(other, value, work)
    for other in _agreeing(place, value, work):
        seen |= _seen_names(other, value, work)
    return seen


def _agreeing(place: Place, value: JsonValue, work: Work) -> Iterator[Place]:
    """The places beside this one that the value fits."""
    for keyword in ("allOf", "anyOf", "oneOf"):
        for other in place.words.get(keyword, ()):
            if other.fits(value, work):
                yield other
    if "if" in place.words:
        if place.words["if"].fits(value, work):
            yield place.words["if"]
        for _, _, other in _if(place.words["if"], place)(value, work):
            yield other


_ASKED: Final[dict[str, Callable[[Any, Place], _Wrong]]] = {
    "anyOf": _any_of,
    "const": _const,
    "contains": _contains,
    "enum": _enum,
    "multipleOf": _multiple_of,
    "not": _not,
    "oneOf": _one_of,
    "type": _type,
    "unevaluatedItems": _unevaluated_items,
    "unevaluatedProperties": _unevaluated_properties,
    "uniqueItems": _unique,
}
_NOT_QUOTING: Final = frozenset({"const", "unevaluatedItems", "unevaluatedProperties"})
_CLOSED: Final[dict[str, Callable[[Place], _Wrong]]] = {
    "additionalProperties": _no_others,
    "items": _no_more,
}  # for `false`, which is told once; any other schema is applied to the parts


# What its parts must fit


def _properties(places: dict[str, Place], _: Place) -> Parts:
    def of(value: JsonValue, work: Work) -> Iterator[_Part]:
        if isinstance(value, dict):
            work.spend(_EACH * len(places))
            for name, place in places.items():
                if name in value:
                    yield (name,), value[name], place

    return of


def _others(others: Place, place: Place) -> Parts:
    known = place.words.get("properties", {})

    def of(value: JsonValue, work: Work) -> Iterator[_Part]:
        if isinstance(value, dict):
            work.spend(_EACH * len(value))
            for name, each in value.items():
                if name not in known:
                    yield (name,), each, others

    return of


def _names(names: Place, _: Place) -> Parts:
    def of(value: JsonValue, _: Work) -> Iterator[_Part]:
        if isinstance(value, dict):
            for name in value:
                yield (), name, names

    return of


def _items(items: Place, place: Place) -> Parts:
    first = len(place.words.get("prefixItems", ()))

    def of(value: JsonValue, _: Work) -> Iterator[_Part]:
        if isinstance(value, list):
            for index in range(first, len(value)):
                yield (index,), value[index], items

    return of


def _prefix(places: list[Place], _: Place) -> Parts:
    def of(value: JsonValue, _: Work) -> Iterator[_Part]:
        if isinstance(value, list):
            for index, (item, place) in enumerate(zip(value, places, strict=False)):
                yield (index,), item, place

    return of


def _all_of(places: list[Place], _: Place) -> Parts:
    return lambda value, _: (((), value, place) for place in places)


def _dependent(places: dict[str, Place], _: Place) -> Parts:
    def of(value: JsonValue, work: Work) -> Iterator[_Part]:
        if isinstance(value, dict):
            work.spend(_EACH * len(places))
            for name, place in places.items():
                if name in value:
                    yield (), value, place

    return of


def _if(condition: Place, place: Place) -> Parts:
    then, otherwise = place.words.get("then"), place.words.get("else")

    def of(value: JsonValue, work: Work) -> Iterator[_Part]:
        then_or_else = then if condition.fits(value, work) else otherwise
        if then_or_else is not None:
            yield (), value, then_or_else

    return of


_PARTS: Final[dict[str, Callable[[Any, Place], Parts]]] = {
    "additionalProperties": _others,
    "allOf": _all_of,
    "dependentSchemas": _dependent,
    "if": _if,
    "items": _items,
    "prefixItems": _prefix,
    "properties": _properties,
    "propertyNames": _names,
}
