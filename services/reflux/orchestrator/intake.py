"""Brings runs into memory: those of new shards, those whose time has come, those somebody has a word for.

Each run is read once, folded, and given to the worker together with what must be recorded first: that it was
recovered, what became of the attempts its former owner left in flight, the words it has to answer. A run that
cannot be read or folded is parked by a statement that needs neither, so that it cannot take its orchestrator
down again and again; so is one whose owners died `MAX_RECOVERIES` times without progress.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import psycopg

from reflux.core import event as ev
from reflux.core.attempt import recover
from reflux.core.event import RunPhase
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.run import RunState, evolve
from reflux.orchestrator import codec
from reflux.orchestrator.journal_reader import JournalReader, Loaded
from reflux.orchestrator.store import runs, wakeups
from reflux.orchestrator.store.journal import RunUpdate, ShardLease, Submission, Writer
from reflux.orchestrator.store.members import MemberId, Taken
from reflux.orchestrator.store.runs import Adopted
from reflux.orchestrator.store.wakeups import Word
from reflux.orchestrator.worker import EVICT_AFTER, MAX_RUNS, ActiveRun, Worker
from reflux.runtime import logs
from reflux.runtime.clock import Clock
from reflux.runtime.postgres import Pool

POLL_SECONDS: Final = 1.0
MAX_RECOVERIES: Final = 5
"""Deaths of its owner without progress after which a run is quarantined."""
LOAD_AT_ONCE: Final = 50
"""Runs read by one statement."""
CANCEL: Final = "cancel"
"""Kind of the word that asks to cancel; its payload is `{"actor", "reason"}`."""

log = logs.get_logger("intake")


@dataclass(frozen=True, slots=True)
class Broken:
    """A run that the worker could not advance."""

    lease: ShardLease
    problem: str
    seq: int
    """Of the first event that it could not record."""


class Intake:
    """Feeds the worker. `run` must be running."""

    def __init__(
        self, *, pool: Pool, reader: JournalReader, writer: Writer, worker: Worker, clock: Clock
    ) -> None:
        self._pool = pool
        self._reader = reader
        self._writer = writer
        self._worker = worker
        self._clock = clock
        self._member = ""
        self._leases: dict[int, ShardLease] = {}
        self._adopting: asyncio.Queue[Taken] = asyncio.Queue()
        self._again: dict[RunId, ShardLease] = {}
        self._broken: dict[RunId, Broken] = {}
        self._reading = asyncio.Lock()
        self._look = asyncio.Event()

    def joined(self, member: MemberId) -> None:
        """A new life of this orchestrator begins, without shards."""
        self._member = member

    def gained(self, shards: Sequence[Taken]) -> None:
        """These are ours now."""
        for taken in shards:
            self._leases[taken.lease.shard] = taken.lease
            self._adopting.put_nowait(taken)

    def busy(self) -> Collection[int]:
        """Shards not to be given away now."""
        return self._worker.busy_shards()

    def lost(self, shards: Collection[int]) -> None:
        """These are not ours any more."""
        for shard in shards:
            self._leases.pop(shard, None)
        self._worker.drop_shards(shards)

    def look(self) -> None:
        """Somebody says that something is due."""
        self._look.set()

    def read_again(self, run_id: RunId, lease: ShardLease) -> None:
        """A run was dropped for want of room."""
        self._again[run_id] = lease

    def broken(self, run_id: RunId, broken: Broken) -> None:
        """A run could not be advanced: the next look reads it again, or parks it."""
        self._broken[run_id] = broken
        self._look.set()

    async def run(self) -> None:
        """Adopts and polls until cancelled, through every loss of the database."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._adopt_forever())
            group.create_task(self._poll_forever())

    async def _adopt_forever(self) -> None:
        while True:
            taken = await self._adopting.get()
            try:
                await self._adopt(taken)
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("adoption_repeated", shard=taken.lease.shard, error=str(error))
                await asyncio.sleep(POLL_SECONDS)
                if self._holds(taken.lease):
                    # A death counted twice is harmless; one not counted is not.
                    self._adopting.put_nowait(taken)

    async def _adopt(self, taken: Taken) -> None:
        async for page in runs.adopt(self._pool, taken.lease, died=taken.orphaned):
            for start in range(0, len(page), LOAD_AT_ONCE):
                await self._room()
                await self._take(taken.lease, page[start : start + LOAD_AT_ONCE])

    async def _take(self, lease: ShardLease, page: Sequence[Adopted]) -> None:
        recoveries = {adopted.run_id: adopted.recoveries for adopted in page}
        async for loaded in self._read(list(recoveries)):
            if not self._holds(lease):
                return
            if recoveries[loaded.run_id] >= MAX_RECOVERIES:
                self._park(
                    loaded,
                    lease,
                    Reason.QUARANTINED,
                    "its orchestrators died again and again without progress",
                )
                continue
            self._give(loaded, lease, recovered=True)

    async def _poll_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                await self._poll()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("poll_failed", error=str(error))
                await asyncio.sleep(POLL_SECONDS)

    async def _poll(self) -> None:
        leases = list(self._leases.values())
        due = await wakeups.poll(self._pool, leases, ahead=EVICT_AFTER / 2, loaded=list(self._worker.runs))
        words: defaultdict[RunId, list[Word]] = defaultdict(list)
        for word in due.words:
            words[word.run_id].append(word)
        for run_id in [run_id for run_id in words if run_id in self._worker.runs]:
            self._answer(self._worker.runs[run_id], words.pop(run_id))
        again, self._again = self._again, {}
        shards = {timer.run_id: timer.shard for timer in due.timers}
        shards |= {run_id: word[0].shard for run_id, word in words.items()}
        shards |= {run_id: lease.shard for run_id, lease in again.items()}
        await self._room()
        async for loaded in self._read(list(shards)):
            lease = self._leases.get(shards[loaded.run_id])
            if lease is None:
                continue
            run = self._give(loaded, lease, recovered=loaded.run_id in again)
            if run is not None and words[loaded.run_id]:
                self._answer(run, words[loaded.run_id])
        if due.more:
            self._look.set()
        await self._mend()

    async def _mend(self) -> None:
        """Reads the runs again that the worker could not advance.

        One whose journal went on without the worker's memory of it was only read too early. Any other one is
        parked: what it did once it would do again.
        """
        broken, self._broken = self._broken, {}
        async for loaded in self._read(list(broken)):
            one = broken[loaded.run_id]
            if not self._holds(one.lease):
                continue
            if loaded.state is not None and (loaded.state.finished or loaded.last_seq >= one.seq):
                self._give(loaded, one.lease, recovered=True)
            else:
                self._park(loaded, one.lease, Reason.RUN_BROKEN, one.problem)

    async def _read(self, run_ids: Sequence[RunId]) -> AsyncIterator[Loaded]:
        """Runs that are not in memory, read by one reader at a time, so that no view has grown old."""
        async with self._reading:
            absent = [run_id for run_id in run_ids if run_id not in self._worker.runs]
            async for loaded in self._reader.load(absent):
                if loaded.run_id not in self._worker.runs:
                    yield loaded

    def _give(self, loaded: Loaded, lease: ShardLease, *, recovered: bool) -> ActiveRun | None:
        """Hands a run to the worker, with what its former owner left open."""
        if loaded.state is None:
            self._park(loaded, lease, Reason.RUN_BROKEN, loaded.problem)
            return None
        state = loaded.state
        run = ActiveRun(state, lease, loaded.last_seq + 1, _row_of(state), unproven=recovered)
        now = self._clock.now()
        events: list[ev.Event] = []
        # A parked run keeps what was in flight when it was parked; nobody can answer those calls any more.
        if (recovered or state.flights) and state.finished is None:
            events = [ev.RunRecovered(self._member, lease.token, now), *recover(state, now)]
        self._worker.add(run, events)
        return run

    def _answer(self, run: ActiveRun, words: Sequence[Word]) -> None:
        events: list[ev.Event] = []
        for word in words:
            if word.kind == CANCEL and not (run.state.finished or run.state.cancel):
                said = orjson.loads(word.payload)
                events.append(ev.CancelRequested(said["actor"], said["reason"], self._clock.now()))
        self._worker.walk(run, events, [word.id for word in words])

    def _park(self, loaded: Loaded, lease: ShardLease, reason: Reason, message: str) -> None:
        failure = ev.Failure("INTERNAL", reason, message)
        event = ev.RunParked(failure, self._clock.now())
        if loaded.state is not None:
            evolve(loaded.state, event)
        log.error("run_parked", run_id=loaded.run_id, reason=reason.value, message=message)
        update = RunUpdate(RunPhase.PARKED, failure=failure, progressed=False)
        self._writer.submit(
            Submission(lease, loaded.run_id, loaded.last_seq + 1, [codec.encode(event)], update)
        )

    def _holds(self, lease: ShardLease) -> bool:
        return self._leases.get(lease.shard) == lease

    async def _room(self) -> None:
        """Waits until memory and the writer's queue can take more runs."""
        await self._writer.room()
        while len(self._worker.runs) >= MAX_RUNS:  # noqa: ASYNC110 - hours of load, not a wait for one thing
            await asyncio.sleep(POLL_SECONDS / 10)


def _row_of(state: RunState) -> RunUpdate:
    """What the row of a run says that has just been read: nothing that the worker would not say anew."""
    return RunUpdate(state.phase, wake_at=state.created.time)
