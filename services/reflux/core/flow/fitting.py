"""Applies a JSON Schema 2020-12 that is a tree to a value, and ends soon whatever the two are.

The `jsonschema` library takes 10 us for each place it looks at, and the square of the items for
`uniqueItems`: a document of 1 MiB that anybody may send would stop an event loop for minutes. Here a schema
is read once into `Place`s:

- `tests` look at a value and say what is wrong with it, or nothing; see `keywords`.
- `parts` say which parts of a value must fit which other places, the value itself included.

All work is paid for out of a `Work`, a unit of which is 50 to 100 ns. Every loop pays before it begins or in
each round; what is quick whatever the value is part of what a visit of the place costs.

`fits` says yes or no, `faults` tells where and why. They find what the library finds; a property holds them
against it. `format` is not checked, as 2020-12 has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from reflux.core.flow import keywords
from reflux.core.flow.sameness import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.core.document import JsonValue
    from reflux.core.flow.keywords import Parts, Test
    from reflux.core.flow.problems import Path

_ONE: Final = frozenset(
    {
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)  # keywords that hold a schema
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"dependentSchemas", "properties"})

_TOLD: Final = 40
"""What a fault costs for each level of its place: whoever hears of it works out the pointer."""


class TooMuchWork(Exception):
    """The work was used up before everything was looked at."""


class Work:
    """What one check may still spend."""

    __slots__ = ("left",)

    def __init__(self, units: int) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        """Pay.

        Raises:
            TooMuchWork: more than there is.
        """
        self.left -= units
        if self.left < 0:
            raise TooMuchWork


class Fault(NamedTuple):
    """A place of a value that does not fit."""

    path: Path
    keyword: str
    """Empty: nothing fits there, the schema is `false`."""
    conditional: bool
    """It is wrong only because of what an `if` found."""
    test: Test
    value: JsonValue
    text: str

    @property
    def message(self) -> str:
        """What is wrong. Made late: a value may be large, and most faults are told to nobody."""
        return f"{quoted(self.value)} {self.text}" if self.test.quotes else self.text


class Place:
    """A schema, ready to be applied."""

    __slots__ = ("cost", "is_false", "parts", "tests", "words")

    def __init__(self, schema: JsonValue) -> None:
        """`schema` is valid and a tree."""
        self.words: dict[str, Any] = {}
        """The keywords, with places for schemas."""
        if isinstance(schema, dict):
            self.words = {keyword: _read(keyword, value) for keyword, value in schema.items()}
        self.is_false = schema is False
        self.tests: tuple[Test, ...] = (keywords.NEVER,) if self.is_false else tuple(keywords.tests(self))
        self.parts: tuple[tuple[str, Parts], ...] = tuple(keywords.parts(self))
        self.cost = 4 + 2 * len(self.tests) + 6 * len(self.parts)

    def fits(self, value: JsonValue, work: Work) -> bool:
        """Whether the value fits.

        Raises:
            TooMuchWork: that is not known.
        """
        work.spend(self.cost)
        for test in self.tests:
            if test.wrong(value, work) is not None:
                return False
        for _, parts in self.parts:
            for _, part, place in parts(value, work):
                if not place.fits(part, work):
                    return False
        return True

    def faults(
        self, value: JsonValue, work: Work, path: Path = (), *, conditional: bool = False
    ) -> Iterator[Fault]:
        """Everything that does not fit.

        Raises:
            TooMuchWork: there may be more.
        """
        work.spend(self.cost + len(path) // 2)
        for test in self.tests:
            text = test.wrong(value, work)
            if text is not None:
                work.spend(_TOLD * (1 + len(path)))
                yield Fault(path, test.keyword, conditional, test, value, text)
        for keyword, parts in self.parts:
            under = conditional or keyword == "if"
            for step, part, place in parts(value, work):
                if not place.parts and place.fits(part, work):
                    continue  # most parts are leaves, and most leaves fit
                yield from place.faults(part, work, path + step, conditional=under)


def _read(keyword: str, value: JsonValue) -> Any:
    if keyword in _ONE:
        return Place(value)
    if keyword in _LISTS and isinstance(value, list):
        return [Place(each) for each in value]
    if keyword in _NAMED and isinstance(value, dict):
        return {name: Place(each) for name, each in value.items()}
    return value
