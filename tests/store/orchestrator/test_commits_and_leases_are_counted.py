"""What the store counts: how large its commits are, and who owns what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reflux.orchestrator import metrics
from reflux.orchestrator.store.journal import Submission, Writer
from reflux.orchestrator.store.lease import Lease
from reflux.orchestrator.store.start import Starter
from reflux.runtime.clock import DatabaseClock
from tests.store.orchestrator.support import Desk, request, running, until

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from reflux.orchestrator.store.members import MemberId, Taken

SHARDS = 8


class Owner:
    """Takes what it gets."""

    def joined(self, member: MemberId) -> None: ...

    def gained(self, shards: Sequence[Taken]) -> None: ...

    def busy(self) -> Collection[int]:
        return ()

    def lost(self, shards: Collection[int]) -> None: ...


class Changes:
    """Changes of shards and of the lease since this was made."""

    def __init__(self) -> None:
        self._before = self._all()

    def __call__(self) -> dict[str, float]:
        risen = {name: count - self._before.get(name, 0) for name, count in self._all().items()}
        return {name: count for name, count in risen.items() if count}

    @staticmethod
    def _all() -> dict[str, float]:
        both = (*metrics.SHARD_CHANGES.series().items(), *metrics.LEASE_CHANGES.series().items())
        return {change: count.value for (change,), count in both}


def orchestrator(desk: Desk) -> tuple[Lease, asyncio.Task[None]]:
    """A lease under way."""
    lease = Lease(desk.membership(shards=SHARDS), Owner(), DatabaseClock())
    return lease, asyncio.create_task(lease.run())


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_takeover_is_told_from_a_beginning(desk: Desk) -> None:
    """Shards of the dead are inherited, and their owner's death is counted by who found it."""
    _, dead, _ = await desk.member(shards=SHARDS)
    await desk.over(dead)
    changes = Changes()
    lease, task = orchestrator(desk)
    try:
        await until(lambda: len(lease.held()) == SHARDS)
        assert changes() == {"joined": 1, "other_dead": 1, "inherited": SHARDS}
        assert metrics.SHARDS_HELD.series() == {(): SHARDS}
    finally:
        await _end(task)
    assert changes()["stopped"] == 1
    assert changes()["released"] == SHARDS
    assert metrics.SHARDS_HELD.series() == {}


async def test_sharing_is_told_from_losing(desk: Desk) -> None:
    """A newcomer gets what the first one releases; a life that ends at once loses everything."""
    changes = Changes()
    first, task = orchestrator(desk)
    try:
        await until(lambda: len(first.held()) == SHARDS)
        assert changes() == {"joined": 1, "taken": SHARDS}
        second, other = orchestrator(desk)
        try:
            await until(lambda: len(second.held()) == SHARDS // 2)
            assert changes() == {"joined": 2, "taken": SHARDS + 4, "released": 4}
            first.rejoin()
            assert changes() == {"joined": 2, "taken": SHARDS + 4, "released": 4, "lost": 4, "rejoin": 1}
        finally:
            await _end(other)
    finally:
        await _end(task)


async def test_the_size_of_a_commit_is_its_rows(desk: Desk) -> None:
    """What gathers while nobody writes goes into one commit: one value, with all events of all runs."""
    lease, *_ = await desk.leases()
    runs = await desk.start(lease, 5)
    size, seconds = metrics.COMMIT_ROWS.at("journal"), metrics.COMMIT_DURATION.at("journal")
    before = (size.count, size.total, seconds.count)
    writer = Writer(desk.dsn)
    futures = [writer.submit(Submission(lease, run_id, 2, [b"a", b"b", b"c"])) for run_id in runs]
    waiting = metrics.COMMITS_WAITING.series().get(("journal",), 0)
    async with running(writer):
        assert waiting == 0, "a lane that does not run has nothing to tell"
        await asyncio.gather(*futures)
    assert (size.count, size.total, seconds.count) == (before[0] + 1, before[1] + 15, before[2] + 1)


async def test_starts_have_a_lane_of_their_own(desk: Desk) -> None:
    """Told apart by the label."""
    lease, *_ = await desk.leases()
    journal, start = metrics.COMMIT_ROWS.at("journal"), metrics.COMMIT_ROWS.at("start")
    before = journal.count, start.total
    starter = Starter(desk.dsn)
    futures = [starter.submit(request(lease)) for _ in range(3)]
    async with running(starter):
        await asyncio.gather(*futures)
    assert (journal.count, start.total) == (before[0], before[1] + 3)


async def test_what_cannot_be_written_is_counted(desk: Desk) -> None:
    """A row that the database refuses, and a batch whose fate nobody knows."""
    lease, *_ = await desk.leases()
    [run_id] = await desk.start(lease)
    refused = metrics.COMMIT_FAILURES.at("journal", "refused")
    before = refused.value
    answers = await desk.write(Submission(lease, run_id, 2, [b"x" * (2 << 20) + b"x"]))
    assert isinstance(answers[0], Exception)
    assert refused.value == before + 1
