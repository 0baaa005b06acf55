"""Starting runs: durable before the run id is given out, and once per start-once handle.

A handle is (scope, request_id), kept for 7 days with the digest of what was asked. The first one to insert it
wins, on whichever orchestrator; the others answer with the winner's run, or are refused if they ask for
something else. A lane of its own: a new run waits for no journal batch, and for at most one of its own kind.

A run that began although nobody heard of it (the caller hung up, `CommitUnknown`) is not lost: it is due 5 s
later, so the poll of the shard's owner finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.core.errors import AlreadyExists
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.orchestrator.store import arrays
from reflux.orchestrator.store.errors import ShardLost, Undecided
from reflux.orchestrator.store.lane import Connect, Lane, LaneStats, connect
from reflux.orchestrator.store.pool import fetch
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg.rows import TupleRow

    from reflux.core.names import FlowId
    from reflux.orchestrator.store.journal import ShardLease
    from reflux.runtime.postgres import Connection, Pool

_ROW_BYTES: Final = 500
_FORGET_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A run to begin in a shard that this orchestrator owns."""

    lease: ShardLease
    run_id: RunId
    """UUIDv7; of no meaning if the handle already has a run."""
    flow_id: FlowId
    flow_name: str
    flow_version: int
    actor: str
    created_at: datetime
    """The time in `run_id`, by the database's clock."""
    payload: bytes
    """Event 1."""
    scope: str = ""
    """Within which `request_id` is unique."""
    request_id: str | None = None
    body_digest: bytes = b""
    """Of everything that must be equal for the same `request_id`."""

    @property
    def handle(self) -> tuple[str, str] | None:
        """What may be started once only; `None`: no such thing was asked for."""
        return None if self.request_id is None else (self.scope, self.request_id)


@dataclass(frozen=True, slots=True)
class Started:
    """The run that this request has, durable."""

    run_id: RunId
    created: bool
    """Whether it began now: its events are then this orchestrator's to write from 2 on."""
    recorded_at: datetime | None
    """Of event 1, if created."""


class Starter:
    """Begins runs in groups. Somebody must `run` it."""

    def __init__(self, dsn: str, *, connect: Connect = connect) -> None:
        self._lane: Lane[StartRequest, Started] = Lane(dsn, name="start", write=_write, connect=connect)

    @property
    def stats(self) -> LaneStats:
        """Counters for metrics."""
        return self._lane.stats

    def submit(self, request: StartRequest) -> asyncio.Future[Started]:
        """Queue it.

        The future raises:
            AlreadyExists: the request_id was used for something else.
            ShardLost, Undecided, CommitUnknown, RowRefused, Stopped: see `store.errors`.

        Raises:
            Exhausted: the queue is full.
            Stopped: the starter is closing.
        """
        return self._lane.submit(request, len(request.payload) + _ROW_BYTES)

    async def start(self, request: StartRequest) -> Started:
        """Begin the run, or learn which one has its handle.

        Raises:
            RefluxError: what `submit` and its future raise.
        """
        return await self.submit(request)

    def close(self) -> None:
        """Take no more; `run` returns when everything is written."""
        self._lane.close()

    async def run(self) -> None:
        """Write until closed, over any number of connections."""
        await self._lane.run()


@dataclass(frozen=True, slots=True)
class Known:
    """What a handle stands for."""

    run_id: RunId
    body_digest: bytes


async def find_started(pool: Pool, scope: str, request_id: str) -> Known | None:
    """The run that a handle has started, or None."""
    rows = await fetch(pool, "find_start_keys", _handles([(scope, request_id)]))
    return _read(rows).get((scope, request_id))


