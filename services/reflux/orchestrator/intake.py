"""Brings runs into memory: those of new shards, those whose time has come, those somebody has a word for.

Each run is read once, folded, and given to the worker together with what must be recorded first: that it was
recovered, what became of the attempts its former owner left in flight, the words it has to answer. A run that
cannot be read or folded is parked by a statement that needs neither, so that it cannot take its orchestrator
down again and again; so is one whose owners died `MAX_RECOVERIES` times without progress.

A new shard is first counted: every run that its former owner left under way, or may have read for a word,
gets its death, and those that had too many are parked. Only then is anything of the shard taken up, by
whichever way, because what is taken up may be what kills. Loading waits for room in memory, counting for
nothing. The last death before that counts only against a run that was being tried, one at a time
(`suspects`).

A run in quarantine is read once more when it is told to end or to go on. If that kills, too, it ends as it
stands, or the word that it should go on is taken away.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import psycopg

from reflux.core import event as ev
from reflux.core.attempt import recover
from reflux.core.compensation import uncompensated
from reflux.core.errors import Exhausted
from reflux.core.event import RunPhase
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.state import RunState
from reflux.core.walker import next_wake
from reflux.core.word import unresolved
from reflux.orchestrator import codec, metrics
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.adoption import Adoption
from reflux.orchestrator.children import Children, tell_parent, tells
from reflux.orchestrator.journal_reader import JournalReader, Loaded
from reflux.orchestrator.operations.seen import seen_as
from reflux.orchestrator.resting import EVICT_AFTER, queues
from reflux.orchestrator.store import runs, slots, wakeups
from reflux.orchestrator.store.errors import Stopped
from reflux.orchestrator.store.journal import Recorded, RunUpdate, ShardLease, Submission, Tell, Writer
from reflux.orchestrator.store.members import MemberId, Taken
from reflux.orchestrator.store.runs import MAX_RECOVERIES, Adopted
from reflux.orchestrator.store.wakeups import Word
from reflux.orchestrator.suspects import Suspects
from reflux.orchestrator.words.hearing import give_back, hear_all
from reflux.orchestrator.words.stored import ENDS, WAKES
from reflux.orchestrator.words.waits import WaitRow, keyed
from reflux.orchestrator.worker import Worker
from reflux.runtime import logs
from reflux.runtime.clock import Clock
from reflux.runtime.postgres import Pool
from reflux.runtime.tasks import forever

POLL_SECONDS: Final = 1.0
QUARANTINED: Final = "its orchestrators died again and again without progress"
LOAD_AT_ONCE: Final = 50
"""Runs taken on before memory is looked at again."""

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
        self,
        *,
        pool: Pool,
        reader: JournalReader,
        writer: Writer,
        worker: Worker,
        clock: Clock,
        children: Children | None = None,
    ) -> None:
        self._pool = pool
        self._children = children
        self._reader = reader
        self._writer = writer
        self._worker = worker
        self._clock = clock
        self._member = ""
        self._leases: dict[int, ShardLease] = {}
        self._adopting: asyncio.Queue[Adoption] = asyncio.Queue()
        self._loading: asyncio.Queue[tuple[ShardLease, list[Adopted]]] = asyncio.Queue()
        self._counted: set[ShardLease] = set()
        """Shards whose runs may be taken up."""
        self._broken: dict[RunId, Broken] = {}
        self._suspects = Suspects(pool, worker, take=self._take_alone)
        self._writing: dict[RunId, asyncio.Future[Recorded]] = {}
        """Runs that are being parked, or ended as they stand: not to be read before that is committed."""
        self._reading = asyncio.Lock()
        self._look = asyncio.Event()

    def joined(self, member: MemberId) -> None:
        """A new life of this orchestrator begins, without shards."""
        self._member = member

    def gained(self, shards: Sequence[Taken]) -> None:
        """These are ours now."""
        for taken in shards:
            self._leases[taken.lease.shard] = taken.lease
            self._adopting.put_nowait(Adoption(taken))

    def busy(self) -> Collection[int]:
        """Shards not to be given away now."""
        return self._worker.busy_shards()

    def lost(self, shards: Collection[int]) -> None:
        """These are not ours any more."""
        for shard in shards:
            self._counted.discard(self._leases.pop(shard, ShardLease(shard, -1)))
        self._suspects.lost(shards)
        self._worker.drop_shards(shards)

    def look(self) -> None:
        """Somebody says that something is due."""
        self._look.set()

    def broken(self, run_id: RunId, broken: Broken) -> None:
        """A run could not be advanced: the next look reads it again, or parks it."""
        self._broken[run_id] = broken
        self._look.set()

    async def run(self) -> None:
        """Adopts and polls until cancelled, through every loss of the database."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._adopt_forever())
            group.create_task(self._load_forever())
            group.create_task(self._poll_forever())
            group.create_task(self._suspects.run())

    async def _adopt_forever(self) -> None:
        for _ in forever():
            adoption = await self._adopting.get()
            lease = adoption.taken.lease
            try:
                await self._adopt(adoption)
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("adoption_repeated", shard=lease.shard, error=str(error))
                await asyncio.sleep(POLL_SECONDS)
                if self._holds(lease):
                    self._adopting.put_nowait(adoption)

    async def _adopt(self, adoption: Adoption) -> None:
        """Counts the runs of a new shard, parks those that have died too often, and has the others loaded."""
        await adoption.count(self._pool)
        taken, adopted = adoption.taken, adoption.adopted
        # One that rests has its old deaths still: only a new one speaks against reading it for a word.
        fatal = [one for one in adopted if one.recoveries >= MAX_RECOVERIES and (one.due or taken.orphaned)]
        poison = [one.run_id for one in fatal]
        parked = await self._quarantine(poison, taken.lease) if poison else []
        if parked:
            await asyncio.wait(parked)
        if self._holds(taken.lease):
            for one in adopted:
                if one.recoveries == MAX_RECOVERIES - 1:
                    self._suspects.add(taken.lease, one)
            self._counted.add(taken.lease)
            self._look.set()
            unsuspected = [one for one in adopted if one.due and one.recoveries < MAX_RECOVERIES - 1]
            self._loading.put_nowait((taken.lease, unsuspected))

    async def _load_forever(self) -> None:
        """What cannot be loaded now is due in the tables, and found by a later look."""
        for _ in forever():
            lease, adopted = await self._loading.get()
            for start in range(0, len(adopted), LOAD_AT_ONCE):
                await self._room()
                try:
                    await self._take(lease, adopted[start : start + LOAD_AT_ONCE])
                except (psycopg.Error, OSError, TimeoutError) as error:
                    log.warning("loading_failed", shard=lease.shard, error=str(error))
                    break

    async def _take_alone(self, lease: ShardLease, suspect: Adopted) -> None:
        if suspect.due:
            await self._room()
            await self._take(lease, [suspect])
        self._look.set()

    async def _take(self, lease: ShardLease, page: Sequence[Adopted]) -> None:
        async with self._read([adopted.run_id for adopted in page]) as found:
            async for loaded in found:
                if not self._holds(lease):
                    return
                await self._give(loaded, lease)

    async def _quarantine(
        self, run_ids: Sequence[RunId], lease: ShardLease
    ) -> list[asyncio.Future[Recorded]]:
        """Parks runs without a look at them: it may be that look of which their owners died."""
        parked: list[asyncio.Future[Recorded]] = []
        for run_id, last_seq in (await runs.last_seqs(self._pool, run_ids)).items():
            row = await runs.get(self._pool, run_id)
            said = await wakeups.words_of(self._pool, lease, run_id)
            if row is None or not self._holds(lease) or run_id in self._worker.runs:
                continue
            rests = row.state is RunPhase.PARKED and row.failure and row.failure.reason == Reason.QUARANTINED
            # Those that a run in quarantine was read for; what else was said to it is kept.
            words = [word for word in said if word.kind in ENDS or (rests and word.kind in WAKES)]
            ends = row.state is RunPhase.CANCELING or _ends(words)
            loaded = Loaded(run_id, last_seq, None)
            if ends:
                created = await self._created(run_id)
                parked += self._end(loaded, lease, _quarantined(), words, created)
            else:
                parked += self._park(loaded, lease, _quarantined(), words)
        return parked

    async def _poll_forever(self) -> None:
        for _ in forever():
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
        if self._broken:
            await self._mend()
        leases = list(self._counted)
        here = [*self._worker.runs, *self._suspects]
        due = await wakeups.poll(self._pool, leases, ahead=EVICT_AFTER / 2, loaded=here)
        words: defaultdict[RunId, list[Word]] = defaultdict(list)
        for word in due.words:
            if word.run_id not in self._suspects or word.run_id in self._worker.runs:
                words[word.run_id].append(word)
        for run_id in [run_id for run_id in words if run_id in self._worker.runs]:
            run = self._worker.runs.get(run_id)  # it may leave memory while another one answers
            if run is None:
                continue
            said = words.pop(run_id)
            if run.state.queued:  # about to leave memory: the next look reads what it has now
                said = [word for word in said if word.kind != slots.ADMITTED]
            if said:
                await self._answer(run, said)
        held_back = {*self._broken, *self._suspects}
        shards = {timer.run_id: timer.shard for timer in due.timers if timer.run_id not in held_back}
        shards |= {run_id: said[0].shard for run_id, said in words.items()}
        if not shards:
            if due.more:
                self._look.set()
            return
        if self._worker.full():
            return  # what is due stays due; waiting here would keep cancels from the runs that fill memory
        async with self._read(list(shards)) as found:
            async for loaded in found:
                lease = self._leases.get(shards[loaded.run_id])
                if lease is not None:
                    await self._give(loaded, lease, words[loaded.run_id])
        if due.more:
            self._look.set()

    async def _mend(self) -> None:
        """Reads the runs again that the worker could not advance.

        One whose journal went on without the worker's memory of it was only read too early. Any other one is
        parked: what it did once it would do again.
        """
        async with self._read(list(self._broken)) as found:
            async for loaded in found:
                one = self._broken.pop(loaded.run_id)
                if not self._holds(one.lease):
                    continue
                if loaded.state is not None and (loaded.state.finished or loaded.last_seq >= one.seq):
                    await self._give(loaded, one.lease)
                elif loaded.state is not None and loaded.state.canceled:
                    self._end(loaded, one.lease, _broken(one.problem))
                else:
                    # If hearing that it shall end is what it cannot do, it would try for ever.
                    said = await wakeups.words_of(self._pool, one.lease, loaded.run_id)
                    if ends := [word for word in said if word.kind in ENDS]:
                        self._end(loaded, one.lease, _broken(one.problem), ends)
                    else:
                        self._park(loaded, one.lease, _broken(one.problem))

    @asynccontextmanager
    async def _read(self, run_ids: Sequence[RunId]) -> AsyncIterator[AsyncIterator[Loaded]]:
        """Runs that are not in memory, read by one reader at a time, so that no view has grown old."""
        worker = self._worker

        async def absent(source: AsyncIterator[Loaded]) -> AsyncIterator[Loaded]:
            async for loaded in source:
                if loaded.run_id not in worker.runs:
                    yield loaded

        async with self._reading:
            others = (worker.runs, worker.launching, self._writing)
            wanted = [one for one in run_ids if not any(one in hands for hands in others)]
            async with aclosing(self._reader.load(wanted)) as source:
                yield absent(source)

    async def _give(self, loaded: Loaded, lease: ShardLease, words: Sequence[Word] = ()) -> None:
        """Hands a run to the worker, with what its former owner left open, and with what was said to it."""
        state = loaded.state
        if state is None:
            await self._give_up(loaded, lease, words)
            return
        metrics.walked_again(next_wake(state), self._clock.now())
        self._writer.read_again(loaded.run_id, loaded.last_seq + 1)
        # Nobody can answer the calls of a former life; an evicted run has none, and was not recovered.
        waits = state.due or state.timers or state.awaited or state.child_runs
        interrupted = state.flights > 0 or bool(state.unstarted)
        recovered = interrupted or (state.phase is RunPhase.RUNNING and not waits)
        # Deaths of its owners may have been counted in its row, also while it only waited.
        run = ActiveRun(
            state, lease, loaded.last_seq + 1, _row_of(state), unproven=True, indexed=keyed(state)
        )
        now = self._clock.now()
        events: list[ev.Event] = []
        if state.queued and state.finished is None and state.cancel is None:
            queued = await slots.queued(self._pool, run.id)
            if not self._holds(lease) or run.id in self._worker.runs:
                return  # meanwhile
            run.begins_at = queued.start_at
            if queued.admitted and not queues(state):
                run.begins_at = now  # one that was put aside: whoever lets it go on finds it due
            elif queued.admitted and not _ends(words):
                events = [ev.RunAdmitted(now)]
        if recovered and state.finished is None:
            events = [ev.RunRecovered(self._member, lease.token, now), *recover(state, now)]
        self._worker.add(run, events)
        if words:
            await self._answer(run, words)
        elif self._children is not None:
            self._children.look_after(run)

    async def _answer(self, run: ActiveRun, words: Sequence[Word]) -> None:
        if admitted := [word.id for word in words if word.kind == slots.ADMITTED]:
            self._worker.walk(run, (), admitted)  # what it says was asked for when the run was read
            words = [word for word in words if word.kind != slots.ADMITTED]
        if refused := hear_all(self._worker, run, words, self._clock.now):
            await give_back(self._pool, run.lease, refused)

    async def _give_up(self, loaded: Loaded, lease: ShardLease, words: Sequence[Word]) -> None:
        """A run that cannot be folded: words that end it do so as it is, anything else leaves it PARKED."""
        if _ends(words):
            ending = [word for word in words if word.kind in ENDS]  # signals go back to whom they may concern
            created = await self._created(loaded.run_id)
            self._end(loaded, lease, _broken(loaded.problem), ending, created)
            return
        await give_back(self._pool, lease, words)
        row = await runs.get(self._pool, loaded.run_id)
        if row is None or row.state is not RunPhase.PARKED:
            self._park(loaded, lease, _broken(loaded.problem))
        elif admitted := [word.id for word in words if word.kind == slots.ADMITTED]:
            # It keeps the slot until a person ends it, and needs no word about it.
            with suppress(Exhausted, Stopped):
                self._writer.read_again(loaded.run_id, loaded.last_seq + 1)
                self._writer.submit(Submission(lease, loaded.run_id, loaded.last_seq + 1, [], None, admitted))

    async def _created(self, run_id: RunId) -> ev.RunCreated | None:
        """How a run began that is not to be folded: its first event alone; None when that cannot be read."""
        with suppress(ValueError):
            for row in await runs.events(self._pool, run_id, limit=1):
                event = codec.decode(row.payload)
                return event if isinstance(event, ev.RunCreated) else None
        return None

    def _end(
        self,
        loaded: Loaded,
        lease: ShardLease,
        failure: ev.Failure,
        words: Sequence[Word] = (),
        created: ev.RunCreated | None = None,
    ) -> list[asyncio.Future[Recorded]]:
        """Cancels a run as it stands, because it cannot be advanced to its end; who waits for it is told.

        `created`, of one that was not folded: its children are not known then, and go on.
        """
        now = self._clock.now()
        unknown = () if loaded.state is None else tuple(unresolved(loaded.state))
        left = () if loaded.state is None else uncompensated(loaded.state)
        event = ev.RunFinished(
            RunPhase.CANCELED, now, failure=failure, unresolved_effects=unknown, uncompensated=left
        )
        update = RunUpdate(RunPhase.CANCELED, finished_at=now, failure=failure, progressed=False)
        update = replace(update, fingerprint=seen_as(loaded.state, failure))
        if loaded.state is not None:
            said = tells(loaded.state, [event])
        else:
            said = tell_parent(loaded.run_id, created, event) if created is not None else []
        log.error("run_ended", run_id=loaded.run_id, reason=str(failure.reason), message=failure.message)
        return self._write(loaded, lease, event, update, words, said=said)

    def _park(
        self, loaded: Loaded, lease: ShardLease, failure: ev.Failure, words: Sequence[Word] = ()
    ) -> list[asyncio.Future[Recorded]]:
        """Leaves a run to a person."""
        log.error("run_parked", run_id=loaded.run_id, reason=str(failure.reason), message=failure.message)
        seen = seen_as(loaded.state, failure)
        update = RunUpdate(RunPhase.PARKED, failure=failure, fingerprint=seen, progressed=False)
        return self._write(loaded, lease, ev.RunParked(failure, self._clock.now()), update, words)

    def _write(
        self,
        loaded: Loaded,
        lease: ShardLease,
        event: ev.Event,
        update: RunUpdate,
        words: Sequence[Word],
        *,
        said: Sequence[Tell] = (),
    ) -> list[asyncio.Future[Recorded]]:
        """Records one event of a run that is not in memory. If that fails, the run is due as before.

        Returns:
            The commit, if there was room to ask for it.
        """
        self._writer.read_again(loaded.run_id, loaded.last_seq + 1)
        payload, ids = codec.encode(event), [word.id for word in words]
        over = keyed(loaded.state) if loaded.state is not None and update.finished_at is not None else ()
        waits = [WaitRow(path, None, "") for path in over]
        with suppress(Exhausted, Stopped):
            submission = Submission(
                lease, loaded.run_id, loaded.last_seq + 1, [payload], update, ids, said, waits
            )
            future = self._writer.submit(submission)
            future.add_done_callback(partial(metrics.settled, update.state))
            self._writing[loaded.run_id] = future
            future.add_done_callback(partial(self._written, loaded.run_id))
            return [future]
        return []

    def _written(self, run_id: RunId, future: asyncio.Future[Recorded]) -> None:
        if self._writing.get(run_id) is future:
            del self._writing[run_id]

    def _holds(self, lease: ShardLease) -> bool:
        return self._leases.get(lease.shard) == lease

    async def _room(self) -> None:
        """Waits until memory and the writer's queue can take more runs."""
        await self._writer.room()
        while self._worker.full():  # noqa: ASYNC110 - hours of load, not a wait for one thing
            await asyncio.sleep(POLL_SECONDS / 10)


def _quarantined() -> ev.Failure:
    return ev.Failure("INTERNAL", Reason.QUARANTINED, QUARANTINED)


def _broken(problem: str) -> ev.Failure:
    return ev.Failure("INTERNAL", Reason.RUN_BROKEN, problem)


def _ends(words: Sequence[Word]) -> bool:
    return any(word.kind in ENDS for word in words)


def _row_of(state: RunState) -> RunUpdate:
    """What the row of a run in memory says: it is due, in case that it is dropped."""
    return RunUpdate(state.phase, wake_at=state.created.time, progressed=False)
