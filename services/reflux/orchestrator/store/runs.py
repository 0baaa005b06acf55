"""Reading what is kept of runs: at recovery, for lists, one run, its events.

All but `adopt` only read. A single run's state is the fold of its events; the row is for lists and recovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from reflux.core.event import Failure, RunPhase
from reflux.core.names import FlowId, RunId, StepPath
from reflux.orchestrator.fairness import Turn, in_turns
from reflux.orchestrator.store import arrays
from reflux.orchestrator.store.pool import fetch, store_sql
from reflux.runtime.ids import first_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from psycopg.rows import TupleRow

    from reflux.orchestrator.store.journal import ShardLease
    from reflux.runtime.postgres import Pool

BEFORE_ALL: Final = RunId("00000000-0000-0000-0000-000000000000")
"""Where a walk through runs by age begins."""
_CHUNK_ROWS: Final = 50
MAX_RECOVERIES: Final = 5
"""Deaths of its owner without progress after which a run is quarantined."""
_SLACK: Final = timedelta(seconds=1)
"""An id's time and `created_at` are told apart by rounding at most."""


class Adopted(NamedTuple):
    """A run that the new owner of its shard will look at."""

    run_id: RunId
    recoveries: int
    """Deaths of its owner since it last made progress, this one included."""
    turn: Turn
    """In whose turn it is taken up."""
    due: bool
    """It belongs in memory now; otherwise it is taken up for a word, or when its time comes."""


class JournalRow(NamedTuple):
    """One recorded event."""

    seq: int
    recorded_at: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as lists show it."""

    run_id: RunId
    shard: int
    flow_id: FlowId
    flow_name: str
    flow_version: int
    state: RunPhase
    actor: str
    created_at: datetime
    finished_at: datetime | None
    wake_at: datetime | None
    recoveries: int
    failure: Failure | None
    fingerprint: str | None = None
    search_key: str | None = None
    trigger: str | None = None
    origin: RunId | None = None
    operation: str | None = None
    test: bool = False


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows; `None` does not filter."""

    flow_id: FlowId | None = None
    states: tuple[RunPhase, ...] | None = None
    fingerprint: str | None = None
    key: str | None = None
    trigger: str | None = None
    origin: RunId | None = None
    test: bool | None = None
    created_from: datetime | None = None
    """Included."""
    created_before: datetime | None = None
    """Excluded."""


async def adopt(
    pool: Pool,
    lease: ShardLease,
    *,
    died: bool,
    after: RunId = BEFORE_ALL,
    page_size: int = 2_000,
    most: int = MAX_RECOVERIES,
) -> AsyncIterator[list[Adopted]]:
    """Pages of the shard's runs that its owner will look at, be it for a word; others rest or wait.

    The pages are by age, and within a page flows take turns.

    `died`: the shard comes from an owner that died, which counts as a recovery of each. Who was interrupted
    goes on `after` the newest run that it has heard of: what it has heard is counted. Nothing is yielded of
    a shard that is not held any more. Less than `most` are counted here, see `try_run`.
    """
    while True:
        rows = await fetch(
            pool,
            "adopt_runs",
            {
                "shard": lease.shard,
                "token": lease.token,
                "died": died,
                "most": most,
                "after": after,
                "limit": page_size,
            },
        )
        page = [
            Adopted(RunId(str(run_id)), recoveries, Turn(str(flow_id), priority), due)
            for run_id, recoveries, flow_id, priority, due in rows
        ]
        if page:
            after = page[-1].run_id
            yield in_turns(page, lambda one: one.turn)
        if len(page) < page_size:
            return


async def try_run(pool: Pool, lease: ShardLease, run_id: RunId, *, most: int = MAX_RECOVERIES) -> None:
    """Says, before a run is taken up, that its owner's next death counts as the last one of `most`."""
    place = {"shard": lease.shard, "token": lease.token, "run_id": run_id, "most": most}
    await fetch(pool, "try_run", place)


async def journals(
    pool: Pool, run_ids: Sequence[RunId], *, limit: int
) -> AsyncIterator[tuple[RunId, list[JournalRow]]]:
    """The first `limit` events of each run, one run at a time, ordered by id; nothing for a run without.

    One statement, read as fast as the caller takes it: memory holds the events of one run and a few rows.
    The connection is held meanwhile, so the caller does nothing else in between.
    """
    current: RunId | None = None
    rows: list[JournalRow] = []
    async with pool.connection() as connection:
        cursor = connection.cursor(binary=True)
        arrays.register(cursor)
        statement = cursor.stream(
            store_sql("read_journals"), {"run_ids": arrays.uuids(run_ids), "limit": limit}, size=_CHUNK_ROWS
        )
        async for run, seq, recorded_at, payload in statement:
            run_id = RunId(str(run))
            if current is not None and run_id != current:
                yield current, rows
                rows = []
            current = run_id
            rows.append(JournalRow(seq, recorded_at, payload))
    if current is not None:
        yield current, rows