async def forget_expired(pool: Pool) -> int:
    """Delete up to 10,000 expired handles; to be called now and then, by any orchestrator."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            load_sql("reflux.orchestrator.store", "forget_start_keys"), {"limit": _FORGET_AT_ONCE}
        )
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def _write(connection: Connection, requests: Sequence[StartRequest]) -> Sequence[Started | Exception]:
    """Equal handles within one batch: the first is inserted, the others find it like any loser."""
    leaders = list({request.handle or request.run_id: request for request in reversed(requests)}.values())
    held, begun = await _insert(connection, leaders)
    answers: dict[RunId, Started | Exception] = {
        request.run_id: ShardLost(request.lease.shard) for request in leaders if request.lease not in held
    }
    answers |= {run_id: Started(run_id, created=True, recorded_at=at) for run_id, at in begun.items()}
    losers = [request for request in requests if request.run_id not in answers]
    if losers:
        answers |= await _find(connection, losers)
    return [answers[request.run_id] for request in requests]


async def _insert(
    connection: Connection, requests: Sequence[StartRequest]
) -> tuple[set[ShardLease], dict[RunId, datetime]]:
    """The leases that are held, and the runs that were begun with their time."""
    places = {lease: place for place, lease in enumerate(dict.fromkeys(one.lease for one in requests), 1)}
    leases = list(places)
    cursor = await connection.execute(
        load_sql("reflux.orchestrator.store", "start_runs"),
        {
            "shards": arrays.int4s([lease.shard for lease in leases]),
            "tokens": arrays.int8s([lease.token for lease in leases]),
            "leases": arrays.int8s([places[one.lease] for one in requests]),
            "run_ids": arrays.uuids([one.run_id for one in requests]),
            "scopes": arrays.texts([one.scope for one in requests]),
            "keys": arrays.texts([one.request_id for one in requests]),
            "digests": arrays.blobs([one.body_digest for one in requests]),
            "flow_ids": arrays.uuids([one.flow_id for one in requests]),
            "flow_names": arrays.texts([one.flow_name for one in requests]),
            "flow_versions": arrays.int4s([one.flow_version for one in requests]),
            "actors": arrays.texts([one.actor for one in requests]),
            "created": arrays.times([one.created_at for one in requests]),
            "payloads": arrays.blobs([one.payload for one in requests]),
        },
        prepare=True,
        binary=True,
    )
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.DataError("the statement answered nothing")
    held, begun, now = row
    return {leases[place - 1] for place in held}, {RunId(str(run_id)): now for run_id in begun}


async def _find(
    connection: Connection, losers: Sequence[StartRequest]
) -> Mapping[RunId, Started | Exception]:
    """What the losers of their handles answer. The batch is committed: nothing here may repeat it."""
    try:
        known = await _known(connection, [(one.scope, one.request_id) for one in losers])
    except psycopg.Error:
        if connection.closed:
            raise
        known = {}
    return {one.run_id: _answer(one, known.get((one.scope, one.request_id))) for one in losers}


async def _known(
    connection: Connection, handles: Sequence[tuple[str, str | None]]
) -> dict[tuple[str, str | None], Known]:
    cursor = await connection.execute(
        load_sql("reflux.orchestrator.store", "find_start_keys"),
        _handles(handles),
        prepare=True,
        binary=True,
    )
    return _read(await cursor.fetchall())


def _handles(handles: Sequence[tuple[str, str | None]]) -> dict[str, object]:
    return {
        "scopes": arrays.texts([scope for scope, _ in handles]),
        "keys": arrays.texts([key for _, key in handles]),
    }


def _read(rows: Sequence[TupleRow]) -> dict[tuple[str, str | None], Known]:
    return {(scope, key): Known(RunId(str(run_id)), digest) for scope, key, run_id, digest in rows}


def _answer(loser: StartRequest, winner: Known | None) -> Started | Exception:
    if winner is None:  # it has just expired, or its batch-mate had lost the shard
        return Undecided()
    if winner.body_digest != loser.body_digest:
        return AlreadyExists(
            Reason.REQUEST_ID_REUSED,
            "this request_id was used within 7 days for something else: use another one",
            metadata={"request_id": loser.request_id or "", "run_id": winner.run_id},
        )
    return Started(winner.run_id, created=False, recorded_at=None)
