"""Writing the journal: events of many runs in one statement, by the holder of their shards.

A `Submission` is all or nothing: events of one run, in order, with what they mean for its row and the words
they fold. Nothing is acknowledged, and no step with an outside effect is sent, before its future has the
answer.

What keeps a journal whole (seq from 1 without gaps, one writer):
- the shard's token, checked by the statement: a zombie's rows drop out, its futures get `ShardLost`;
- (run_id, seq) is unique, and a finished run's row stays as it finished;
- a run's submissions are written in the order of `submit`;
- after a refused submission the run's later ones are refused too, until one starts at the missing seq again;
- after `CommitUnknown` everything under that shard's token is refused unsent: its owner joins anew and reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from reflux.core.names import RunId
from reflux.orchestrator.store import arrays
from reflux.orchestrator.store.errors import CommitUnknown, RowRefused, ShardLost
from reflux.orchestrator.store.lane import Connect, Lane, LaneStats, connect
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from reflux.core.event import Failure, RunPhase
    from reflux.core.names import StepPath
    from reflux.orchestrator.words.waits import WaitRow
    from reflux.runtime.postgres import Connection

_ROW_BYTES: Final = 200
"""What a row weighs beside its payload."""
_FIRST: Final = "00000000-0000-0000-0000-000000000000"
_LAST: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class ShardLease(NamedTuple):
    """The right to write for the runs of one shard: void as soon as the shard has another token."""

    shard: int
    token: int


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """How a run's row reads from now on, whole: what is not given here becomes NULL."""

    state: RunPhase
    wake_at: datetime | None = None
    """The run waits until then; `None`: it stays in its owner's memory, is PARKED, or has finished."""
    finished_at: datetime | None = None
    """Exactly for a final state."""
    failure: Failure | None = None
    fingerprint: str | None = None
    """Of the failure."""
    progressed: bool = True
    """Whether this ends the count of recoveries without progress."""


@dataclass(frozen=True, slots=True)
class Tell:
    """A word to another run of the same shard, left in its inbox."""

    run_id: RunId
    kind: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """Facts of one run, recorded together or not at all."""

    lease: ShardLease
    run_id: RunId
    first_seq: int
    payloads: Sequence[bytes]
    """The events `first_seq`, `first_seq + 1`, …"""
    update: RunUpdate | None = None
    words: Sequence[int] = ()
    """Ids of the inbox rows of this run that these events fold; deleted with them."""
    tells: Sequence[Tell] = ()
    """What these events say to other runs; left with them."""
    waits: Sequence[WaitRow] = ()
    """Which steps wait for a signal under a key from now on, and which do not any more."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The submission is durable."""

    time: datetime
    """`recorded_at` of its events."""


class Writer:
    """The one writer of this orchestrator. Somebody must `run` it.

    `admitted` is told of runs, of any owner, that got a slot by what was written; a word tells each of them.

    >>> writer = Writer(settings.postgres_dsn)
    >>> tasks.create_task(writer.run())
    >>> recorded = await writer.submit(Submission(lease, run_id, 7, [payload]))
    """

    def __init__(
        self,
        dsn: str,
        *,
        admitted: Callable[[Sequence[RunId]], None] = lambda _: None,
        connect: Connect = connect,
    ) -> None:
        self._admitted = admitted
        self._lane: Lane[Submission, Recorded] = Lane(
            dsn,
            name="journal",
            write=self._write,
            rows=lambda submission: len(submission.payloads),
            refused=self._after_refusal,
            unknown=self._after_unknown,
            connect=connect,
        )
        self._missing: dict[RunId, tuple[int, int]] = {}
        """Run → token under which a submission was refused, and its first seq."""
        self._fences: dict[int, int] = {}
        """Shard → highest token whose state in the tables we do not know."""

    @property
    def stats(self) -> LaneStats:
        """Counters for metrics."""
        return self._lane.stats

    def submit(self, submission: Submission) -> asyncio.Future[Recorded]:
        """Queue it; of one run, in order of seq.

        The future raises:
            ShardLost, CommitUnknown, RowRefused, Stopped: see `store.errors`.

        Raises:
            Exhausted: the queue is full: wait for `room` before taking on more.
            Stopped: the writer is closing.
        """
        size = sum(map(len, submission.payloads)) + _ROW_BYTES * (len(submission.payloads) + 1)
        size += sum(len(tell.payload) + _ROW_BYTES for tell in submission.tells)
        return self._lane.submit(submission, size)

    async def room(self) -> None:
        """Wait until the queue is less than half full; to be called before new work is taken on."""
        await self._lane.room()

    def read_again(self, run_id: RunId, next_seq: int) -> None:
        """The run was read from its journal, whose next event is `next_seq`: nothing else is missing.

        What its former life has submitted may still wait here, and stays refused: it would leave a gap.
        """
        if run_id in self._missing:
            self._missing[run_id] = (self._missing[run_id][0], next_seq)

    def close(self) -> None:
        """Take no more; `run` returns when everything is written."""
        self._lane.close()

    async def run(self) -> None:
        """Write until closed, over any number of connections."""
        await self._lane.run()

    async def _write(
        self, connection: Connection, submissions: Sequence[Submission]
    ) -> Sequence[Recorded | Exception]:
        again: set[RunId] = set()
        answers: list[Recorded | Exception | None] = [self._refusal(one, again) for one in submissions]
        admitted = [one for one, answer in zip(submissions, answers, strict=True) if answer is None]
        held: dict[ShardLease, Recorded] = {}
        if admitted:
            places = {lease: place for place, lease in enumerate(dict.fromkeys(s.lease for s in admitted), 1)}
            leases = list(places)
            cursor = await connection.execute(
                load_sql("reflux.orchestrator.store", "write_events"),
                {"shards": arrays.int4s([lease.shard for lease in leases]),
                 "tokens": arrays.int8s([lease.token for lease in leases]),
                 **_events(admitted, places), **_runs(admitted, places), **_words(admitted, places),
                 **_tells(admitted, places), **_waits(admitted, places)},
                prepare=True,
                binary=True,
            )  # fmt: skip
            rows = await cursor.fetchall()
            for run_id in again:  # not before: a batch that is refused is written once more, in parts
                self._missing.pop(run_id, None)
            held = {leases[place - 1]: Recorded(time) for place, time, _ in rows}
            if rows and rows[0][2]:
                self._admitted([RunId(str(run_id)) for run_id in rows[0][2]])
        return [
            answer or held.get(one.lease) or ShardLost(one.lease.shard)
            for one, answer in zip(submissions, answers, strict=True)
        ]

    def _refusal(self, submission: Submission, again: set[RunId]) -> Exception | None:
        """Why it must not be sent, if so; `again`: runs that this batch begins at their missing event."""
        shard, token = submission.lease
        if token <= self._fences.get(shard, -1):
            return CommitUnknown()
        if submission.run_id in self._missing and submission.run_id not in again:
            since, missing = self._missing[submission.run_id]
            if since == token and submission.first_seq > missing:
                return RowRefused(f"event {missing} of the run is missing")
            again.add(submission.run_id)
        return None

    def _after_refusal(self, submission: Submission) -> None:
        self._missing[submission.run_id] = (submission.lease.token, submission.first_seq)

    def _after_unknown(self, submissions: Iterable[Submission]) -> None:
        for shard, token in (one.lease for one in submissions):
            self._fences[shard] = max(token, self._fences.get(shard, -1))


