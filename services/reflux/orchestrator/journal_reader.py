"""Reads journals and folds them: for recovery, for words and timers, and for everybody who looks at a run.

A journal may be long (`MAX_STEP_RUNS` steps, each of several events), and a state large. So:

- Memory holds one state, and of journals `READ_BYTES` or the first page of one run, whichever is more. A page
  is `PAGE_EVENTS`; what it may weigh is bounded by what a run may store (`MAX_RUN_BYTES`).
- Others run after each `SLICE_SECONDS`: a journal of 100,000 events takes seconds to fold, and so does one of
  a hundred where each evaluates what a loop goes through; a heartbeat, or another run, must not wait for it.

There is no snapshot to begin from: reading one takes as long as folding what it stands for (ADR 38).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from reflux.core import event as ev
from reflux.core.errors import Defect, NotFound
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.run import begin, evolve
from reflux.core.state import RunState
from reflux.orchestrator import codec
from reflux.orchestrator.flows.cache import FlowCache
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.runs import JournalRow
from reflux.runtime import logs
from reflux.runtime.postgres import Pool

log = logs.get_logger("journal_reader")

PAGE_BYTES: Final = 2 << 20
"""Of journal in one answer; a single event may be larger."""

PAGE_EVENTS: Final = 500
"""Events read at once of one run that is being folded."""

READ_BYTES: Final = 16 << 20
"""Of the beginnings of several journals read at once; the last one of them may exceed it."""

SLICE_SECONDS: Final = 0.005
"""For so long it is folded without letting others go on; one event may take 50 ms."""

_READ_AT_ONCE: Final = 10
_EVENTS_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run read from its journal; without a state when it cannot be folded, and then with the problem."""

    run_id: RunId
    last_seq: int
    state: RunState | None
    problem: str = ""


class JournalReader:
    """Reads runs with the flow versions they began with."""

    def __init__(self, pool: Pool, flows: FlowCache) -> None:
        self._pool = pool
        self._flows = flows

    async def load(self, run_ids: Sequence[RunId]) -> AsyncGenerator[Loaded]:
        """Every run of `run_ids` that exists, one at a time.

        Raises:
            psycopg.Error: the database is away.
        """
        wanted = deque(run_ids)
        while wanted:
            chunk = sorted(wanted.popleft() for _ in range(min(_READ_AT_ONCE, len(wanted))))
            # Collected before folding, which may need the pool for a flow while the stream holds one of it.
            found, whole = await self._beginnings(chunk)
            if not whole:
                wanted.extendleft(run_id for run_id in chunk if run_id > found[-1][0])
            for run_id, rows in found:
                yield await self._fold(run_id, rows)

    async def _beginnings(
        self, run_ids: Sequence[RunId]
    ) -> tuple[list[tuple[RunId, list[JournalRow]]], bool]:
        """The first pages of some runs, by id, up to about `READ_BYTES`; whether it was all of them.

        What is too much is let go and read again: to stop in the middle would cost another connection.
        """
        found: list[tuple[RunId, list[JournalRow]]] = []
        size = 0
        whole = True
        async for run_id, rows in runs.journals(self._pool, run_ids, limit=PAGE_EVENTS):
            if size >= READ_BYTES:
                whole = False
                continue
            found.append((run_id, rows))
            size += sum(len(row.payload) for row in rows)
        return found, whole

    async def state(self, run_id: RunId) -> RunState:
        """One run, for looking at.

        Raises:
            NotFound: there is no such run.
            Defect: its journal cannot be folded.
            psycopg.Error: the database is away.
        """
        async for loaded in self.load([run_id]):
            if loaded.state is None:
                raise Defect(Reason.RUN_BROKEN, loaded.problem, metadata={"run_id": run_id})
            return loaded.state
        raise NotFound(Reason.RUN_NOT_FOUND, f"there is no run {run_id}", metadata={"run_id": run_id})

    async def page(
        self, run_id: RunId, *, after_seq: int, limit: int
    ) -> tuple[list[tuple[int, datetime, ev.Event]], bool]:
        """A page of a run's events, in order, of at most `limit` and about `PAGE_BYTES`; whether more follow.

        Raises:
            psycopg.Error: the database is away.
            ValueError: an event is of a kind that this version does not know.
        """
        found: list[tuple[int, datetime, ev.Event]] = []
        size = 0
        while True:
            rows = await runs.events(self._pool, run_id, after_seq=after_seq, limit=_EVENTS_AT_ONCE)
            for row in rows:
                if len(found) == limit or (found and size + len(row.payload) > PAGE_BYTES):
                    return found, True
                found.append((row.seq, row.recorded_at, codec.decode(row.payload)))
                size += len(row.payload)
            if len(rows) < _EVENTS_AT_ONCE:
                return found, False
            after_seq = rows[-1].seq

    async def _fold(self, run_id: RunId, rows: list[JournalRow]) -> Loaded:
        """The run whose first page is `rows`; the further pages are read on the way."""
        state: RunState | None = None
        problem = ""
        while True:
            last_seq = rows[-1].seq
            if not problem:
                try:
                    state = await self._go_on(run_id, state, rows)
                except psycopg.Error:
                    raise
                except Exception as error:
                    # A damaged journal may fail anywhere, and stops only itself.
                    log.exception("run_unreadable", run_id=run_id)
                    state, problem = None, f"{type(error).__name__}: {error}"
            if len(rows) < PAGE_EVENTS:
                return Loaded(run_id, last_seq, state, problem)
            # Also when it cannot be folded: what is written about it goes after the last event.
            more = await runs.events(self._pool, run_id, after_seq=last_seq, limit=PAGE_EVENTS)
            if not more:
                return Loaded(run_id, last_seq, state, problem)
            rows = more

    async def _go_on(self, run_id: RunId, state: RunState | None, rows: Sequence[JournalRow]) -> RunState:
        """Folds a page into the state, which is None before the first one.

        Raises:
            Exception: the journal is damaged.
            psycopg.Error: the database is away.
        """
        if state is None:
            created = codec.decode(rows[0].payload)
            if not isinstance(created, ev.RunCreated):
                raise ValueError("the journal does not begin with RunCreated")
            state = begin(run_id, await self._flows.get(created.flow_id, created.flow_version), created)
            rows = rows[1:]
        clock = asyncio.get_running_loop().time
        since = clock()
        for row in rows:
            if clock() - since > SLICE_SECONDS:
                await asyncio.sleep(0)
                since = clock()
            evolve(state, codec.decode(row.payload))
        return state
