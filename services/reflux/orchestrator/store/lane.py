"""A lane: one connection that writes what gathered while the former batch was being written.

No timer, no transaction block: a batch is ONE autocommit statement, and the next one takes whatever waits. An
idle lane writes at once; a busy one writes ever larger batches, which is what makes them cheap. It lets the
loop take some turns first, the more the fuller the former batch was, and begins to count anew whenever one of
them brings something: whoever was answered by that batch has then had his say, and a turn is as long as the
loop is busy. The loop is one, so the former batch of the lane `beside` counts, too: a lane that is given less
would never know. Items are written in the order in which they come, or by turns of flows where that order
means nothing (`turn`).

What happens to an item:
- Written, or turned down for a reason of its own (`Write` says which): its future has the answer.
- The statement failed although the database is well: the batch is written again in halves, the earlier one
  first, until the bad item is alone. Only its future gets `RowRefused`.
- The database cannot now (deadlock, full disk, read-only, statement timeout): the same batch again, a few
  times; nothing of it was written. Then the connection counts as broken.
- The server ended the connection while nothing was under way: another connection, nobody notices.
- The connection broke, or the answer did not come: `CommitUnknown` for the batch that was in flight. The
  statement may even still run. What waits in the queue stays there for the next connection, and `Write`
  turns down what must not follow the unknown.

Bounds: items and bytes of a batch, bytes of the queue, seconds of a statement, pauses between connections.
"""

from __future__ import annotations

import asyncio
import random
import select
from collections import deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from reflux.core.errors import Exhausted
from reflux.core.reasons import Reason
from reflux.orchestrator import metrics
from reflux.orchestrator.fairness import FairQueue
from reflux.orchestrator.store import arrays
from reflux.orchestrator.store.errors import CommitUnknown, RowRefused, Stopped
from reflux.runtime.logs import get_logger
from reflux.runtime.postgres import connection_parameters, enter_service
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reflux.orchestrator.fairness import Turn
    from reflux.runtime.postgres import Connection

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

BATCH_ITEMS: Final = 1_000
BATCH_BYTES: Final = 8 << 20
QUEUE_BYTES: Final = 64 << 20
"""More than this is refused; `room` waits for half of it."""
TURNS: Final = 60
"""Of the loop that bring nothing, at most, before a busy lane writes again."""
COMPANY: Final = 5
"""Items beside the first one in the former batch from which on it is as many."""
MOST_TURNS: Final = 400
"""Of the loop, whatever they bring."""
MOST_SECONDS: Final = 0.1
"""For which a busy lane waits: a turn of the loop may be long."""
STATEMENT_SECONDS: Final = 20.0
TRIES: Final = 5
"""Of one batch while the database cannot."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_GUILTY: Final = ("22", "23", "54")
"""SQLSTATE classes that a row brings about: its data, a constraint, a limit of size. Of all others (a
deadlock, a full disk, a right or a table that is missing) no row is guilty, and none may suffer."""

_PLANS: Final = "SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)"
"""A lane's statements are planned once, maybe while tables are empty: never to read whole tables later."""

log = get_logger("store")


class Connect(Protocol):
    """Opens the connection that a lane has for itself."""

    async def __call__(self, dsn: str, name: str) -> Connection:
        """A session of the schema, autocommit, for the lane of that name.

        Raises:
            psycopg.Error, TimeoutError, OSError: the database is away.
        """


async def connect(dsn: str, name: str) -> Connection:
    """A session of PostgreSQL's schema `orchestrator`; see `Connect`."""
    parameters = connection_parameters(f"reflux-orchestrator-{name}")
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, **parameters)  # type: ignore[arg-type]
    try:
        await enter_service(connection, "orchestrator")
        await connection.execute(_PLANS)
    except BaseException:
        await connection.close()
        raise
    arrays.register(connection)
    return connection


@dataclass(slots=True)
class LaneStats:
    """Counters since the lane was made; `seconds` were spent in statements, halves included."""

    batches: int = 0
    items: int = 0
    newest: int = 0
    """Items of the newest batch."""
    refused: int = 0
    repeated: int = 0
    """Statements that were tried again because the database could not."""
    broken: int = 0
    """Batches whose outcome is unknown."""
    seconds: float = 0.0


