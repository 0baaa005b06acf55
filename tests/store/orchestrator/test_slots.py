"""Slots of a flow and key: taken with a run's beginning, given on with its end, whatever else happens."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from reflux.core.errors import Exhausted
from reflux.core.event import RunPhase
from reflux.core.flow.limits import Claim, Overflow, RateClaim, RateOverflow, SlotClaim
from reflux.core.reasons import Reason
from reflux.orchestrator.store import slots
from reflux.orchestrator.store.journal import RunUpdate, ShardLease, Submission, Writer
from reflux.orchestrator.store.start import Started, Starter
from tests.store.orchestrator.support import Desk, request, running, until

if TYPE_CHECKING:
    from reflux.core.names import RunId

START, JOURNAL = "reflux-orchestrator-start", "reflux-orchestrator-journal"


def slot(key: str = "k", limit: int = 1, overflow: Overflow = Overflow.QUEUE, priority: int = 5) -> Claim:
    return Claim(priority, SlotClaim(key, limit, overflow))


def paced(runs: int, per: timedelta, overflow: RateOverflow = RateOverflow.REJECT) -> Claim:
    return Claim(rate=RateClaim("", runs, per, overflow))


def end(lease: ShardLease, run_id: RunId, seq: int = 2) -> Submission:
    finished = RunUpdate(RunPhase.SUCCEEDED, finished_at=datetime.now(UTC))
    return Submission(lease, run_id, seq, [b"ended"], finished)


async def held(desk: Desk) -> set[str]:
    """Runs that have a slot."""
    return {str(run_id) for (run_id,) in await desk.rows("SELECT run_id FROM slots WHERE held")}


async def words(desk: Desk, kind: str = slots.ADMITTED) -> set[str]:
    """Runs that were left such a word."""
    return {str(run) for (run,) in await desk.rows("SELECT run_id FROM inbox WHERE kind = %s", kind)}


async def test_an_unlimited_run_leaves_no_trace_in_the_limits(desk: Desk) -> None:
    """It asks for nothing: no row, no lock, and nothing to give back."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    async with desk.session() as other:
        await other.execute("BEGIN; LOCK TABLE limits, slots, rates IN ACCESS EXCLUSIVE MODE")
        [unhindered] = await desk.start(lease)
        await desk.write(end(lease, run_id), end(lease, unhindered))
        await other.execute("COMMIT")
    assert await desk.rows("SELECT count(*) FROM limits") == [(0,)]
    assert await desk.rows("SELECT count(*) FROM runs WHERE finished_at IS NOT NULL") == [(2,)]


async def test_an_end_gives_the_slot_to_the_first_in_the_queue(desk: Desk) -> None:
    """In the same statement, with a word for its owner; the writer is told as well."""
    [lease, other, *_] = await desk.leases()
    starter, told = Starter(desk.dsn), []
    writer = Writer(desk.dsn, admitted=told.extend)
    async with running(starter, writer):
        first = await starter.start(request(lease, claim=slot()))
        second = await starter.start(request(other, claim=slot()))
        third = await starter.start(request(lease, claim=slot(priority=9)))
        assert (first.queued, second.queued, third.queued) == (False, True, True)
        assert await words(desk) == set()
        await writer.submit(end(lease, first.run_id))
        assert await held(desk) == {third.run_id} == await words(desk) == set(told)
        await writer.submit(end(lease, third.run_id))
        assert await held(desk) == {second.run_id}
        await writer.submit(end(other, second.run_id))
    assert await desk.rows("SELECT count(*) FROM limits") == [(0,)]


async def test_a_start_and_an_end_at_the_same_moment_lose_nobody(desk: Desk) -> None:
    """Both wait for the key: whichever comes first, the run that was started has the slot in the end."""
    [lease, *_] = await desk.leases()
    starter, writer = Starter(desk.dsn), Writer(desk.dsn)
    async with running(starter, writer):
        for turn in range(2):
            first = await starter.start(request(lease, claim=slot()))
            async with desk.session() as session:
                await session.execute("BEGIN; SELECT FROM limits FOR UPDATE")
                acts = [
                    (START, lambda: starter.submit(request(lease, claim=slot()))),
                    (JOURNAL, lambda run_id=first.run_id: writer.submit(end(lease, run_id))),
                ]
                futures = {}
                for application, act in reversed(acts) if turn else acts:
                    futures[application] = act()
                    await until(lambda application=application: desk.waiting(application))
                await session.execute("COMMIT")
            started = await futures[START]
            await futures[JOURNAL]
            assert await held(desk) == {started.run_id}
            assert started.queued is (started.run_id in await words(desk))
            await writer.submit(end(lease, started.run_id))
    assert await desk.rows("SELECT count(*) FROM limits") == [(0,)]


