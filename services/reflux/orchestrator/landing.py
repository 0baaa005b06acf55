"""Outcomes of attempts on their way back to their runs.

What lands in one turn of the loop is walked at its end, each run once. So what came together is also written
together: a wide fan-out costs a walk and a submission per message of its node, not per attempt.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from reflux.core import event as ev
from reflux.core.attempt import AttemptResult, settle
from reflux.core.state import RunState

Landed = tuple[ev.AttemptStarted, AttemptResult]


class HasState(Protocol):
    """A run in memory; compared by identity."""

    state: RunState


RunT = TypeVar("RunT", bound=HasState)


class Landings(Generic[RunT]):
    """Gathers outcomes by run, and has `walk` fold what follows from them."""

    def __init__(self, walk: Callable[[RunT, Iterable[ev.Event]], object]) -> None:
        self._walk: Final = walk
        self._gathered: dict[RunT, list[Landed]] = {}

    def add(self, run: RunT, started: ev.AttemptStarted, result: AttemptResult) -> None:
        """An attempt of the run is over."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._all)
        self._gathered.setdefault(run, []).append((started, result))

    def _all(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for run, landed in gathered.items():
            self._walk(run, _settled(run.state, landed))


def _settled(state: RunState, landed: Iterable[Landed]) -> Iterator[ev.Event]:
    """What follows from each outcome.

    Each is made when the one before has been folded: that may have ended the attempts of those behind it.
    """
    for started, result in landed:
        flight = state.steps[started.step].flight
        if flight is not None and flight.started is started:
            jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
            yield settle(state, started.step, result, jitter=jitter)
