"""The lease of a running orchestrator: fair shares, a quick hand-over, and no belief beyond its time."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from reflux.orchestrator.store.lease import LOOK_SECONDS, Lease, Plan, plan_shards
from reflux.orchestrator.store.members import RELEASE, Survey
from reflux.runtime.clock import DatabaseClock
from tests.store.orchestrator.support import Desk, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from reflux.orchestrator.store.members import MemberId, Taken

SHARDS = 8
LEASE_SECONDS = 1.0


class Recorder:
    """An owner that only remembers."""

    def __init__(self) -> None:
        self.lives: list[MemberId] = []
        self.shards: dict[int, int] = {}
        self.orphaned = 0
        self.lost_at: list[float] = []

    def joined(self, member: MemberId) -> None:
        assert not self.shards, "a new life began with shards of the old one"
        self.lives.append(member)

    def gained(self, shards: Sequence[Taken]) -> None:
        for one in shards:
            assert one.lease.shard not in self.shards
            self.shards[one.lease.shard] = one.lease.token
            self.orphaned += one.orphaned

    def busy(self) -> Collection[int]:
        return ()

    def lost(self, shards: Collection[int]) -> None:
        for shard in shards:
            del self.shards[shard]
        self.lost_at.append(time.monotonic())


class Member:
    """A lease under way, what its owner was told, and the task to cancel for a planned end."""

    def __init__(self, desk: Desk, lease_seconds: float, release: int = RELEASE) -> None:
        self.owner = Recorder()
        self.clock = DatabaseClock()
        self.clock.set_offset(datetime.now(UTC) + timedelta(hours=3))
        membership = desk.membership(shards=SHARDS, lease_seconds=lease_seconds, release=release)
        self.lease = Lease(membership, self.owner, self.clock)
        self.task = asyncio.ensure_future(self.lease.run())

    async def has(self, count: int) -> None:
        await until(lambda: len(self.owner.shards) == count)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def members(desk: Desk, count: int, lease_seconds: float = 30.0) -> AsyncIterator[list[Member]]:
    """`count` members that joined one after the other."""
    made: list[Member] = []
    try:
        for number in range(count):
            made.append(Member(desk, lease_seconds))
            await until(lambda: bool(made[number].owner.lives))  # noqa: B023
        yield made
    finally:
        for member in made:
            await member.stop()


@pytest.mark.parametrize(
    ("alive", "rank", "mine", "free", "plan"),
    [
        (1, 0, 0, 64, Plan(take=64)),
        (1, 0, 64, 0, Plan()),
        (2, 0, 64, 0, Plan(release=32)),
        (2, 1, 0, 0, Plan()),
        (2, 1, 10, 54, Plan(take=22)),
        (3, 0, 22, 0, Plan()),
        (3, 1, 21, 9, Plan()),
        (3, 0, 21, 9, Plan(take=1)),
        (100, 63, 0, 5, Plan(take=1)),
        (100, 64, 0, 5, Plan()),
    ],
)
def test_a_fair_share_is_the_same_for_all_to_within_one(
    alive: int, rank: int, mine: int, free: int, plan: Plan
) -> None:
    """Of 64 shards: who has too few takes what is free, who has too many gives up."""
    assert plan_shards(Survey(alive, rank, 64, free, dict.fromkeys(range(mine), 1))) == plan


@pytest.mark.parametrize("alive", [1, 2, 3, 5, 7, 63, 64, 65, 200])
def test_shares_add_up_to_all_shards(alive: int) -> None:
    """Members that follow the plan leave no shard without an owner and fight over none."""
    plans = [plan_shards(Survey(alive, rank, 64, 64, {})) for rank in range(alive)]
    assert sum(plan.take for plan in plans) == 64


async def test_a_lone_member_gets_everything_and_newcomers_their_share(desk: Desk) -> None:
    """Three members end with 3, 3 and 2 of eight shards, and the tables agree with what they believe."""
    async with members(desk, 1) as [first]:
        await first.has(SHARDS)
        async with members(desk, 2) as [second, third]:
            for member, count in ((first, 3), (second, 3), (third, 2)):
                await member.has(count)
            believed = {shard for one in (first, second, third) for shard in one.owner.shards.items()}
            tables = await desk.rows("SELECT id, fencing_token FROM shards")
            assert believed == set(tables)


async def test_shards_go_to_the_newer_release_and_never_back(desk: Desk) -> None:
    """The newcomer of an upgrade gets all of them; when it is gone the old one takes none."""
    old = Member(desk, LEASE_SECONDS)
    await old.has(SHARDS)
    new = Member(desk, LEASE_SECONDS, release=RELEASE + 1)
    await new.has(SHARDS)
    assert not old.owner.shards
    await new.stop()
    assert await desk.rows("SELECT FROM shards WHERE owner IS NULL AND release = %s", RELEASE + 1)
    await asyncio.sleep(3 * LOOK_SECONDS)
    assert not old.owner.shards
    newer = Member(desk, LEASE_SECONDS, release=RELEASE + 1)
    await newer.has(SHARDS)
    for member in (old, newer):
        await member.stop()


async def test_a_planned_end_hands_over_within_a_second(desk: Desk) -> None:
    """The heir has the shards a second after the drain began, and counts no death."""
    async with members(desk, 2) as [leaving, heir]:
        await leaving.has(SHARDS // 2)
        await heir.has(SHARDS // 2)
        started = time.monotonic()
        await leaving.stop()
        await heir.has(SHARDS)
        assert time.monotonic() - started < 1.0
        assert not leaving.owner.shards
        assert heir.owner.orphaned == 0


async def test_the_dead_are_inherited_soon_after_their_lease(desk: Desk) -> None:
    """Within the lease and 2 s of the last heartbeat; each shard is told to be an orphan."""
    membership = desk.membership(shards=SHARDS, lease_seconds=LEASE_SECONDS)
    await membership.prepare()
    dead, _ = await membership.join()
    await membership.take(dead, SHARDS)
    started = time.monotonic()
    async with members(desk, 1) as [heir]:
        await heir.has(SHARDS)
        assert LEASE_SECONDS * 0.9 < time.monotonic() - started < LEASE_SECONDS + 2
        assert heir.owner.orphaned == SHARDS


async def test_a_lease_lives_as_long_as_its_heartbeats(desk: Desk) -> None:
    """Over several leases nothing is lost, and a clock that was wrong by hours is right."""
    async with members(desk, 1, LEASE_SECONDS) as [member]:
        await member.has(SHARDS)
        await asyncio.sleep(2 * LEASE_SECONDS)
        [(now,)] = await desk.rows("SELECT clock_timestamp()")
        assert member.lease.valid()
        assert len(member.lease.held()) == SHARDS
        assert len(member.owner.lives) == 1
        assert not member.owner.lost_at
        assert abs((member.clock.now() - now).total_seconds()) < 0.5


async def test_a_lease_that_cannot_be_renewed_is_given_up_before_the_database_may_end_it(desk: Desk) -> None:
    """With the database away the owner drops everything by its own clock, no later than the lease."""
    async with members(desk, 1, LEASE_SECONDS) as [member]:
        await member.has(SHARDS)
        async with desk.session() as session:
            await session.execute("BEGIN")
            await session.execute("LOCK TABLE members IN ACCESS EXCLUSIVE MODE")
            [(until_,)] = await (
                await session.execute("SELECT max(lease_until - clock_timestamp()) FROM members")
            ).fetchall()
            deadline = time.monotonic() + until_.total_seconds()
            await member.has(0)
            assert time.monotonic() < deadline
            assert not member.lease.valid()
            assert member.lease.held() == []
            await session.execute("ROLLBACK")
        await member.has(SHARDS)
        assert len(member.owner.lives) == 2


async def test_who_is_declared_dead_drops_everything_and_comes_back_as_another_member(desk: Desk) -> None:
    """The first heartbeat that finds nobody alive ends the life, long before its time."""
    lease_seconds = 3.0
    async with members(desk, 1, lease_seconds) as [member]:
        await member.has(SHARDS)
        before = dict(member.owner.shards)
        await desk.act("UPDATE members SET state = 'dead'")
        started = time.monotonic()
        await until(lambda: len(member.owner.lives) == 2)
        assert time.monotonic() - started < lease_seconds * 0.8
        await member.has(SHARDS)
        assert member.owner.lives[0] != member.owner.lives[1]
        assert all(member.owner.shards[shard] > token for shard, token in before.items())


async def test_a_life_that_is_not_sure_of_its_writes_ends_at_once(desk: Desk) -> None:
    """`rejoin` drops everything before it returns; the shards come back under tokens that void the former."""
    async with members(desk, 1) as [member]:
        await member.has(SHARDS)
        before = dict(member.owner.shards)
        member.lease.rejoin()
        assert not member.owner.shards
        assert not member.lease.valid()
        await member.has(SHARDS)
        assert all(member.owner.shards[shard] > token for shard, token in before.items())


async def test_a_shard_whose_taking_was_never_answered_is_found(desk: Desk) -> None:
    """What the tables say is ours is adopted, what they deny is dropped: nothing is stranded or kept."""
    async with members(desk, 1) as [member]:
        await member.has(SHARDS)
        await desk.act("UPDATE shards SET fencing_token = fencing_token + 1 WHERE id < 3")
        tables = dict(await desk.rows("SELECT id, fencing_token FROM shards"))
        await until(lambda: member.owner.shards == tables)
        assert len(member.owner.lives) == 1