async def test_what_lost_its_lease_neither_takes_nor_frees_a_slot(desk: Desk) -> None:
    """A zombie's end is void, and so is what it would have given on."""
    [lease, *_] = await desk.leases()
    first, second = await desk.start(lease, 2, claim=slot())
    stale = ShardLease(lease.shard, lease.token - 1)
    [answer] = await desk.write(end(stale, first))
    assert isinstance(answer, Exception)
    starter = Starter(desk.dsn)
    async with running(starter):
        with suppress(Exception):
            await starter.start(request(stale, claim=slot()))
    assert await desk.rows("SELECT held, queued FROM limits") == [(1, 1)]
    assert await held(desk) <= {first, second}


async def test_a_run_ends_once(desk: Desk) -> None:
    """An end that is written again frees no second slot."""
    [lease, *_] = await desk.leases()
    run_ids = await desk.start(lease, 3, claim=slot())
    [first] = await held(desk)
    await desk.write(end(lease, first), end(lease, first, 3))
    assert len(await held(desk)) == 1
    assert await desk.rows("SELECT held, queued FROM limits") == [(1, len(run_ids) - 2)]


async def test_a_refused_start_leaves_its_handle_free(desk: Desk) -> None:
    """Nothing of it is in the tables: the same request_id may come again."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    strict = slot(overflow=Overflow.REJECT)
    paced = Claim(rate=RateClaim("", 1, slots._MICROSECOND * 60_000_000, RateOverflow.REJECT))
    async with running(starter):
        await starter.start(request(lease, claim=strict))
        await starter.start(request(lease, claim=paced))
        answers = await asyncio.gather(
            starter.start(request(lease, claim=strict, request_id="a")),
            starter.start(request(lease, request_id="b")),
            starter.start(request(lease, claim=paced, request_id="c")),
            return_exceptions=True,
        )
    refused = [answer for answer in answers if isinstance(answer, Exhausted)]
    assert [one.reason for one in refused] == [Reason.CONCURRENCY_LIMIT, Reason.RATE_LIMIT]
    assert 58 < (refused[1].retry_seconds or 0) <= 60
    assert await desk.rows("SELECT key FROM start_keys") == [("b",)]
    assert await desk.rows("SELECT count(*) FROM runs") == [(3,)]


@pytest.mark.parametrize(("runs", "seconds"), [(5, 60), (6, 1), (7, 60), (70, 60)])
async def test_a_burst_is_as_many_runs_as_the_rate_says(desk: Desk, runs: int, seconds: int) -> None:
    """Also where their shares of the period are no whole microseconds; one more is refused."""
    [lease, *_] = await desk.leases()
    claim = paced(runs, timedelta(seconds=seconds))
    starter = Starter(desk.dsn)
    async with running(starter):
        asked = [starter.start(request(lease, claim=claim)) for _ in range(runs + 1)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [Exhausted]


async def test_a_rate_that_changed_owes_no_more_than_one_period(desk: Desk) -> None:
    """Whoever wrote `per: 1h` for `per: 1s` need not wait for hours when it is mended; others come first."""
    [lease, *_] = await desk.leases()
    slow = paced(1, timedelta(hours=1), RateOverflow.QUEUE)
    starter = Starter(desk.dsn)
    async with running(starter):
        for _ in range(5):
            await starter.start(request(lease, claim=slow))
        await desk.rows("SELECT change_limits(flow_id, 2, NULL, 10, 1000000) FROM runs LIMIT 1")
        quick = await starter.start(request(lease, claim=paced(10, timedelta(seconds=1), RateOverflow.QUEUE)))
        await asyncio.sleep(1)
        asked = [starter.start(request(lease, claim=paced(10, timedelta(seconds=1)))) for _ in range(20)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Started, Exhausted}
    [(seconds,)] = await desk.rows(
        "SELECT extract(epoch FROM wake_at - created_at) FROM runs WHERE id = %s", quick.run_id
    )
    assert seconds < 1


async def test_what_an_older_version_has_used_up_is_owed_for_one_period_at_most(desk: Desk) -> None:
    """Who had not heard of the newest version may begin the first run of a key after it."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        for version, per in ((1, timedelta(days=31)), (2, timedelta(seconds=1))):
            claim = replace(paced(1, per, RateOverflow.QUEUE), version=version)
            await starter.start(request(lease, claim=claim))
    [(seconds,)] = await desk.rows("SELECT extract(epoch FROM full_at - now()) FROM rates")
    assert seconds <= 2


