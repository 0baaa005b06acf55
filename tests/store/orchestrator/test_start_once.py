"""Starting once: a request_id has one run, whoever asks and however often."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from reflux.core.errors import AlreadyExists
from reflux.core.event import RunPhase
from reflux.core.reasons import Reason
from reflux.orchestrator.store import runs, slots, start, wakeups
from reflux.orchestrator.store.errors import ShardLost
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.store.start import Starter
from tests.store.orchestrator.support import FLOW, Desk, request, running, until

START = "reflux-orchestrator-start"


async def test_a_started_run_is_durable_with_its_first_event(desk: Desk) -> None:
    """When the id is known, the row and event 1 are in the tables."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    asked = request(lease)
    async with running(starter):
        started = await starter.start(asked)
        row = await runs.get(desk.pool, started.run_id)
        [event] = await runs.events(desk.pool, started.run_id)
    assert started.created
    assert row is not None
    assert (row.run_id, row.shard, row.flow_id, row.flow_name) == (asked.run_id, lease.shard, FLOW, "orders")
    assert (row.state, row.created_at, row.actor) == (RunPhase.RUNNING, asked.created_at, "anonymous")
    assert (event.seq, event.payload, event.recorded_at) == (1, b"created", started.recorded_at)


async def test_a_run_whose_caller_hung_up_is_found_by_the_poll(desk: Desk) -> None:
    """It is durable, so it must go on: a few seconds later it is due like a timer, unless in memory."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    asked = request(lease)
    async with running(starter):
        starter.submit(asked).cancel()
        await starter.start(request(lease))
    assert (await wakeups.poll(desk.pool, [lease])).timers == ()
    soon = await wakeups.poll(desk.pool, [lease], ahead=timedelta(seconds=6))
    assert asked.run_id in {timer.run_id for timer in soon.timers}
    known = await wakeups.poll(desk.pool, [lease], ahead=timedelta(seconds=6), loaded=[asked.run_id])
    assert asked.run_id not in {timer.run_id for timer in known.timers}


async def test_a_hundred_equal_requests_at_two_orchestrators_make_one_run(desk: Desk) -> None:
    """In parallel, in several batches of each: one is told `created`, all are told the same run."""
    leases = await desk.leases()
    starters = Starter(desk.dsn), Starter(desk.dsn)
    async with running(*starters):
        answers = await asyncio.gather(
            *(
                starters[number % 2].start(request(leases[number % 2], request_id="once"))
                for number in range(100)
            )
        )
    assert len({answer.run_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert await desk.rows("SELECT count(*) FROM runs") == [(1,)]
    assert await desk.rows("SELECT count(*) FROM journal") == [(1,)]


async def test_handles_are_taken_in_order_so_that_two_orchestrators_cannot_lock_each_other_out(
    desk: Desk,
) -> None:
    """Asked for z, a and m while another holds m: z is not taken yet, so the other can go on."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    take = (
        "INSERT INTO start_keys (scope, key, body_digest, run_id, expires_at)"
        " VALUES ('flow', %s, '', gen_random_uuid(), now())"
    )
    async with running(starter), desk.session() as other:
        await other.execute("BEGIN")
        await other.execute(take, ("m",))
        starts = [starter.submit(request(lease, request_id=name)) for name in "zam"]
        await until(lambda: desk.waiting(START))
        await other.execute("SET LOCAL lock_timeout = '5s'")
        await other.execute(take, ("z",))
        await other.execute("ROLLBACK")
        answers = await asyncio.gather(*starts)
    assert all(answer.created for answer in answers)
    assert starter.stats.repeated == 0


async def test_the_same_request_id_for_something_else_is_refused(desk: Desk) -> None:
    """The first stands; the answer names the handle and the run that has it. In one batch and in two."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        first = starter.submit(request(lease, request_id="r"))
        batch_mate = starter.submit(request(lease, request_id="r", body_digest=b"other"))
        started = await first
        for future in (batch_mate, starter.submit(request(lease, request_id="r", body_digest=b"third"))):
            with pytest.raises(AlreadyExists) as refused:
                await future
            assert refused.value.reason is Reason.REQUEST_ID_REUSED
            assert refused.value.metadata == {"request_id": "r", "run_id": started.run_id}


async def test_a_request_id_means_something_within_its_scope_only(desk: Desk) -> None:
    """Two flows may see the same words; without a request_id every start is a run of its own."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        answers = await asyncio.gather(
            starter.start(request(lease, scope="one", request_id="r")),
            starter.start(request(lease, scope="two", request_id="r")),
            starter.start(request(lease)),
            starter.start(request(lease)),
        )
    assert all(answer.created for answer in answers)
    assert len({answer.run_id for answer in answers}) == 4


