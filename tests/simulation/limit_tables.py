"""The tables of the migration `limits`, and what its functions do to them: slots, queues and rates.

`admit` is `admit_runs`, `release` is `release_slots`; both in the order in which the real ones lock and look.
Rows are plain values; what is told to runs goes through `tell`, into the inbox.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from tests.simulation.tables import Row

Place = tuple[str, str]
"""Flow and key."""

_LEAST: Final = timedelta(microseconds=1)
"""What the database tells apart."""
_OLDEST: Final = b'{"actor": "policies.concurrency", "reason": "a newer run of its key takes its place"}'


@dataclass(slots=True)
class Limit:
    """A row of `limits`."""

    slots: int
    held: int = 0
    queued: int = 0
    version: int = 0

    @property
    def unused(self) -> bool:
        """Nobody holds a slot or waits for one."""
        return not self.held and not self.queued


@dataclass(slots=True)
class Slot:
    """A row of `slots`."""

    flow_id: str
    key: str
    shard: int
    id: int
    priority: int
    held: bool = False
    told: bool = False
    start_at: datetime | None = None

    @property
    def place(self) -> Place:
        """Of its limit."""
        return self.flow_id, self.key


@dataclass(slots=True)
class Rate:
    """A row of `rates`. `full_at`: when nothing is used up; None: long ago."""

    runs: int
    per: timedelta
    full_at: datetime | None = None
    version: int = 0

    @property
    def pace(self) -> timedelta:
        """From one run to the next."""
        return self.per // _LEAST // self.runs * _LEAST


@dataclass(slots=True)
class Turn:
    """A row of `turns`."""

    flow_id: str
    key: str
    start_at: datetime

    @property
    def place(self) -> Place:
        """Of its rate."""
        return self.flow_id, self.key


class Claim(NamedTuple):
    """What a new run of a limited flow asks for; `per`: of the rate."""

    run_id: str
    flow_id: str
    shard: int
    priority: int
    slot_key: str | None
    slots: int
    overflow: str | None
    rate_key: str | None
    rate: int
    per: timedelta
    rate_overflow: str | None
    version: int = 0


class Verdict(NamedTuple):
    """What becomes of it."""

    verdict: str
    wake_at: datetime | None
    limited: bool


@dataclass(slots=True)
class LimitTables:
    """`tell(shard, run, kind, payload)` leaves a word in an inbox; `wake(run, time)` has it come sooner."""

    tell: Callable[[int, str, str, bytes], None]
    wake: Callable[[str, datetime], None]
    limits: dict[Place, Limit] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    rates: dict[Place, Rate] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)
    refused: list[tuple[datetime, Place]] = field(default_factory=list)
    """When a run got no slot, and of which limit; for the auditor."""
    _ids: count[int] = field(default_factory=lambda: count(1))

    def admit(self, claims: Iterable[Claim], now: datetime) -> dict[str, Verdict]:
        """What becomes of new runs, by their ids."""
        asked = list(claims)
        self._take(asked, now)
        for one in asked:
            if one.slot_key is not None and one.overflow == "queue" and one.rate_key is None:
                self._wait(one, None)
        verdicts: dict[str, tuple[str, datetime | None]] = {}
        for one in asked:
            if one.rate_key is not None or one.overflow not in (None, "queue"):
                verdicts[one.run_id] = self._judge(one, now)
        wanted = {(one.flow_id, one.slot_key) for one in asked if one.slot_key is not None}
        self._hand(sorted(wanted), [one.run_id for one in asked])
        self._forget_unused(wanted)
        return {one.run_id: self._verdict(one, *verdicts.get(one.run_id, ("begin", None))) for one in asked}

    def release(self, ended: Collection[str], now: datetime) -> list[str]:
        """The slots of runs that end, or their places in the queue, and their times; who got a slot."""
        places = []
        for run_id in ended:
            slot = self.slots.pop(run_id, None)
            if slot is None:
                continue
            limit = self.limits[slot.place]
            limit.held -= slot.held
            limit.queued -= not slot.held
            places.append(slot.place)
        self._release_turns(ended, now)
        handed = self._hand(sorted(set(places)), ())
        self._forget_unused(set(places))
        return handed

    def find_place(self, run_id: str, row: Any, counted: int) -> list[Row]:
        """Where a QUEUED run stands; `row` is that of the run."""
        slot = self.slots.get(run_id)
        if slot is None:
            return [(row.wake_at, None, 0, None, None, None, None)]
        before = sum(
            other.place == slot.place
            and not other.held
            and (-other.priority, other.id) < (-slot.priority, slot.id)
            for other in self.slots.values()
        )
        limit = self.limits[slot.place]
        at = slot.start_at or row.wake_at
        return [(at, slot.key, min(before, counted - 1), limit.queued, limit.held, limit.slots, slot.held)]

    def _judge(self, one: Claim, now: datetime) -> tuple[str, datetime | None]:
        """The verdict on a run whose fate depends on those before it."""
        start_at, full_at = None, None
        if one.rate_key is not None:
            rate = self.rates[one.flow_id, one.rate_key]
            full_at = max(rate.full_at or now, now) + rate.pace
            start_at = full_at - rate.per
            if start_at <= now:
                start_at = None
            elif one.rate_overflow == "reject":
                return "rate", start_at
        if one.slot_key is not None:
            limit = self.limits[one.flow_id, one.slot_key]
            if one.overflow == "reject" and self.is_full(limit):
                self.refused.append((now, (one.flow_id, one.slot_key)))
                return "concurrency", None
            self._wait(one, start_at)
            if one.overflow == "cancel_oldest" and one.version == limit.version:
                self._ask_oldest_to_end((one.flow_id, one.slot_key))
        if full_at is not None and one.rate_key is not None:
            self.rates[one.flow_id, one.rate_key].full_at = full_at
            if start_at is not None:
                self.turns[one.run_id] = Turn(one.flow_id, one.rate_key, start_at)
        return "begin", start_at

    def is_full(self, limit: Limit) -> bool:
        """Whether a run that does not wait has no slot."""
        return limit.held + limit.queued >= limit.slots

    def places(self, limit: Limit) -> int:
        """How many slots are free."""
        return limit.slots - limit.held

    def _wait(self, one: Claim, start_at: datetime | None) -> None:
        assert one.slot_key is not None
        self.slots[one.run_id] = Slot(
            one.flow_id, one.slot_key, one.shard, next(self._ids), one.priority, start_at=start_at
        )
        self.limits[one.flow_id, one.slot_key].queued += 1

    def _take(self, asked: Sequence[Claim], now: datetime) -> None:
        """What the newest version says holds, and of that what the newest start says.

        What an older one has used up of a rate is owed for one period at most.
        """
        for one in sorted(asked, key=lambda one: one.version):
            if one.slot_key is not None:
                limit = self.limits.setdefault((one.flow_id, one.slot_key), Limit(one.slots))
                if one.version >= limit.version:
                    limit.slots, limit.version = one.slots, one.version
            if one.rate_key is not None:
                rate = self.rates.setdefault((one.flow_id, one.rate_key), Rate(one.rate, one.per))
                changed = (rate.runs, rate.per) != (one.rate, one.per)
                if one.version > rate.version and changed and rate.full_at is not None:
                    rate.full_at = min(rate.full_at, now + one.per)
                if one.version >= rate.version:
                    rate.runs, rate.per, rate.version = one.rate, one.per, one.version

    def _release_turns(self, ended: Collection[str], now: datetime) -> None:
        """Who ends before it began leaves its time to the one behind it, and that one to the next."""
        gone = [self.turns[run_id] for run_id in ended if run_id in self.turns]
        for place in {turn.place for turn in gone if turn.start_at > now}:
            ahead = {
                run_id: turn
                for run_id, turn in self.turns.items()
                if turn.place == place and turn.start_at > now
            }
            times = sorted(turn.start_at for turn in ahead.values())
            waiting = sorted((turn.start_at, run_id) for run_id, turn in ahead.items() if run_id not in ended)
            rate = self.rates[place]
            if rate.full_at is not None:
                free, before = times[len(waiting)], times[: len(waiting)]
                rate.full_at = min(rate.full_at, max([free - rate.pace, *before[-1:]]) + rate.per)
            for (start_at, run_id), sooner in zip(waiting, times, strict=False):
                if sooner < start_at:
                    self._come_sooner(run_id, sooner)
        for run_id in ended:
            self.turns.pop(run_id, None)

    def _come_sooner(self, run_id: str, start_at: datetime) -> None:
        self.turns[run_id].start_at = start_at
        slot = self.slots.get(run_id)
        if slot is not None and slot.start_at is not None and slot.start_at > start_at:
            slot.start_at = start_at
            if slot.held:
                self.tell(slot.shard, run_id, "admitted", b"")
        self.wake(run_id, start_at)

    def _forget_unused(self, places: Iterable[Place]) -> None:
        for place in places:
            if place in self.limits and self.limits[place].unused:
                del self.limits[place]

    def _ask_oldest_to_end(self, place: Place) -> None:
        untold = sorted(
            (slot.id, run_id, slot)
            for run_id, slot in self.slots.items()
            if slot.place == place and not slot.told
        )
        for _, run_id, slot in untold[: max(0, len(untold) - self.limits[place].slots)]:
            slot.told = True
            self.tell(slot.shard, run_id, "cancel", _OLDEST)

    def _hand(self, places: Iterable[Place], known: Collection[str]) -> list[str]:
        """Free slots to the first in their queues; who got one."""
        got = []
        for place in places:
            limit = self.limits[place]
            free = self.places(limit)
            if free <= 0 or not limit.queued:
                continue
            for run_id in self.queue(place)[:free]:
                slot = self.slots[run_id]
                slot.held = True
                limit.held += 1
                limit.queued -= 1
                got.append(run_id)
                if run_id not in known:
                    self.tell(slot.shard, run_id, "admitted", b"")
        return got

    def queue(self, place: Place) -> list[str]:
        """Who waits for a slot, the first one first."""
        waiting = sorted(
            (-slot.priority, slot.id, run_id)
            for run_id, slot in self.slots.items()
            if slot.place == place and not slot.held and not slot.told
        )
        return [run_id for *_, run_id in waiting]

    def _verdict(self, one: Claim, verdict: str, start_at: datetime | None) -> Verdict:
        slot = self.slots.get(one.run_id)
        held = slot is None or slot.held
        if verdict == "begin" and (not held or start_at is not None):
            verdict = "queue"
        return Verdict(verdict, start_at if held else None, slot is not None or start_at is not None)
