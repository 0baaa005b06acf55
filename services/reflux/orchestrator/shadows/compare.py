"""Where two JSON values differ, by place.

Pointers are RFC 6901, with `*` for a place of a list, so that the same difference in every element is one
difference. Numbers are equal as numbers (1 and 1.0); a boolean is no number. What is unequal is told at the
deepest place that both have; lists of different lengths differ there, and in the elements they share.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.core.document import JsonValue

MAX_PLACES: Final = 50
"""Told of one pair."""
MAX_TEXT: Final = 1_000
"""Characters of a value in an example."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place."""

    pointer: str
    kind: str
    """missing, added or changed."""
    answered: str = ""
    """JSON of the real output there, cut; empty when it has nothing."""
    shadowed: str = ""


def differences(answered: JsonValue, shadowed: JsonValue) -> list[Difference]:
    """The first MAX_PLACES places, each once; none when the two are equal."""
    found: dict[tuple[str, str], Difference] = {}
    for each in _walk(answered, shadowed, ""):
        found.setdefault((each.pointer, each.kind), each)
        if len(found) == MAX_PLACES:
            break
    return list(found.values())


def digest(value: JsonValue) -> bytes:
    """sha256 of the canonical form."""
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()


def _walk(one: JsonValue, other: JsonValue, place: str) -> Iterator[Difference]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in (*one, *(key for key in other if key not in one)):
            below = f"{place}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in other:
                yield Difference(below, "missing", _text(one[key]))
            elif key not in one:
                yield Difference(below, "added", "", _text(other[key]))
            else:
                yield from _walk(one[key], other[key], below)
    elif isinstance(one, list) and isinstance(other, list):
        for left, right in zip(one, other, strict=False):
            yield from _walk(left, right, f"{place}/*")
        for left in one[len(other) :]:
            yield Difference(f"{place}/*", "missing", _text(left))
        for right in other[len(one) :]:
            yield Difference(f"{place}/*", "added", "", _text(right))
    elif isinstance(one, bool) != isinstance(other, bool) or one != other:
        yield Difference(place, "changed", _text(one), _text(other))


def _text(value: JsonValue) -> str:
    return orjson.dumps(value).decode()[:MAX_TEXT].replace("\0", "\ufffd")
