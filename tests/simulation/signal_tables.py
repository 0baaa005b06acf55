"""The tables of `words`, and what its statements do: signals under a key, and who waits for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tests.simulation.tables import Row, Tables


@dataclass(slots=True)
class Signal:
    """A row of `signals`."""

    name: str
    key: str
    signal_id: str
    word: bytes
    expires_at: datetime
    run_ids: list[str]


@dataclass(slots=True)
class Wait:
    """A row of `signal_waits`."""

    shard: int
    name: str
    key: str
    offered: int | None = None


@dataclass(slots=True)
class SignalTables:
    """`tables` are the others."""

    tables: Tables
    signals: dict[int, Signal] = field(default_factory=dict)
    waits: dict[tuple[str, str], Wait] = field(default_factory=dict)
    """By run and step."""
    _ids: count[int] = field(default_factory=lambda: count(1))

    # The parts of other statements.

    def changed(self, shard: int, run_id: str, step: str, name: str | None, key: str) -> None:
        """A row of `write_events`: a wait that begins, or without a name one that is over."""
        if name is None:
            self.waits.pop((run_id, step), None)
        else:
            self.waits.setdefault((run_id, step), Wait(shard, name, key))

    def unheard(self, run_id: str, signal: int | None) -> None:
        """A word of a run that has finished, or is in quarantine, is deleted by `find_due`."""
        if signal is None:
            return
        self._back(run_id, signal)
        run = self.tables.runs.get(run_id)
        if run is not None and run.finished_at is None:
            return  # it may go on, and waits
        for place in [place for place in self.waits if place[0] == run_id]:
            del self.waits[place]

    def gave_back(self, run_id: str, signal: int | None) -> None:
        """A word was deleted by `give_back`."""
        if signal is None:
            return
        self._back(run_id, signal)
        for (waiting, _), wait in self.waits.items():
            if waiting == run_id and wait.offered == signal:
                wait.offered = None

    def _back(self, run_id: str, signal: int) -> None:
        kept = self.signals.get(signal)
        if kept is not None and run_id in kept.run_ids:
            kept.run_ids.remove(run_id)

    # Statements.

    def lock(self, _: Any) -> list[Row]:
        """The advisory lock of who matches: a statement here is alone anyway."""
        return []

    def keep_signal(self, p: Any) -> list[Row]:
        now = self.tables.now()
        handle = (p["name"], p["key"], p["signal_id"])
        same = [
            one for one in self._kept(now) if (self.signals[one].name, self.signals[one].key) == handle[:2]
        ]
        if len(same) >= p["limit"]:
            return []
        number = next(self._ids)  # a sequence counts also for what is not inserted
        known = self._find(handle)
        made = Signal(*handle, p["word"], now + p["keep"], [])
        if known is None:
            self.signals[number] = made
        elif self.signals[known].expires_at <= now:
            self.signals[known] = made
        return []

    def find_signal(self, p: Any) -> list[Row]:
        known = self._find((p["name"], p["key"], p["signal_id"]))
        if known is None:
            return []
        row = self.signals[known]
        return [(list(row.run_ids), row.expires_at, row.word)]

    def find_word(self, p: Any) -> list[Row]:
        known = self._find((p["name"], p["key"], p["signal_id"]))
        inbox = self.tables.inbox.values()
        return [(known is not None and any(row[1] == p["run_id"] and row[5] == known for row in inbox),)]

    def forget_signals(self, p: Any) -> list[Row]:
        now = self.tables.now()
        old = sorted(
            (one.expires_at, number) for number, one in self.signals.items() if one.expires_at <= now
        )
        for _, number in old[: p["limit"]]:
            del self.signals[number]
        return []

    def any_to_match(self, _: Any) -> list[Row]:
        kept = {
            (self.signals[number].name, self.signals[number].key) for number in self._kept(self.tables.now())
        }
        return [
            (
                any(
                    (run, wait.name, wait.key)
                    for (run, _), wait in self._idle()
                    if (wait.name, wait.key) in kept
                ),
            )
        ]

    def pairs(self) -> list[tuple[str, str, int]]:
        """Run, step and signal that belong together now."""
        oldest: dict[tuple[str, str], int] = {}
        for number in sorted(self._kept(self.tables.now())):
            one = self.signals[number]
            oldest.setdefault((one.name, one.key), number)
        found: dict[tuple[str, int], str] = {}
        for (run_id, step), wait in self._idle():
            signal = oldest.get((wait.name, wait.key))
            if signal is not None:
                found[run_id, signal] = min(step, found.get((run_id, signal), step))
        return sorted((run_id, step, signal) for (run_id, signal), step in found.items())

    def match_signals(self, _: Any) -> list[Row]:
        pairs = self.pairs()
        for run_id, step, signal in pairs:
            self.waits[run_id, step].offered = signal
            self.given(signal, run_id)
            shard = self.waits[run_id, step].shard
            self.tables.tell(shard, run_id, "signal", self.signals[signal].word, signal)
        return [(run_id,) for run_id, _, _ in pairs]

    def given(self, signal: int, run_id: str) -> None:
        """A signal is a run's, and nobody else's from now on."""
        self.signals[signal].run_ids.append(run_id)

    def _kept(self, now: datetime) -> list[int]:
        return [number for number, one in self.signals.items() if not one.run_ids and one.expires_at > now]

    def _find(self, handle: tuple[str, str, str]) -> int | None:
        for number, one in self.signals.items():
            if (one.name, one.key, one.signal_id) == handle:
                return number
        return None

    def _idle(self) -> Iterator[tuple[tuple[str, str], Wait]]:
        """Waits of runs that have no signal of their name and key on its way, and can hear one."""
        coming = {(row[0], row[1], row[5]) for row in self.tables.inbox.values() if row[5] is not None}
        busy = {
            (run_id, wait.name, wait.key)
            for (run_id, _), wait in self.waits.items()
            if (wait.shard, run_id, wait.offered) in coming
        }
        for place, wait in self.waits.items():
            if (place[0], wait.name, wait.key) not in busy and not self.tables.quarantined(place[0]):
                yield place, wait
