"""JSON values, and the bounds every document of a person must keep."""

from typing import Final, TypeAlias

import orjson

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MAX_DEPTH: Final = 64
"""Levels of nesting of any document; deeper ones are refused at the edge."""

MAX_DOCUMENT_BYTES: Final = 1 << 20
"""Size of a flow, an input, or a step's output as JSON: 1 MiB."""

_CONTAINERS: Final = frozenset({dict, list})
_WRITABLE: Final = 254
"""Levels that orjson writes. Nothing counts levels faster than it does in refusing one more."""
_HOLE: Final = object()
_PADDING: Final[list[object]] = [_HOLE]
"""At each index a hole inside of so many lists."""
for _ in range(_WRITABLE):
    _PADDING.append([_PADDING[-1]])


class TooDeep(ValueError):
    """A value nests deeper than a document may."""

    def __init__(self) -> None:
        super().__init__(f"this value nests deeper than {MAX_DEPTH} levels")


def write(value: JsonValue, around: int = 0) -> bytes:
    """`value` as compact UTF-8 JSON, to stand inside of `around` levels.

    Raises:
        TooDeep: it nests deeper than `MAX_DEPTH`, those around it included.
        TypeError: `value` is no JSON value.
    """
    padding = _WRITABLE - MAX_DEPTH + around

    def fill(found: object) -> JsonValue:
        if found is _HOLE:
            return value
        raise TypeError

    try:
        return orjson.dumps(_PADDING[padding], default=fill)[padding:-padding]
    except TypeError:
        if shape(value)[0] + around > MAX_DEPTH:
            raise TooDeep from None
        raise


def shape(value: JsonValue) -> tuple[int, int]:
    """Levels of nesting (a scalar has none, an empty list one) and the number of members of all objects."""
    level, depth, members = [value], 0, 0
    while containers := [item for item in level if type(item) in _CONTAINERS]:
        depth += 1
        level = []
        for item in containers:
            if type(item) is dict:
                members += len(item)
                level += item.values()
            elif type(item) is list:
                level += item
    return depth, members


class Json:
    """A JSON document that is read at most once and never written again.

    Between services, in the journal and in answers it is `raw`, so that numbers keep their digits;
    expressions read `value`. Nobody changes a value: it is shared.
    """

    __slots__ = ("_value", "raw")

    _UNREAD: Final = object()

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._value: object = Json._UNREAD

    @classmethod
    def of(cls, value: JsonValue) -> "Json":
        """The document of a value.

        Raises:
            TypeError: `value` is no JSON value, or nested some hundred levels deep.
        """
        return cls._of(orjson.dumps(value), value)

    @classmethod
    def bounded(cls, value: JsonValue) -> "Json":
        """The document of a value that a flow has made, whose depth nobody knows.

        Raises:
            TooDeep: it nests deeper than `MAX_DEPTH`.
            TypeError: `value` is no JSON value.
        """
        return cls._of(write(value), value)

    @classmethod
    def _of(cls, raw: bytes, value: JsonValue) -> "Json":
        document = cls(raw)
        document._value = value
        return document

    @property
    def value(self) -> JsonValue:
        """What the document says.

        Raises:
            ValueError: `raw` is not JSON.
        """
        if self._value is Json._UNREAD:
            self._value = orjson.loads(self.raw)
        return self._value  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Json({self.raw[:80]!r})"


NULL: Final = Json(b"null")
