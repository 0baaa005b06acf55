"""Takeover: a member dies by the database's clock alone, and only then do its shards move."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from reflux.core.errors import Refused
from reflux.orchestrator.store.errors import LeaseLost
from tests.store.orchestrator.support import Desk, until

if TYPE_CHECKING:
    from reflux.orchestrator.store.members import MemberId, Membership

POOL_NAME = "reflux-orchestrator"


async def test_shards_of_the_dead_move_under_higher_tokens(desk: Desk) -> None:
    """Who takes over learns that the former owner died, and gets tokens that void all of its writes."""
    _, dead, before = await desk.member()
    await desk.over(dead)
    heir = desk.membership(name="b:1")
    member, _ = await heir.join()
    assert await heir.take(member, 4) == []
    assert (await heir.survey(member)).overdue
    assert await heir.declare_dead() == ["a:1"]
    assert not (await heir.survey(member)).overdue
    taken = sorted(await heir.take(member, 4), key=lambda one: one.lease)
    assert [one.lease.shard for one in taken] == [lease.shard for lease in before]
    assert all(one.orphaned for one in taken)
    assert [one.lease.token for one in taken] == [lease.token + 1 for lease in before]


async def test_shards_of_the_living_stay(desk: Desk) -> None:
    """Nothing is taken from a member whose lease runs, whatever a newcomer wants."""
    membership, owner, leases = await desk.member()
    newcomer = await desk.newcomer()
    assert await membership.declare_dead() == []
    assert await membership.take(newcomer, 4) == []
    survey = await membership.survey(owner)
    assert survey.mine == dict(leases)
    assert not survey.overdue


async def test_a_heartbeat_that_hits_no_row_means_that_the_lease_is_lost(desk: Desk) -> None:
    """Dead or gone is for ever: the member cannot come back under its id, nor take shards."""
    membership, member, _ = await desk.member()
    await desk.over(member)
    await membership.declare_dead()
    with pytest.raises(LeaseLost):
        await membership.heartbeat(member)
    assert await membership.take(member, 4) == []


async def test_a_late_heartbeat_that_comes_before_the_verdict_keeps_everything(desk: Desk) -> None:
    """A renewal under way makes the verdict wait, which is then given on the renewed lease."""
    membership, owner, leases = await desk.member()
    await desk.over(owner)
    async with desk.session() as session:
        await session.execute("BEGIN")
        await session.execute(
            "UPDATE members SET lease_until = clock_timestamp() + interval '30 seconds'"
            " WHERE id = %s AND state = 'alive'",
            (owner,),
        )
        verdict = asyncio.ensure_future(membership.declare_dead())
        await until(lambda: desk.waiting(POOL_NAME))
        await session.execute("COMMIT")
    assert await verdict == []
    newcomer = await desk.newcomer()
    assert await membership.take(newcomer, 4) == []
    assert (await membership.survey(owner)).mine == dict(leases)


async def test_heartbeats_and_takeovers_at_the_same_moment_never_both_win(desk: Desk) -> None:
    """Over many races at the edge of the lease: either the owner lives with all its shards, or it is dead."""
    membership, owner, _ = await desk.member()
    heir = await desk.newcomer()
    lives = 0
    for delay in range(30):
        await desk.over(owner)
        renewed, taken = await asyncio.gather(
            _renew(membership, owner, delay / 2_000), _take_over(membership, heir)
        )
        mine = (await membership.survey(owner)).mine
        assert renewed == (taken == 0), "a living owner lost shards, or a dead one kept them from its heir"
        assert len(mine) == (4 if renewed else 0)
        lives += renewed
        if not renewed:
            owner, heir = heir, await desk.newcomer()
    assert lives < 30


async def _renew(membership: Membership, member: MemberId, delay: float) -> bool:
    await asyncio.sleep(delay)
    try:
        await membership.heartbeat(member)
    except LeaseLost:
        return False
    return True


async def _take_over(membership: Membership, heir: MemberId) -> int:
    await membership.declare_dead()
    return len(await membership.take(heir, 4))


async def test_heirs_at_the_same_moment_share_without_overlap(desk: Desk) -> None:
    """Each shard goes to exactly one of several who want all of them."""
    membership, dead, _ = await desk.member(shards=32)
    heirs = [await desk.newcomer() for _ in range(4)]
    await desk.over(dead)
    await membership.declare_dead()
    shares = await asyncio.gather(*(membership.take(heir, 32) for heir in heirs))
    taken = [one.lease.shard for share in shares for one in share]
    assert sorted(taken) == list(range(32))


async def test_given_up_shards_are_free_at_once_and_not_orphaned(desk: Desk) -> None:
    """A planned hand-over is no recovery; its token rises all the same."""
    membership, member, leases = await desk.member()
    heir = await desk.newcomer()
    assert await membership.release(member, [leases[0].shard]) == [leases[0].shard]
    [one] = await membership.take(heir, 4)
    assert (one.lease.shard, one.orphaned) == (leases[0].shard, False)
    assert one.lease.token > leases[0].token
    await membership.leave(member)
    rest = await membership.take(heir, 4)
    assert sorted(one.lease.shard for one in rest) == [lease.shard for lease in leases[1:]]
    assert not any(one.orphaned for one in rest)
    with pytest.raises(LeaseLost):
        await membership.heartbeat(member)


async def test_what_is_not_owned_cannot_be_given_up(desk: Desk) -> None:
    """A zombie that releases its shards does not take them from their new owner."""
    membership, zombie, leases = await desk.member()
    heir = await desk.newcomer()
    await desk.over(zombie)
    await membership.declare_dead()
    taken = {one.lease.shard: one.lease.token for one in await membership.take(heir, 4)}
    assert await membership.release(zombie, [lease.shard for lease in leases]) == []
    await membership.leave(zombie)
    assert (await membership.survey(heir)).mine == taken


async def test_members_that_are_long_gone_are_forgotten(desk: Desk) -> None:
    """Every start adds a member; a day after its end the next one clears it away, unless shards name it."""
    _, owner, _ = await desk.member()
    idle = await desk.newcomer()
    await desk.act("UPDATE members SET state = 'dead', lease_until = now() - interval '2 days'")
    newcomer = await desk.newcomer()
    kept = {member for (member,) in await desk.rows("SELECT id::text FROM members")}
    assert kept == {owner, newcomer}
    assert idle not in kept


async def test_the_number_of_shards_is_fixed_when_the_database_is_first_used(desk: Desk) -> None:
    """Runs are spread by it: two orchestrators starting at once agree, another number is refused."""
    async with desk.session() as other:
        await other.execute("BEGIN")
        await other.execute("INSERT INTO shards (id) SELECT generate_series(0, 7)")
        prepared = asyncio.ensure_future(desk.membership(shards=8).prepare())
        await until(lambda: desk.waiting(POOL_NAME))
        await other.execute("COMMIT")
    await prepared
    assert await desk.rows("SELECT count(*) FROM shards") == [(8,)]
    with pytest.raises(Refused, match="set shards = 8"):
        await desk.membership(shards=16).prepare()


async def test_whoever_comes_back_at_an_address_waits_for_no_lease(desk: Desk) -> None:
    """Killed and restarted it has its shards again at once; the heartbeat of the one before finds nothing."""
    _, former, leases = await desk.member()
    again = desk.membership(name="a:1")
    member, _ = await again.join()
    taken = await again.take(member, 4)
    assert sorted(one.lease.shard for one in taken) == [lease.shard for lease in leases]
    assert all(one.orphaned for one in taken)
    with pytest.raises(LeaseLost):
        await again.heartbeat(former)
