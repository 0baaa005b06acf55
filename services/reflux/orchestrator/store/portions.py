"""Events by statement: what one statement carries is bounded, in bytes and in rows.

Some events belong together, and are never parted: such a pair may make a portion larger, by one event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

PORTION_BYTES: Final = 4 << 20
"""Of events in one statement, about; one event alone may be larger."""
PORTION_ROWS: Final = 5_000
_ROW_BYTES: Final = 100
"""What a row costs beside its payload."""


def portions(payloads: Sequence[bytes], tied: Collection[int] = ()) -> list[list[bytes]]:
    """`payloads` in order, in portions that a statement may carry; one empty portion when there are none.

    `tied`: places of payloads that stay with the one behind them.
    """
    parts: list[list[bytes]] = [[]]
    size = 0
    for unit in _units(payloads, tied):
        cost = sum(map(len, unit)) + _ROW_BYTES * len(unit)
        if parts[-1] and (size + cost > PORTION_BYTES or len(parts[-1]) + len(unit) > PORTION_ROWS):
            parts.append([])
            size = 0
        parts[-1] += unit
        size += cost
    return parts


def _units(payloads: Sequence[bytes], tied: Collection[int]) -> Iterator[list[bytes]]:
    unit: list[bytes] = []
    for place, payload in enumerate(payloads):
        unit.append(payload)
        if place not in tied:
            yield unit
            unit = []
    if unit:
        yield unit
