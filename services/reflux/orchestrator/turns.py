"""Turns of the loop: walks that take their time share them, however many they are.

A walk stops when it has taken long (`worker.MAX_TURN`). But thousands of runs may each take as long in one
turn, and what waits for the next one, the heartbeat first, would wait for all of them. So

- those that stopped go on one after the other, in turns of their flows: in each turn of the loop as many as
  `AGAIN` has room for, and at least one;
- all walks of one turn have `TOGETHER`. Who comes after that waits with them.

What happens to a run that waits is folded and written, and nothing is decided about it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from reflux.orchestrator.fairness import FairQueue, Turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from reflux.runtime.clock import Clock

AGAIN: Final = timedelta(milliseconds=20)
TOGETHER: Final = timedelta(milliseconds=100)
_NOTHING: Final = timedelta(0)


class Walked(Protocol):
    """A run in memory."""

    goes_on: bool
    """Its walk has more to do, in a later turn of the loop."""

    @property
    def turn(self) -> Turn:
        """Whose turn it takes."""


RunT = TypeVar("RunT", bound=Walked)


class Turns(Generic[RunT]):
    """Has `go_on` walk the runs that wait for it."""

    def __init__(self, go_on: Callable[[RunT], object], clock: Clock) -> None:
        self._go_on: Final = go_on
        self._clock: Final = clock
        self._waiting: FairQueue[RunT] = FairQueue(lambda run: run.turn)
        self._spent = _NOTHING
        self._is_called = False

    @property
    def is_over(self) -> bool:
        """Whether the walks of this turn have had their time."""
        return self._spent > TOGETHER

    def spend(self, since: datetime) -> None:
        """A walk has gone on since then."""
        self._spent += self._clock.now() - since
        self._call()

    def later(self, run: RunT) -> None:
        """The walk of a run goes on in its turn."""
        if not run.goes_on:
            run.goes_on = True
            self._waiting.append(run)
            self._call()

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Of a turn."""
        self._spent, self._is_called = _NOTHING, False
        for _ in range(len(self._waiting)):
            run = self._waiting.popleft()
            run.goes_on = False
            self._go_on(run)
            if self._spent > AGAIN:
                break
        if len(self._waiting):
            self._call()