async def last_seqs(pool: Pool, run_ids: Sequence[RunId]) -> dict[RunId, int]:
    """The last event's seq of each run that has a journal."""
    rows = await fetch(pool, "last_seqs", {"run_ids": arrays.uuids(run_ids)})
    return {RunId(str(run_id)): seq for run_id, seq in rows}


async def get(pool: Pool, run_id: RunId) -> RunRow | None:
    """One run's row."""
    rows = await fetch(pool, "get_run", {"run_id": run_id})
    return _row(rows[0]) if rows else None


async def finished_among(pool: Pool, run_ids: Sequence[RunId]) -> list[RunId]:
    """Those of some runs that have finished."""
    rows = await fetch(pool, "find_finished", {"runs": list(run_ids)})
    return [RunId(row[0]) for row in rows]


async def parked_among(pool: Pool, run_ids: Sequence[RunId]) -> frozenset[RunId]:
    """Those of some runs that wait for a person."""
    rows = await fetch(pool, "find_parked", {"runs": list(run_ids)})
    return frozenset(RunId(row[0]) for row in rows)


async def list_page(
    pool: Pool, which: RunFilter, *, limit: int, older_than: RunId | None = None
) -> list[RunRow]:
    """At most `limit` runs, newest first; the next page is `older_than` the last one's id."""
    parameters = {**_parameters(which), "older_than": older_than, "limit": limit}
    return [_row(row) for row in await fetch(pool, "list_runs", parameters, prepare=False)]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Runs whose failures are the same."""

    fingerprint: str
    count: int
    first_at: datetime
    """When the first of them was created."""
    newest: RunRow


async def list_failures(pool: Pool, which: RunFilter, *, limit: int, after: str = "") -> list[FailureGroup]:
    """At most `limit` groups, by fingerprint after `after`; of `which` only the flow and the times count."""
    parameters = {**_parameters(which), "after": after, "limit": limit}
    rows = await fetch(pool, "list_failures", parameters, prepare=False)
    return [FailureGroup(row[0], row[1], row[2], _row(row[3:])) for row in rows]


async def count(pool: Pool, which: RunFilter, *, limit: int) -> int:
    """How many runs match, or `limit` when there are as many."""
    parameters = {**_parameters(which), "limit": limit}
    rows = await fetch(pool, "count_runs", parameters, prepare=False)
    return int(rows[0][0])


def _parameters(which: RunFilter) -> dict[str, object]:
    states = which.states or ()
    return {
        "flow_id": which.flow_id,
        # Of one state the pages come out of its index in order; of several they are sorted.
        "state": states[0] if len(states) == 1 else None,
        "states": list(states) if len(states) > 1 else None,
        "fingerprint": which.fingerprint,
        "key": which.key,
        "trigger": which.trigger,
        "origin": which.origin,
        "test": which.test,
        "created_from": which.created_from,
        "first_id": which.created_from and first_id(which.created_from, -_SLACK),
        "created_before": which.created_before,
        "last_id": which.created_before and first_id(which.created_before, _SLACK),
    }


async def events(pool: Pool, run_id: RunId, *, after_seq: int = 0, limit: int = 1000) -> list[JournalRow]:
    """At most `limit` events of a run, after `after_seq`, in order."""
    rows = await fetch(pool, "read_events", {"run_id": run_id, "after": after_seq, "limit": limit})
    return [JournalRow(*row) for row in rows]


def _row(row: TupleRow) -> RunRow:
    run_id, shard, flow_id, flow_name, flow_version, state, actor, created_at, finished_at, wake_at, *rest = (
        row
    )
    recoveries, code, reason, message, step, fingerprint, key, trigger, origin, operation, test = rest
    failure = None if code is None else Failure(code, reason, message, step=StepPath(step or ""))
    return RunRow(
        run_id=RunId(str(run_id)),
        shard=shard,
        flow_id=FlowId(str(flow_id)),
        flow_name=flow_name,
        flow_version=flow_version,
        state=RunPhase(state),
        actor=actor,
        created_at=created_at,
        finished_at=finished_at,
        wake_at=wake_at,
        recoveries=recoveries,
        failure=failure,
        fingerprint=fingerprint,
        search_key=key,
        trigger=trigger,
        origin=None if origin is None else RunId(str(origin)),
        operation=operation,
        test=test,
    )
