"""When something of each step is due, and which of them comes first.

A run may have thousands of timers that are due together, after a pause or an outage. They are taken in the
order of their times, and of equal times in the order they were set. So the times stand in a heap as well,
where one that was changed or taken away stays until it is met or the heap is made anew: setting one, and
asking for the first, costs the logarithm of their number.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from reflux.core.names import StepPath

_SPARE: Final = 64
"""Outdated entries that no heap is made anew for."""


class Due(NamedTuple):
    """A step, or the run itself, and its time."""

    at: datetime
    path: StepPath


class Times(dict["StepPath", "datetime"]):
    """Times by step; change them by `times[path] = at`, `pop` and `clear` only."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[datetime, int, StepPath]] = []
        self._numbers = count()

    def __setitem__(self, path: StepPath, at: datetime) -> None:
        super().__setitem__(path, at)
        heapq.heappush(self._heap, (at, next(self._numbers), path))
        if len(self._heap) > 2 * len(self) + _SPARE:
            self._heap = sorted(entry for entry in self._heap if self.get(entry[2]) == entry[0])

    def first(self, *, but: Collection[StepPath] = ()) -> Due | None:
        """The earliest; with `but` of those that are not in it. None without any."""
        while self._heap:
            at, _, path = self._heap[0]
            if self.get(path) != at:
                heapq.heappop(self._heap)
            elif path in but:
                others = ((at, path) for path, at in self.items() if path not in but)
                return min((Due(*other) for other in others), default=None, key=lambda due: due.at)
            else:
                return Due(at, path)
        return None
