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

from reflux.core.errors import AlreadyExists, Exhausted
from reflux.core.flow.limits import NO_CLAIM
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.orchestrator.fairness import Turn
from reflux.orchestrator.store import arrays, slots
from reflux.orchestrator.store.errors import ShardLost, Undecided
from reflux.orchestrator.store.lane import Connect, Lane, LaneStats, connect
from reflux.orchestrator.store.pool import fetch, forget_in_pages
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg.rows import TupleRow

    from reflux.core.flow.limits import Claim
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
    search_key: str | None = None
    trigger: str | None = None
    """Id of the trigger that starts it."""
    origin: RunId | None = None
    """The run it goes on from."""
    operation: str | None = None
    """What makes it; None: it is just started."""
    test: bool = False
    """It is a test, or comes of one."""
    claim: Claim = NO_CLAIM
    """What it asks for before it may begin."""
    queued_tail: bytes = b""
    """Appended to `payload` if it has to wait for that."""

    @property
    def limited(self) -> bool:
        """Whether its flow has a limit of any kind."""
        return self.claim.slot is not None or self.claim.rate is not None

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
    queued: bool = False
    """It waits for a limit of its flow: nobody walks it before it is admitted."""


class Starter:
    """Begins runs in groups, fuller ones while the lane `beside` is busy. Somebody must `run` it."""

    def __init__(self, dsn: str, *, beside: LaneStats | None = None, connect: Connect = connect) -> None:
        self._lane: Lane[StartRequest, Started] = Lane(
            dsn,
            name="start",
            write=_write,
            turn=lambda request: Turn(request.flow_id, request.claim.priority),
            beside=beside,
            connect=connect,
        )

    @property
    def stats(self) -> LaneStats:
        """Counters for metrics."""
        return self._lane.stats

    def submit(self, request: StartRequest) -> asyncio.Future[Started]:
        """Queue it.

        The future raises:
            AlreadyExists: the request_id was used for something else.
            Exhausted: a limit of the flow refuses the run (CONCURRENCY_LIMIT, RATE_LIMIT).
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
    return (await find_all_started(pool, scope, [request_id])).get(request_id)


async def find_all_started(pool: Pool, scope: str, request_ids: Sequence[str]) -> dict[str, Known]:
    """The runs that handles of one scope have started, by request id; those that have started none are not in
    it.
    """
    found = _read(await fetch(pool, "find_start_keys", _handles([(scope, each) for each in request_ids])))
    return {each: found[scope, each] for each in request_ids if (scope, each) in found}


async def take_handle(pool: Pool, scope: str, request_id: str, id_: RunId, body_digest: bytes) -> None:
    """Makes a handle stand for this id, which is no run's, unless it stands for something already.

    Args:
        pool: of the database.
        scope: within which `request_id` is unique.
        request_id: the sender's.
        id_: what `find_started` gives from now on.
        body_digest: of everything that must be equal for the same `request_id`.

    Raises:
        psycopg.Error: the database is away.
    """
    await fetch(pool, "take_handle", {"scope": scope, "key": request_id, "id": id_, "digest": body_digest})


async def forget_expired(pool: Pool) -> int:
    """Delete the expired handles, page by page; to be called now and then, by any orchestrator.

    Raises:
        psycopg.Error: the database is away.
    """
    return await forget_in_pages(pool, "forget_start_keys", _FORGET_AT_ONCE)


async def _write(connection: Connection, requests: Sequence[StartRequest]) -> Sequence[Started | Exception]:
    """Equal handles within one batch: the first is inserted, the others find it like any loser."""
    leaders = list({request.handle or request.run_id: request for request in reversed(requests)}.values())
    held, begun, refused = await _insert(connection, leaders)
    answers: dict[RunId, Started | Exception] = {
        request.run_id: ShardLost(request.lease.shard) for request in leaders if request.lease not in held
    }
    answers |= refused
    answers |= {started.run_id: started for started in begun}
    losers = [request for request in requests if request.run_id not in answers]
    if losers:
        answers |= await _find(connection, losers)
    return [answers[request.run_id] for request in requests]


async def _insert(
    connection: Connection, requests: Sequence[StartRequest]
) -> tuple[set[ShardLease], list[Started], dict[RunId, Exhausted]]:
    """The leases that are held, the runs that were begun, and those that a limit refused."""
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
            "priorities": arrays.int4s([one.claim.priority for one in requests]),
            "queued_tails": arrays.blobs([one.queued_tail for one in requests if one.limited]),
            **slots.claim_columns([(one.run_id, one.claim) for one in requests if one.limited]),
            "search_keys": arrays.texts([one.search_key for one in requests]),
            "triggers": arrays.texts([one.trigger for one in requests]),
            "origins": arrays.uuids([one.origin for one in requests]),
            "operations": arrays.texts([one.operation for one in requests]),
            "tests": arrays.bools([one.test for one in requests]),
        },
        prepare=True,
        binary=True,
    )
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.DataError("the statement answered nothing")
    held, begun, now, *verdicts = row
    judged = {RunId(str(run_id)): (verdict, at) for run_id, verdict, at in zip(*verdicts, strict=True)}
    asked = {one.run_id: one for one in requests} if judged else {}
    refused = {
        run_id: slots.refused(verdict, asked[run_id].flow_name, asked[run_id].claim, at, now)
        for run_id, (verdict, at) in judged.items()
        if verdict not in ("begin", "queue")
    }
    started = [
        Started(run_id, created=True, recorded_at=now, queued=judged.get(run_id, ("begin",))[0] == "queue")
        for run_id in (RunId(str(each)) for each in begun)
    ]
    return {leases[place - 1] for place in held}, started, refused


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
