"""JSON values, and the bounds every document of a person must keep."""

from typing import Final, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MAX_DEPTH: Final = 64
"""Levels of nesting of any document; deeper ones are refused at the edge."""

MAX_DOCUMENT_BYTES: Final = 1 << 20
"""Size of a flow, an input, or a step's output as JSON: 1 MiB."""
