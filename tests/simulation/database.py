"""Connections to the simulated database: psycopg as far as the store uses it, and all that can go wrong.

A statement leaves, is executed at one instant, and its answer comes back; each of the three takes a moment,
and between them anything may happen to either side:

    before   the connection breaks, nothing was executed
    after    it was executed, and then the connection breaks: nobody is told
    busy     the database says that it cannot now (a deadlock); nothing was executed
    full     … that its disk is full; the connection is fine
    row      … that one event is bad, and says so each time it comes: the others must not suffer
    stall    it is executed much later, also if whoever asked has given up, been killed or lost its lease
    silent   it was executed, and the answer comes much later

A caller that gives up does not take its statement back: it may still be executed.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from psycopg import OperationalError, errors
from psycopg.pq import TransactionStatus

from reflux.orchestrator.store.pool import store_sql
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from tests.simulation.plan import Plan
    from tests.simulation.tables import Row, Tables
    from tests.simulation.world import ProcessLoop, World

STATEMENTS: Final = (
    "create_shards", "count_shards", "join", "heartbeat", "leave", "declare_dead", "take_shards",
    "release_shards", "survey", "write_events", "start_runs", "find_start_keys", "adopt_runs", "find_due",
    "put_word", "get_run", "read_events", "read_journals",
    "find_words", "try_run", "last_seqs", "find_finished", "find_parked", "find_queued", "find_place",
    "keep_outcomes", "drop_outcomes",
)  # fmt: skip
WORDS: Final = (
    "is_waiting", "give_back", "keep_signal", "find_signal", "find_word", "any_to_match", "match_signals",
    "forget_signals",
)  # fmt: skip
"""Of the package `words`."""
TRIGGERS: Final = (
    "find_due_schedules", "settle_schedule", "pass_over", "pause_schedule", "lock_paused_schedule",
    "resume_schedule", "unfinished_runs",
)  # fmt: skip
"""Of the package `triggers`."""
_LOCK: Final = "SELECT pg_advisory_xact_lock(%s)"

_quiet, _held_open = os.pipe()
_spoken, _closed = os.pipe()
os.close(_closed)  # a descriptor that has something to say for ever: the other side is gone


@cache
def _name(statement: str) -> str:
    known = {store_sql(name): name for name in STATEMENTS}
    known |= {load_sql("reflux.orchestrator.words", name): name for name in WORDS}
    known |= {load_sql("reflux.orchestrator.triggers", name): name for name in TRIGGERS}
    known[_LOCK] = "lock"  # type: ignore[index]
    return known[statement]  # type: ignore[index]


@dataclass(slots=True)
class Database:
    """One server, for every process of the world."""

    world: World
    tables: Tables
    plan: Plan
    down_until: float = 0.0
    connections: list[SimConnection] = field(default_factory=list)
    bad: set[tuple[str, bytes]] = field(default_factory=set)
    """Run and payload of the events that the database will never take."""

    def restart(self, seconds: float) -> None:
        """Ends every connection, and takes no new one for a while. What was committed stays."""
        self.down_until = self.world.now + seconds
        for connection in self.connections:
            connection.breaks()
        self.connections.clear()

    async def connect(self, loop: ProcessLoop) -> SimConnection:
        """A connection of a process.

        Raises:
            OperationalError: the database is away.
        """
        future = loop.create_future()
        self.world.after(0.002, _settle, future, None, loop=loop)
        await future
        if self.world.now < self.down_until:
            raise OperationalError("connection refused")
        connection = SimConnection(self, loop)
        self.connections.append(connection)
        return connection


@dataclass(slots=True, eq=False)
class SimPool:
    """A pool of one process: a connection is taken, used, and thrown away when it broke."""

    database: Database
    loop: ProcessLoop
    _free: list[SimConnection] = field(default_factory=list)

    def connection(self) -> _Taken:
        return _Taken(self)

    async def take(self) -> SimConnection:
        """One that was not known to be broken when it was put back, or a new one."""
        connection = None
        while self._free and (connection is None or connection.closed):
            connection = self._free.pop()  # one that broke meanwhile is found out when it is taken
        if connection is None or connection.closed:
            connection = await self.database.connect(self.loop)
        return connection

    def put_back(self, connection: SimConnection) -> None:
        """For the next one, if it still works."""
        if not connection.closed:
            self._free.append(connection)


class _Taken:
    """A connection for as long as a block runs."""

    __slots__ = ("_busy", "_connection", "_pool", "_stops", "_taken")

    def __init__(self, pool: SimPool) -> None:
        self._pool = pool

    async def __aenter__(self) -> SimConnection:
        pool = self._pool
        self._connection = connection = await pool.take()
        self._taken, self._busy = pool.database.world.now, connection.busy
        self._stops = pool.loop.stops
        return connection

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            return  # as it is thrown away: whoever fails in the middle leaves it in no known state
        pool, connection, world = self._pool, self._connection, self._pool.database.world
        idle = world.now - self._taken - (connection.busy - self._busy)
        if idle > HELD_SECONDS and self._stops == pool.loop.stops:
            world.problems.append(f"{pool.loop.name}: a connection was held for {idle:.1f} s")
        pool.put_back(connection)


class SimConnection:
    """One session, and its own cursor: nobody here runs two statements at once on one."""

    def __init__(self, database: Database, loop: ProcessLoop) -> None:
        self.closed = False
        self.busy = 0.0
        """Seconds in statements."""
        self.pgconn = SimpleNamespace(transaction_status=TransactionStatus.IDLE)
        self._database = database
        self._loop = loop
        self._spoken_to = False
        self._future: asyncio.Future[list[Row]] | None = None
        self._rows: list[Row] = []

    def cursor(self, *, binary: bool = False) -> SimConnection:
        return self

    def transaction(self) -> nullcontext[None]:
        """Of a lock and one statement: here that is atomic, and alone, by itself."""
        return nullcontext()

    async def execute(
        self, statement: str, parameters: Any = None, *, prepare: bool | None = None, binary: bool = False
    ) -> SimConnection:
        if self.closed or self._spoken_to:
            self.closed = True
            raise OperationalError("the connection is closed")
        self._future = future = self._loop.create_future()
        self._database_takes(_name(statement), parameters or {}, future)
        asked = self._database.world.now
        try:
            self._rows = await future
        except errors.DatabaseError as error:
            if error.sqlstate is None:
                self.closed = True
            raise
        except BaseException:
            self.closed = True
            raise
        finally:
            self.busy += self._database.world.now - asked
        return self

    def _is_bad(self, parameters: Any, *, more: bool) -> bool:
        """Whether an event of this batch is bad; of `more`, one of them is from now on."""
        bad = self._database.bad
        events = list(zip(parameters["event_runs"], parameters["event_payloads"], strict=True))
        if more and events:
            bad.add(self._database.world.rng.choice(events))
        return bool(bad) and not bad.isdisjoint(events)

    async def fetchall(self) -> list[Row]:
        return self._rows

    async def fetchone(self) -> Row | None:
        return self._rows[0] if self._rows else None

    async def stream(self, statement: str, parameters: Any, *, size: int) -> AsyncIterator[Row]:
        await self.execute(statement, parameters)
        for row in self._rows:
            yield row

    async def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        return _spoken if self._spoken_to else _quiet

    def breaks(self) -> None:
        """The server ends it; whoever waits for an answer hears of it in a moment."""
        self._spoken_to = True
        future = self._future
        if future is not None and not future.done():
            error = OperationalError("server closed the connection unexpectedly")
            self._database.world.after(0.001, _settle, future, error, loop=self._loop)

    # A statement on its way.

    def _is_late(self, name: str, seconds: float) -> None:
        if name in _LOOKS:
            self._loop.is_late(seconds)

    def _database_takes(self, name: str, parameters: Any, future: asyncio.Future[list[Row]]) -> None:
        database, world = self._database, self._database.world
        fault = database.plan.statement(name, self._loop.name)
        if fault:
            world.note("fault", fault, name, self._loop.name)
        there = world.rng.random() * 0.004
        if fault == "stall":
            there += world.rng.uniform(0.5, 9)
            self._is_late(name, there)
        world.after(there, self._executed, name, parameters, future, fault)

    def _executed(self, name: str, parameters: Any, future: asyncio.Future[list[Row]], fault: str) -> None:
        database, world = self._database, self._database.world
        answer: list[Row] | Exception
        if fault == "before" or (self._spoken_to and world.rng.random() < 0.5):
            self._spoken_to = True
            answer = OperationalError("server closed the connection unexpectedly")
        elif fault in _REFUSALS:
            answer = _REFUSALS[fault]("as planned")
        elif name == "write_events" and self._is_bad(parameters, more=fault == "row"):
            answer = errors.DataException("as planned")
        else:
            tables = database.tables
            tables.writer = self._loop.name
            try:
                answer = tables.execute(name, parameters)
            except errors.DatabaseError as error:
                answer = error
            world.note(name, self._loop.name, "" if isinstance(answer, list) else answer)
            if fault == "after":
                self._spoken_to = True
                answer = OperationalError("server closed the connection unexpectedly")
        back = world.rng.random() * 0.004
        if fault == "silent":
            back += world.rng.uniform(0.5, 9)
            self._is_late(name, back)
        world.after(back, _settle, future, answer, loop=self._loop)


_LOOKS: Final = frozenset({"adopt_runs", "find_due", "read_journals"})
"""Statements between the decision to read a run and its being read."""

HELD_SECONDS: Final = 0.5
"""Longest time for which a connection may be out of the pool without a statement of its own."""

_REFUSALS: Final = {
    "busy": errors.DeadlockDetected,
    "full": errors.DiskFull,
}


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