def _events(submissions: Sequence[Submission], places: dict[ShardLease, int]) -> dict[str, bytes]:
    rows = [
        (places[one.lease], one.run_id, seq, payload)
        for one in submissions
        for seq, payload in enumerate(one.payloads, one.first_seq)
    ]
    return {
        "event_leases": arrays.int8s([row[0] for row in rows]),
        "event_runs": arrays.uuids([row[1] for row in rows]),
        "event_seqs": arrays.int4s([row[2] for row in rows]),
        "event_payloads": arrays.blobs([row[3] for row in rows]),
    }


def _runs(submissions: Sequence[Submission], places: dict[ShardLease, int]) -> dict[str, bytes | str]:
    """The last update of each run: one statement can change a row only once.

    The oldest and the newest id say which partitions need not be looked into.
    """
    latest: dict[tuple[RunId, ShardLease], RunUpdate] = {}
    for one in submissions:
        if one.update is not None:
            former = latest.get((one.run_id, one.lease))
            progressed = one.update.progressed or (former is not None and former.progressed)
            latest[one.run_id, one.lease] = replace(one.update, progressed=progressed)
    updates = list(latest.values())
    failures = [update.failure for update in updates]
    return {
        "run_leases": arrays.int8s([places[lease] for _, lease in latest]),
        "run_ids": arrays.uuids([run_id for run_id, _ in latest]),
        "oldest_run": min((run_id for run_id, _ in latest), default=_LAST),
        "newest_run": max((run_id for run_id, _ in latest), default=_FIRST),
        "run_states": arrays.texts([update.state for update in updates]),
        "run_wakes": arrays.times([update.wake_at for update in updates]),
        "run_finishes": arrays.times([update.finished_at for update in updates]),
        "run_progresses": arrays.bools([update.progressed for update in updates]),
        "error_codes": arrays.texts([failure.code if failure else None for failure in failures]),
        "error_reasons": arrays.texts([failure.reason if failure else None for failure in failures]),
        "error_messages": arrays.texts([failure.message if failure else None for failure in failures]),
        "error_steps": arrays.texts([failure.step if failure else None for failure in failures]),
        "error_fingerprints": arrays.texts([update.fingerprint for update in updates]),
    }


def _words(submissions: Sequence[Submission], places: dict[ShardLease, int]) -> dict[str, bytes]:
    rows = [(places[one.lease], one.run_id, word) for one in submissions for word in one.words]
    return {
        "word_leases": arrays.int8s([row[0] for row in rows]),
        "word_runs": arrays.uuids([row[1] for row in rows]),
        "word_ids": arrays.int8s([row[2] for row in rows]),
    }


def _tells(submissions: Sequence[Submission], places: dict[ShardLease, int]) -> dict[str, bytes]:
    rows = [(places[one.lease], tell) for one in submissions for tell in one.tells]
    return {
        "tell_leases": arrays.int8s([place for place, _ in rows]),
        "tell_runs": arrays.uuids([tell.run_id for _, tell in rows]),
        "tell_kinds": arrays.texts([tell.kind for _, tell in rows]),
        "tell_payloads": arrays.blobs([tell.payload for _, tell in rows]),
    }


def _waits(submissions: Sequence[Submission], places: dict[ShardLease, int]) -> dict[str, bytes]:
    """The last word on each step: one statement can change a row only once."""
    latest: dict[tuple[RunId, StepPath], tuple[int, WaitRow]] = {}
    for one in submissions:
        for row in one.waits:
            latest[one.run_id, row.step] = (places[one.lease], row)
    return {
        "wait_leases": arrays.int8s([place for place, _ in latest.values()]),
        "wait_runs": arrays.uuids([run_id for run_id, _ in latest]),
        "wait_steps": arrays.texts([step for _, step in latest]),
        "wait_names": arrays.texts([row.name for _, row in latest.values()]),
        "wait_keys": arrays.texts([row.key for _, row in latest.values()]),
    }
