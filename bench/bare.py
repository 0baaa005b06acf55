"""The bare limit: whatever makes flows durable must do for a step, and nothing else.

For each step one call of the node through the mesh listener of the same Envoy, with the headers that the
orchestrator sends, then one row in a journal of the same PostgreSQL, awaited before the next step. Rows of
all runs that gathered while the former commit was being written go into one statement (`unnest`), as REFLUX
does it. There is no flow, no state, no accept, no ingress.

The call is `Execute`, or an item of an `ExecuteBatch` that takes what was ready when the former one was
answered: the bare limit of a system that shares calls.
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
from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.stack import Stack
    from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceAsyncStub

_INPUT: Final = b'{"value":"a trivial step"}'
_PAYLOAD: Final = bytes(160)
"""As large as the AttemptFinished of a trivial step."""
_SECONDS: Final = 30.0
_MOST: Final = 250
"""Items of a batch, as the orchestrator would send them to a node of 1,000 places."""

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


class Calls:
    """Group calls, in the same way: the next batch is what came until the former one was answered."""

    def __init__(self, stub: NodeServiceAsyncStub) -> None:
        self._stub = stub
        self._gathered: list[tuple[pb.BatchItem, asyncio.Future[None]]] = []
        self._something = asyncio.Event()

    async def call(self, run_id: str, step: str) -> None:
        """Return when the step is answered."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        key = hashlib.sha256(f"{run_id}/{step}/1".encode()).hexdigest()
        item = pb.BatchItem(input=_INPUT, run_id=run_id, step=step, attempt=1, idempotency_key=key)
        self._gathered.append((item, answered))
        self._something.set()
        await answered

    async def send(self) -> None:
        """Send batches until cancelled."""
        while True:
            await self._something.wait()
            batch, self._gathered = self._gathered[:_MOST], self._gathered[_MOST:]
            if not self._gathered:
                self._something.clear()
            request = pb.ExecuteBatchRequest(items=[item for item, _ in batch])
            async for message in self._stub.ExecuteBatch(request, metadata=_shared(), timeout=_SECONDS):
                for result in message.results:
                    if result.output:
                        batch[result.index][1].set_result(None)


class Bare:
    """Runs that nothing but this walks."""

    def __init__(self, stub: NodeServiceAsyncStub, journal: Journal, calls: Calls) -> None:
        self._stub = stub
        self._journal = journal
        self._calls = calls

    async def sequence(self, steps: int) -> None:
        """One run of `steps` steps, one after the other, by unary calls."""
        run_id = uuid.uuid4()
        for seq in range(1, steps + 1):
            await self._unary(run_id, seq)

    async def sequence_batched(self, steps: int) -> None:
        """The same by shared calls."""
        run_id = uuid.uuid4()
        for seq in range(1, steps + 1):
            await self._batched(run_id, seq)

    async def fan(self, steps: int, *, batched: bool, parallel: int = 1_000_000) -> None:
        """One run of `steps` steps, `parallel` at once."""
        run_id = uuid.uuid4()
        places = asyncio.Semaphore(parallel)

        async def one(seq: int) -> None:
            async with places:
                await (self._batched if batched else self._unary)(run_id, seq)

        async with asyncio.TaskGroup() as tasks:
            for seq in range(1, steps + 1):
                tasks.create_task(one(seq))

    async def commit(self) -> None:
        """One row of its own, committed."""
        await self._journal.append((uuid.uuid4(), 1, _PAYLOAD))

    async def _unary(self, run_id: uuid.UUID, seq: int) -> None:
        request = pb.ExecuteRequest(input=_INPUT)
        await self._stub.Execute(request, metadata=_envelope(str(run_id), f"s{seq}"), timeout=_SECONDS)
        await self._journal.append((run_id, seq, _PAYLOAD))

    async def _batched(self, run_id: uuid.UUID, seq: int) -> None:
        await self._calls.call(str(run_id), f"s{seq}")
        await self._journal.append((run_id, seq, _PAYLOAD))


@asynccontextmanager
async def bare_limit(stack: Stack) -> AsyncIterator[Bare]:
    """Make the scratch table, drop it afterwards."""
    connect = psycopg.AsyncConnection.connect(stack.postgres_dsn, autocommit=True)
    async with await connect as connection, rpc.channel(stack.mesh) as channel:
        await connection.execute("DROP SCHEMA IF EXISTS bench CASCADE")
        await connection.execute(_CREATE)
        stub: NodeServiceAsyncStub = NodeServiceStub(channel)
        journal, calls = Journal(connection), Calls(stub)
        async with asyncio.TaskGroup() as tasks:
            going_on = [tasks.create_task(journal.write()), tasks.create_task(calls.send())]
            yield Bare(stub, journal, calls)
            for task in going_on:
                task.cancel()
        await connection.execute("DROP SCHEMA bench CASCADE")


def _shared() -> tuple[tuple[str, str], ...]:
    return (
        ("x-reflux-node", NODE),
        ("x-reflux-lane", "broad"),
        ("x-reflux-draw", str(random.randrange(10_000))),
        ("x-reflux-effect", "pure"),
        ("x-reflux-batch-id", f"{random.getrandbits(64):016x}"),
    )


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
