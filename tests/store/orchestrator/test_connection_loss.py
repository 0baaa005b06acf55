"""A connection that breaks under a write: nobody is told what nobody knows, and the lane comes back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reflux.orchestrator.store.errors import CommitUnknown
from reflux.orchestrator.store.journal import Recorded, Submission, Writer
from reflux.orchestrator.store.start import Starter
from tests.store.orchestrator.support import Desk, request, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JOURNAL = "reflux-orchestrator-journal"
START = "reflux-orchestrator-start"


@asynccontextmanager
async def _held_up(desk: Desk, shard: int) -> AsyncIterator[None]:
    """Inside the block every write to `shard` waits for a lock."""
    async with desk.session() as session:
        await session.execute("BEGIN")
        await session.execute("SELECT FROM shards WHERE id = %s FOR UPDATE", (shard,))
        yield
        await session.execute("ROLLBACK")


async def test_a_batch_whose_connection_breaks_has_an_unknown_outcome(desk: Desk) -> None:
    """What was in flight gets `CommitUnknown`; another shard's events that waited behind it are written."""
    [lease, other, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    [spared] = await desk.start(other)
    writer = Writer(desk.dsn)
    async with running(writer):
        async with _held_up(desk, lease.shard):
            unknown = writer.submit(Submission(lease, run_id, 2, [b"in flight"]))
            await until(lambda: desk.waiting(JOURNAL))
            waiting = writer.submit(Submission(other, spared, 2, [b"waits"]))
            await desk.terminate(JOURNAL)
            answers = await asyncio.gather(unknown, return_exceptions=True)
        assert [type(answer) for answer in answers] == [CommitUnknown]
        assert isinstance(await asyncio.wait_for(waiting, 10), Recorded)
        assert writer.stats.broken == 1


async def test_nothing_follows_an_unknown_outcome_under_the_same_token(desk: Desk) -> None:
    """The next event of such a run could leave a gap: it is refused unsent until the shard is held anew."""
    membership, member, [lease, *_] = await desk.member()
    [run_id] = await desk.start(lease)
    writer = Writer(desk.dsn)
    async with running(writer):
        async with _held_up(desk, lease.shard):
            first = writer.submit(Submission(lease, run_id, 2, [b"unknown"]))
            await until(lambda: desk.waiting(JOURNAL))
            second = writer.submit(Submission(lease, run_id, 3, [b"behind it"]))
            await desk.terminate(JOURNAL)
            answers = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(answer) for answer in answers] == [CommitUnknown, CommitUnknown]
        await membership.release(member, [lease.shard])
        anew = next(one.lease for one in await membership.take(member, 4))
        assert isinstance(await writer.submit(Submission(anew, run_id, 2, [b"read anew"])), Recorded)
    assert await desk.seqs(run_id) == [1, 2]


async def test_an_idle_connection_that_was_ended_costs_nobody_a_write(desk: Desk) -> None:
    """After a restart of the database an idle lane opens another connection before it sends anything."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    writer = Writer(desk.dsn)
    async with running(writer):
        for seq in (2, 3, 4):
            answer = await asyncio.wait_for(writer.submit(Submission(lease, run_id, seq, [b"event"])), 10)
            assert isinstance(answer, Recorded)
            await desk.terminate(JOURNAL)
    assert writer.stats.broken == 0


async def test_a_statement_that_the_database_gave_up_is_repeated_whole(desk: Desk) -> None:
    """A timeout, a deadlock or want of resources is no row's fault: nobody is refused, all are written."""
    [lease, *_] = await desk.leases()
    run_ids = await desk.start(lease, 5)
    writer = Writer(desk.dsn)
    async with running(writer):
        async with _held_up(desk, lease.shard):
            futures = [writer.submit(Submission(lease, run_id, 2, [b"event"])) for run_id in run_ids]
            await until(lambda: desk.waiting(JOURNAL))
            await desk.cancel(JOURNAL)
        answers = await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert all(isinstance(answer, Recorded) for answer in answers)
    assert writer.stats.refused == 0


async def test_a_fault_of_the_database_is_no_run_s_fault(desk: Desk) -> None:
    """With a table or a right missing nothing can be written: no run may be parked for that."""
    [lease, *_] = await desk.leases()
    run_ids = await desk.start(lease, 5)
    writer = Writer(desk.dsn)
    async with running(writer):
        await desk.act("ALTER TABLE inbox RENAME TO inbox_away")
        futures = [writer.submit(Submission(lease, run_id, 2, [b"event"])) for run_id in run_ids]
        await until(lambda: writer.stats.repeated > 0)
        await desk.act("ALTER TABLE inbox_away RENAME TO inbox")
        answers = await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert all(isinstance(answer, Recorded) for answer in answers)
    assert writer.stats.refused == 0


async def test_a_start_whose_connection_breaks_can_be_asked_again(desk: Desk) -> None:
    """The caller is told that nobody knows; the same request_id then has one run, whatever had happened."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        async with _held_up(desk, lease.shard):
            future = starter.submit(request(lease, request_id="r"))
            await until(lambda: desk.waiting(START))
            await desk.terminate(START)
            [answer] = await asyncio.gather(future, return_exceptions=True)
        assert isinstance(answer, CommitUnknown)
        first = await asyncio.wait_for(starter.start(request(lease, request_id="r")), 10)
        again = await starter.start(request(lease, request_id="r"))
    assert again.run_id == first.run_id
    assert await desk.rows("SELECT count(*) FROM runs") == [(1,)]
