"""What a sender is told of its signal: which runs have taken it, never which were only given it."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.core.document import NULL
from reflux.core.errors import Unavailable
from reflux.core.names import RunId
from reflux.core.word import Signal, WordId
from reflux.orchestrator.words.signals import MAX_GIVEN, Sent, Signals

ONE, OTHER = RunId("0197a000-0000-7000-8000-000000000001"), RunId("0197a000-0000-7000-8000-000000000002")
SIGNAL = Signal(WordId("ready:1:k:1"), "me", "ready", "k", NULL)


class Told(Signals):
    """Whoever is given the signal, look by look; only `takers` take it."""

    def __init__(self, given: list[tuple[RunId, ...]], takers: set[RunId]) -> None:
        nobody: Any = None
        super().__init__(nobody, nobody)
        self._given, self._takers = given, takers

    async def _find(self, handle: dict[str, str]) -> Sent | None:
        return Sent(self._given.pop(0) if len(self._given) > 1 else self._given[0], None)

    async def _settled(self, run_id: RunId, signal: Signal, handle: dict[str, str]) -> bool:
        return run_id in self._takers


async def test_who_gave_it_back_and_was_given_it_again_has_not_taken_it():
    """A run whose end is not durable yet refuses it, and is offered it again; then another one takes it."""
    signals = Told([(ONE,), (OTHER,)], {OTHER})
    assert (await signals._taken(Sent((ONE,), None), SIGNAL, {})).runs == (OTHER,)


async def test_a_signal_that_goes_round_is_not_said_to_be_taken():
    """The sender is told to ask again, which is true."""
    signals = Told([(ONE,)], set())
    with pytest.raises(Unavailable):
        await signals._taken(Sent((ONE,), None), SIGNAL, {})
    assert MAX_GIVEN < 10
