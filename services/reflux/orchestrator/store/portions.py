"""Events by statement: what one statement carries is bounded, in bytes and in rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTION_BYTES: Final = 4 << 20
"""Of events in one statement, about; one event alone may be larger."""
PORTION_ROWS: Final = 5_000
_ROW_BYTES: Final = 100
"""What a row costs beside its payload."""


def portions(payloads: Sequence[bytes]) -> list[list[bytes]]:
    """`payloads` in order, in portions that a statement may carry; one empty portion when there are none."""
    parts: list[list[bytes]] = [[]]
    size = 0
    for payload in payloads:
        cost = len(payload) + _ROW_BYTES
        if parts[-1] and (size + cost > PORTION_BYTES or len(parts[-1]) == PORTION_ROWS):
            parts.append([])
            size = 0
        parts[-1].append(payload)
        size += cost
    return parts