@dataclass(slots=True)
class _Entry(Generic[ItemT, AnswerT]):
    item: ItemT
    size: int
    future: asyncio.Future[AnswerT] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, answer: AnswerT | Exception) -> None:
        if self.future.done():  # its caller was cancelled
            return
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
            self.future.exception()  # nobody may be waiting any more: not an error of its own
        else:
            self.future.set_result(answer)


class _Broken(Exception):
    """The connection is of no use any more and what it was doing is unknown."""


class Lane(Generic[ItemT, AnswerT]):
    """Groups items into statements. Somebody must `run` it.

    `write(connection, items)` executes one statement and returns one answer or exception per item, in order;
    `rows(item)` says how many rows one is, for the metrics.
    `turn(item)` says whose turn it takes, if items are written by turns.
    `beside` are the counters of another lane of the same loop.
    `refused(item, error)` is told of each bad item before anything after it is written;
    `unknown(items)` of the batch whose outcome nobody knows.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        write: Callable[[Connection, Sequence[ItemT]], Awaitable[Sequence[AnswerT | Exception]]],
        rows: Callable[[ItemT], int] = lambda _: 1,
        refused: Callable[[ItemT], None] = lambda _: None,
        unknown: Callable[[Sequence[ItemT]], None] = lambda _: None,
        turn: Callable[[ItemT], Turn] | None = None,
        beside: LaneStats | None = None,
        connect: Connect = connect,
    ) -> None:
        self.stats = LaneStats()
        self._beside = beside or self.stats
        self._dsn = dsn
        self._connect = connect
        self._name = name
        self._write = write
        self._rows = rows
        self._committed_rows = metrics.COMMIT_ROWS.at(name)
        self._committed_seconds = metrics.COMMIT_DURATION.at(name)
        self._refused = refused
        self._unknown = unknown
        self._queue: deque[_Entry[ItemT, AnswerT]] | FairQueue[_Entry[ItemT, AnswerT]] = (
            deque() if turn is None else FairQueue(lambda entry: turn(entry.item))
        )
        self._bytes = 0
        self._flight: Sequence[_Entry[ItemT, AnswerT]] = ()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False

    def submit(self, item: ItemT, size: int) -> asyncio.Future[AnswerT]:
        """Queue `item` of about `size` bytes; order of submission is order of writing.

        Raises:
            Stopped: the lane is closing.
            Exhausted: the queue is full; whoever waits for `room` before taking on work does not see this.
        """
        if self._closing:
            raise Stopped
        if self._bytes + size > QUEUE_BYTES:
            raise Exhausted(Reason.NOT_ACCEPTING, "more waits to be written than this orchestrator may hold")
        entry: _Entry[ItemT, AnswerT] = _Entry(item, size)
        self._queue.append(entry)
        self._bytes += size
        if self._bytes > QUEUE_BYTES // 2:
            self._room.clear()
        self._work.set()
        return entry.future

    async def room(self) -> None:
        """Wait until less than half of the queue is taken."""
        await self._room.wait()

    def close(self) -> None:
        """Take nothing more; `run` returns when the queue is written."""
        self._closing = True
        self._work.set()

    async def run(self) -> None:
        """Write until closed and empty. Cancelled, it leaves `CommitUnknown` and `Stopped` behind."""
        with metrics.COMMITS_WAITING.watched(lambda: {(self._name,): len(self._queue)}):
            await self._run()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not (self._closing and not self._queue):
                try:
                    connection = await self._connect(self._dsn, self._name)
                    try:
                        pause = _FIRST_PAUSE
                        await self._serve(connection)
                    finally:
                        await connection.close()
                except (_Broken, psycopg.Error, TimeoutError, OSError) as error:
                    self._abandon_flight()
                    log.warning("store_connection_lost", lane=self._name, error=str(error.__cause__ or error))
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._closing = True
            self._abandon_flight()
            while self._queue:
                self._queue.popleft().settle(Stopped())

    async def _serve(self, connection: Connection) -> None:
        for _ in forever():
            if not self._queue:
                if self._closing:
                    return
                self._work.clear()
                await self._work.wait()
                continue
            await self._let_others_speak()
            if _spoken_to(connection):
                raise _Broken("the server ended the connection")
            self._flight = self._gather()
            self.stats.newest = len(self._flight)
            await self._commit(connection, self._flight)
            self._flight = ()

    async def _let_others_speak(self) -> None:
        company = max(self.stats.newest, self._beside.newest) - 1
        patience = left = min(TURNS * company // COMPANY, TURNS)
        loop = asyncio.get_running_loop()
        until = loop.time() + MOST_SECONDS
        for _ in range(MOST_TURNS):
            if left <= 0 or loop.time() > until:
                return
            known = len(self._queue)
            await asyncio.sleep(0)
            left = patience if len(self._queue) > known else left - 1

    def _gather(self) -> list[_Entry[ItemT, AnswerT]]:
        batch: list[_Entry[ItemT, AnswerT]] = []
        size = 0
        while self._queue and len(batch) < BATCH_ITEMS:
            entry = self._queue.popleft()
            if batch and size + entry.size > BATCH_BYTES:
                self._queue.appendleft(entry)
                break
            size += entry.size
            batch.append(entry)
        self._bytes -= size
        if self._bytes <= QUEUE_BYTES // 2:
            self._room.set()
        return batch

    async def _commit(self, connection: Connection, batch: Sequence[_Entry[ItemT, AnswerT]]) -> None:
        try:
            answers = await self._execute(connection, [entry.item for entry in batch])
        except _Broken:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail the others
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._commit(connection, batch[:middle])
                await self._commit(connection, batch[middle:])
                return
            self._refuse(batch[0], error)
            return
        for entry, answer in zip(batch, answers, strict=True):
            entry.settle(answer)

    def _refuse(self, entry: _Entry[ItemT, AnswerT], error: Exception) -> None:
        what = _name(error)
        self.stats.refused += 1
        metrics.COMMIT_FAILURES.at(self._name, "refused").add()
        log.error("store_row_refused", lane=self._name, what=what)
        self._refused(entry.item)
        entry.settle(RowRefused(f"the database refused a write: {what}"))

    async def _execute(self, connection: Connection, items: Sequence[ItemT]) -> Sequence[AnswerT | Exception]:
        """One statement, repeated while the database cannot.

        Raises:
            _Broken: see there.
            Exception: an item is bad; nothing was written.
        """
        for attempt in range(TRIES):
            started = perf_counter()
            try:
                async with asyncio.timeout(STATEMENT_SECONDS):
                    answers = await self._write(connection, items)
            except Exception as error:
                if connection.closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
                    raise _Broken from error
                if isinstance(error, TimeoutError):
                    raise _Broken from error  # cancelled in vain or in time: nobody knows
                if _is_of_a_row(error):
                    raise
                self.stats.repeated += 1
                metrics.COMMIT_FAILURES.at(self._name, "repeated").add()
                log.warning("store_write_repeated", lane=self._name, attempt=attempt + 1, what=_name(error))
                cause: Exception = error
                await asyncio.sleep(_FIRST_PAUSE * 2**attempt)
            else:
                self.stats.batches += 1
                self.stats.items += len(items)
                self._committed_seconds.record(perf_counter() - started)
                self._committed_rows.record(sum(map(self._rows, items)))
                return answers
            finally:
                self.stats.seconds += perf_counter() - started
        raise _Broken from cause

    def _abandon_flight(self) -> None:
        pending = [entry for entry in self._flight if entry.future.cancelled() or not entry.future.done()]
        self._flight = ()
        if not pending:
            return
        self.stats.broken += 1
        metrics.COMMIT_FAILURES.at(self._name, "unknown").add()
        self._unknown([entry.item for entry in pending])
        for entry in pending:
            entry.settle(CommitUnknown())


def _is_of_a_row(error: Exception) -> bool:
    if not isinstance(error, psycopg.Error):
        return True  # it could not even be packed
    if error.sqlstate is None:
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] in _GUILTY


def _name(error: Exception) -> str:
    """Which error, without any value: PostgreSQL's details show the row, which is the user's."""
    if isinstance(error, psycopg.Error):
        return error.diag.constraint_name or error.diag.message_primary or type(error).__name__
    return type(error).__name__


def _spoken_to(connection: Connection) -> bool:
    """Whether the server sent something although nothing was asked: nearly always its goodbye."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