async def test_an_expired_request_id_starts_a_new_run(desk: Desk) -> None:
    """After 7 days the handle means nothing any more, whether it was cleared away or not."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        first = await starter.start(request(lease, request_id="r"))
        [(left,)] = await desk.rows("SELECT expires_at - now() FROM start_keys")
        assert timedelta(days=7) - left < timedelta(minutes=1)
        await desk.act("UPDATE start_keys SET expires_at = now() - interval '1 second'")
        second = await starter.start(request(lease, request_id="r", body_digest=b"other"))
        third = await starter.start(request(lease, request_id="r", body_digest=b"other"))
        assert await start.forget_expired(desk.pool) == 0
        await desk.act("UPDATE start_keys SET expires_at = now() - interval '1 second'")
        assert await start.forget_expired(desk.pool) == 1
    assert second.created
    assert second.run_id != first.run_id
    assert (third.run_id, third.created) == (second.run_id, False)


async def test_a_handle_of_something_else_is_taken_once_too(desk: Desk) -> None:
    """Who comes second changes nothing; one that has expired is taken over for as long as a new one."""
    [lease, *_] = await desk.leases()
    first, second = request(lease).run_id, request(lease).run_id
    for id_, digest in ((first, b"1"), (second, b"2")):
        await start.take_handle(desk.pool, "bulk", "r", id_, digest)
    known = await start.find_started(desk.pool, "bulk", "r")
    await desk.act("UPDATE start_keys SET expires_at = now() - interval '1 second'")
    await start.take_handle(desk.pool, "bulk", "r", second, b"2")
    later = await start.find_started(desk.pool, "bulk", "r")
    assert await start.forget_expired(desk.pool) == 0
    assert (known, later) == (start.Known(first, b"1"), start.Known(second, b"2"))


async def test_all_that_has_expired_is_forgotten_however_much_it_is(desk: Desk, monkeypatch) -> None:
    """Page by page: more may expire between two clean-ups than one page holds."""
    monkeypatch.setattr(start, "_FORGET_AT_ONCE", 2)
    monkeypatch.setattr(slots, "_FORGET_AT_ONCE", 2)
    for number in range(5):
        await desk.act(
            "INSERT INTO start_keys (scope, key, body_digest, run_id, expires_at)"
            f" VALUES ('s', 'k{number}', '', gen_random_uuid(), now() - interval '1 second')"
        )
        await desk.act(
            f"INSERT INTO rates (flow_id, key, full_at) VALUES (gen_random_uuid(), 'k{number}', now())"
        )
    assert await start.forget_expired(desk.pool) == 5
    assert await slots.forget_rates(desk.pool) == 5


async def test_nothing_starts_in_a_shard_that_is_not_held(desk: Desk) -> None:
    """A zombie starts nothing and takes no handle; batch-mates in held shards start."""
    [lease, *_] = await desk.leases()
    stale = ShardLease(lease.shard, lease.token - 1)
    starter = Starter(desk.dsn)
    async with running(starter):
        answers = await asyncio.gather(
            starter.start(request(stale, request_id="r")),
            starter.start(request(lease)),
            return_exceptions=True,
        )
        taken = await starter.start(request(lease, request_id="r"))
    assert isinstance(answers[0], ShardLost)
    assert isinstance(answers[1], start.Started)
    assert taken.created


async def test_a_start_the_database_refuses_fails_alone(desk: Desk) -> None:
    """A name that cannot be stored spoils no other start of the batch, nor its own handle."""
    [lease, *_] = await desk.leases()
    starter = Starter(desk.dsn)
    async with running(starter):
        answers = await asyncio.gather(
            starter.start(request(lease, actor="nul \0", request_id="r")),
            starter.start(request(lease)),
            return_exceptions=True,
        )
        assert not isinstance(answers[0], start.Started)
        assert isinstance(answers[1], start.Started)
        assert (await starter.start(request(lease, request_id="r"))).created
