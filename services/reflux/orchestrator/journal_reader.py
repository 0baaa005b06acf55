"""Reads journals and folds them: for recovery, for words and timers, and for everybody who looks at a run."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from reflux.core import event as ev
from reflux.core.errors import Defect, NotFound
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.run import fold
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
        for start in range(0, len(run_ids), _READ_AT_ONCE):
            # Collected before folding, which may need the pool for a flow while the stream holds one of it.
            chunk = [read async for read in runs.journals(self._pool, run_ids[start : start + _READ_AT_ONCE])]
            for run_id, rows in chunk:
                yield await self._fold(run_id, rows)

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

    async def _fold(self, run_id: RunId, rows: Sequence[JournalRow]) -> Loaded:
        last_seq = rows[-1].seq
        try:
            events = [codec.decode(row.payload) for row in rows]
            created = events[0]
            if not isinstance(created, ev.RunCreated):
                raise ValueError("the journal does not begin with RunCreated")  # noqa: TRY301, TRY004
            flow = await self._flows.get(created.flow_id, created.flow_version)
            return Loaded(run_id, last_seq, fold(run_id, flow, events))
        except psycopg.Error:
            raise
        except Exception as error:
            # A damaged journal may fail anywhere, and stops only itself.
            log.exception("run_unreadable", run_id=run_id)
            return Loaded(run_id, last_seq, None, f"{type(error).__name__}: {error}")
