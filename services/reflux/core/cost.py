"""What calls cost, as their nodes tell.

- Money is counted in billionths of a US dollar, so that sums are exact and the same on every replay; people
  and expressions see dollars.
- An attempt costs what its node told, whether it did what it should or not. The node may not know: then the
  cost is absent, which is not the same as nothing.
- A step costs what its attempts cost, and a container what the steps in it do. A run costs what its own
  attempts did, those of its compensations among them; what it has kept from its origin was paid there, and
  counts for the kept step and what is around it only.
- A try that Envoy made again, and an answer from the result cache, tell no cost.
"""

from typing import Final

NANOS: Final = 1_000_000_000
"""Of a dollar."""
MAX_NANOS: Final = 1_000_000 * NANOS
"""What one call may cost; what a node tells beyond that is a mistake, and counts as not told."""
_MOST: Final = (1 << 63) - 1
"""What is stored of a sum."""


def believable(nanos: int | None) -> int | None:
    """What a node told, or None where that cannot be."""
    return nanos if nanos is not None and 0 <= nanos <= MAX_NANOS else None


def dollars(nanos: int | None) -> float | None:
    """A cost as people and expressions see it."""
    return None if nanos is None else nanos / NANOS


def total(former: int | None, nanos: int | None) -> int | None:
    """The sum of two costs, each of which may not be known."""
    return former if nanos is None else min(_MOST, (former or 0) + nanos)
