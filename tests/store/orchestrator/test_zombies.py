"""Zombies: whoever lost a shard changes nothing any more, and stands in nobody's way."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reflux.core.event import RunPhase
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.errors import ShardLost
from reflux.orchestrator.store.journal import Recorded, RunUpdate, ShardLease, Submission
from tests.store.orchestrator.support import Desk, until

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

JOURNAL = "reflux-orchestrator-journal"
POOL = "reflux-orchestrator"

_WRITE_FOR_EVER = """
import asyncio, sys
from reflux.orchestrator.store.journal import ShardLease, Submission, Writer

async def main(dsn, shard, token, run_id):
    writer = Writer(dsn)
    task = asyncio.create_task(writer.run())
    seq = 2
    while True:
        await writer.submit(Submission(ShardLease(int(shard), int(token)), run_id, seq, [b"event"] * 20))
        seq += 20

asyncio.run(main(*sys.argv[1:]))
"""


async def test_rows_of_a_zombie_drop_out_after_takeover(desk: Desk) -> None:
    """Nothing under an old token changes anything; what stands beside it in the batch does."""
    membership, _, [lost, kept, *_] = await desk.member()
    [orphan] = await desk.start(lost)
    [safe] = await desk.start(kept)
    heir = await desk.newcomer()
    await membership.release((await desk.rows("SELECT owner::text FROM shards LIMIT 1"))[0][0], [lost.shard])
    [taken] = await membership.take(heir, 1)
    answers = await desk.write(
        Submission(lost, orphan, 2, [b"zombie"], RunUpdate(RunPhase.PARKED)),
        Submission(kept, safe, 2, [b"event"], RunUpdate(RunPhase.PARKED)),
        Submission(taken.lease, orphan, 2, [b"heir"]),
    )
    assert [type(answer) for answer in answers] == [ShardLost, Recorded, Recorded]
    assert [event.payload for event in await runs.events(desk.pool, orphan)] == [b"created", b"heir"]
    states = {row.run_id: row.state for row in await runs.list_page(desk.pool, runs.RunFilter(), limit=9)}
    assert states == {orphan: RunPhase.RUNNING, safe: RunPhase.PARKED}


async def test_a_shard_given_up_takes_no_more_writes_even_before_it_has_an_heir(desk: Desk) -> None:
    """What is still on its way when a shard is released, or its member leaves, drops out."""
    membership, member, [released, left, *_] = await desk.member()
    [first], [second] = await desk.start(released), await desk.start(left)
    await membership.release(member, [released.shard])
    [answer] = await desk.write(Submission(released, first, 2, [b"late"]))
    assert isinstance(answer, ShardLost)
    await membership.leave(member)
    [answer] = await desk.write(Submission(left, second, 2, [b"late"]))
    assert isinstance(answer, ShardLost)


async def test_a_token_from_the_future_writes_nothing(desk: Desk) -> None:
    """Only the current token holds, not any greater one."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    [answer] = await desk.write(Submission(ShardLease(lease.shard, lease.token + 1), run_id, 2, [b"event"]))
    assert isinstance(answer, ShardLost)


async def test_a_write_that_meets_a_takeover_in_progress_waits_and_drops_out(desk: Desk) -> None:
    """It cannot slip in between the new owner's token and its commit, whatever it saw when it began."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    async with desk.session() as session:
        await session.execute("BEGIN")
        await session.execute(
            "UPDATE shards SET fencing_token = fencing_token + 1 WHERE id = %s", (lease.shard,)
        )
        answers = asyncio.ensure_future(desk.write(Submission(lease, run_id, 2, [b"zombie"])))
        await until(lambda: desk.waiting(JOURNAL))
        await session.execute("COMMIT")
    assert [type(answer) for answer in await answers] == [ShardLost]
    assert await desk.seqs(run_id) == [1]


async def test_a_takeover_that_meets_a_write_in_progress_comes_after_it(desk: Desk) -> None:
    """What the former owner is just committing is there when the heir reads: it waits for that statement."""
    membership, owner, [lease, *_] = await desk.member()
    [run_id] = await desk.start(lease)
    heir = await desk.newcomer()
    await desk.over(owner)
    await membership.declare_dead()
    async with desk.session() as session:
        await session.execute("BEGIN")
        await session.execute("SELECT FROM runs WHERE id = %s FOR UPDATE", (run_id,))
        last = Submission(lease, run_id, 2, [b"last words"], RunUpdate(RunPhase.CANCELING))
        answers = asyncio.ensure_future(desk.write(last))
        await until(lambda: desk.waiting(JOURNAL))
        takeover = asyncio.ensure_future(membership.take(heir, 4))
        await until(lambda: desk.waiting(POOL))
        assert not takeover.done()
        await session.execute("ROLLBACK")
        await takeover
        assert await desk.seqs(run_id) == [1, 2]
    assert [type(answer) for answer in await answers] == [Recorded]


async def test_a_paused_writer_blocks_no_takeover_and_writes_nothing_when_it_wakes(desk: Desk) -> None:
    """Stopped anywhere in its work, its connection open: takeover takes no longer than usual."""
    membership, owner, [lease, *_] = await desk.member()
    [run_id] = await desk.start(lease)
    heir = await desk.newcomer()
    async with _writing(desk, lease, run_id) as process:
        await until(lambda: _beyond(desk, run_id, 100))
        process.send_signal(signal.SIGSTOP)
        await desk.over(owner)
        started = time.monotonic()
        await membership.declare_dead()
        taken = {one.lease.shard: one.lease for one in await membership.take(heir, 4)}
        assert time.monotonic() - started < 2
        seqs = await desk.seqs(run_id)
        process.send_signal(signal.SIGCONT)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert b"ShardLost" in output
    assert await desk.seqs(run_id) == seqs == list(range(1, len(seqs) + 1))
    [answer] = await desk.write(Submission(taken[lease.shard], run_id, len(seqs) + 1, [b"heir"]))
    assert isinstance(answer, Recorded)


@asynccontextmanager
async def _writing(desk: Desk, lease: ShardLease, run_id: str) -> AsyncIterator[Process]:
    """Another process that writes events of a run until that fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITE_FOR_EVER, desk.dsn, str(lease.shard), str(lease.token), run_id,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _beyond(desk: Desk, run_id: str, seq: int) -> bool:
    [(last,)] = await desk.rows("SELECT max(seq) FROM journal WHERE run_id = %s", run_id)
    return bool(last > seq)