async def test_runs_of_one_rate_end_side_by_side(desk: Desk) -> None:
    """Each moves the other up, in whichever of its slots: neither waits for who waits for it."""

    async def two_wait() -> bool:
        return await desk.rows("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(2,)]

    [lease, *_] = await desk.leases()
    starter, writers = Starter(desk.dsn), (Writer(desk.dsn), Writer(desk.dsn))
    async with running(starter, *writers):
        rate = RateClaim("", 1, timedelta(hours=1), RateOverflow.QUEUE)
        claims = [Claim(slot=SlotClaim(key, 9, Overflow.QUEUE), rate=rate) for key in "abcd"]
        runs = [(await starter.start(request(lease, claim=claim))).run_id for claim in claims]
        async with desk.session() as other:
            await other.execute("BEGIN; SELECT FROM rates FOR UPDATE")
            ends = [writer.submit(end(lease, run)) for writer, run in zip(writers, runs[1:3], strict=True)]
            await until(two_wait)
            await other.execute("COMMIT")
        await asyncio.gather(*ends)
    assert [writer.stats.repeated for writer in writers] == [0, 0], "one was the victim of a deadlock"
    assert await desk.rows("SELECT count(*) FROM turns") == [(1,)]


async def test_a_key_of_refused_runs_leaves_no_row(desk: Desk) -> None:
    """However many keys a burst of refused starts has."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        for number in range(4):
            rate = RateClaim("", 1, timedelta(hours=1), RateOverflow.REJECT)
            claim = Claim(slot=SlotClaim(f"shop-{number}", 3, Overflow.QUEUE), rate=rate)
            with suppress(Exhausted):
                await starter.start(request(lease, claim=claim))
    assert await desk.rows("SELECT key FROM limits") == [("shop-0",)]


async def test_a_larger_limit_lets_the_queue_move_at_the_next_start(desk: Desk) -> None:
    """The newest start says how many there are; who waited longer is first."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        runs = [(await starter.start(request(lease, claim=slot()))).run_id for _ in range(3)]
        newest = await starter.start(request(lease, claim=slot(limit=3)))
    assert newest.queued
    assert await held(desk) == set(runs)
    assert await words(desk) == set(runs[1:])


async def test_only_the_oldest_are_asked_to_end_and_each_once(desk: Desk) -> None:
    """As many as there are too many, in one batch and over several."""
    [lease, *_] = await desk.leases()
    newest = slot(limit=2, overflow=Overflow.CANCEL_OLDEST)
    runs = [*await desk.start(lease, 3, claim=newest), *await desk.start(lease, 1, claim=newest)]
    order = [str(run) for (run,) in await desk.rows("SELECT run_id FROM slots ORDER BY id")]
    assert set(order) == set(runs)
    assert await words(desk, "cancel") == set(order[:2])
    assert await desk.rows("SELECT count(*) FROM inbox") == [(2,)]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_many_keys_at_once_never_lock_each_other_out(desk: Desk, seed: int) -> None:
    """Two orchestrators start and end runs of the same keys in batches of any order: no deadlock, no leak."""
    leases = await desk.leases()
    chance = Random(seed)
    starters, writers = [Starter(desk.dsn) for _ in range(2)], [Writer(desk.dsn) for _ in range(2)]

    async def live(number: int) -> None:
        lease = leases[number % len(leases)]
        claim = slot(f"k{chance.randrange(12)}", 2, chance.choice([Overflow.QUEUE, Overflow.CANCEL_OLDEST]))
        started = await starters[number % 2].start(request(lease, claim=claim))
        await asyncio.sleep(0)
        if started.queued:
            await until(lambda: _admitted(desk, started.run_id))
        await writers[number % 2].submit(end(lease, started.run_id))

    async with running(*starters, *writers):
        await asyncio.gather(*(live(number) for number in range(200)))
        assert [lane.stats.repeated for lane in (*starters, *writers)] == [0, 0, 0, 0]
        assert [lane.stats.refused for lane in (*starters, *writers)] == [0, 0, 0, 0]
    assert await desk.rows("SELECT count(*) FROM slots") == [(0,)]
    assert await desk.rows("SELECT count(*) FROM limits") == [(0,)]


async def _admitted(desk: Desk, run_id: RunId) -> bool:
    """Whether a queued run has its slot, or must go."""
    return await desk.rows("SELECT held OR told FROM slots WHERE run_id = %s", run_id) == [(True,)]
