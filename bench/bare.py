"""The bare limit: whatever makes flows durable must do for a step, and nothing else.

For each step one `NodeService.Execute` through the mesh listener of the same Envoy, with the headers that
the orchestrator sends, then one row in a journal of the same PostgreSQL, awaited before the next step. Rows
of all runs that gathered while the former commit was being written go into one statement (`unnest`), as
REFLUX does it. There is no flow, no state, no accept, no ingress.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from bench.echo import NODE
from reflux.api.node.v1.node_service_pb2 import ExecuteRequest
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.stack import Stack
    from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceAsyncStub

_REQUEST: Final = ExecuteRequest(input=b'{"value":"a trivial step"}')
_PAYLOAD: Final = bytes(160)
"""As large as the AttemptFinished of a trivial step."""
_SECONDS: Final = 30.0

_CREATE: Final = """
CREATE SCHEMA bench
CREATE TABLE journal (
    run_id uuid, seq int, time timestamptz NOT NULL DEFAULT clock_timestamp(), payload bytea NOT NULL,
    PRIMARY KEY (run_id, seq))
"""
_INSERT: Final = """
INSERT INTO bench.journal (run_id, seq, payload)
SELECT * FROM unnest(%s::uuid[], %s::int[], %s::bytea[])
"""

Row = tuple[uuid.UUID, int, bytes]


class Journal:
    """Group commit on one connection: no timer, the next batch is what came during the former one."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self._connection = connection
        self._gathered: list[tuple[Row, asyncio.Future[None]]] = []
        self._something = asyncio.Event()

    async def append(self, row: Row) -> None:
        """Return when `row` is committed."""
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathered.append((row, committed))
        self._something.set()
        await committed

    async def write(self) -> None:
        """Commit batches until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            batch, self._gathered = self._gathered, []
            await self._connection.execute(
                _INSERT, [list(column) for column in zip(*(r for r, _ in batch), strict=True)]
            )
            for _, committed in batch:
                if not committed.done():
                    committed.set_result(None)


class Bare:
    """Runs that nothing but this walks."""

    def __init__(self, stub: NodeServiceAsyncStub, journal: Journal) -> None:
        self._stub = stub
        self._journal = journal

    async def run(self, steps: int) -> None:
        """One run of `steps` steps, one after the other."""
        run_id = uuid.uuid4()
        for seq in range(1, steps + 1):
            await self._stub.Execute(_REQUEST, metadata=_envelope(str(run_id), f"s{seq}"), timeout=_SECONDS)
            await self._journal.append((run_id, seq, _PAYLOAD))


@asynccontextmanager
async def bare_limit(stack: Stack) -> AsyncIterator[Bare]:
    """Make the scratch table, drop it afterwards."""
    connect = psycopg.AsyncConnection.connect(stack.postgres_dsn, autocommit=True)
    async with await connect as connection, rpc.channel(stack.mesh) as channel:
        await connection.execute("DROP SCHEMA IF EXISTS bench CASCADE")
        await connection.execute(_CREATE)
        journal = Journal(connection)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(journal.write())
            yield Bare(NodeServiceStub(channel), journal)
            writing.cancel()
        await connection.execute("DROP SCHEMA bench CASCADE")


def _envelope(run_id: str, step: str) -> tuple[tuple[str, str], ...]:
    return (
        ("x-reflux-node", NODE),
        ("x-reflux-lane", "broad"),
        ("x-reflux-draw", str(random.randrange(10_000))),
        ("x-reflux-run-id", run_id),
        ("x-reflux-step", step),
        ("x-reflux-attempt", "1"),
        ("x-reflux-fencing-token", "1"),
        ("x-reflux-effect", "pure"),
        ("x-reflux-idempotency-key", hashlib.sha256(f"{run_id}/{step}/1".encode()).hexdigest()),
    )
