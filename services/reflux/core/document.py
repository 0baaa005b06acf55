"""JSON values, and the bounds every document of a person must keep."""

from typing import Final, TypeAlias

import orjson

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MAX_DEPTH: Final = 64
"""Levels of nesting of any document; deeper ones are refused at the edge."""

MAX_DOCUMENT_BYTES: Final = 1 << 20
"""Size of a flow, an input, or a step's output as JSON: 1 MiB."""


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
        document = cls(orjson.dumps(value))
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
