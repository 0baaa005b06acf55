"""The right to advance runs: stay alive, take over from the dead, share fairly. The loop and its policy.

Rules:
- The lease counts as lost here before it can be over in the database: it is measured from before the
  heartbeat was sent, and shortened by a margin for clocks that run at other speeds.
- Lost, by time or because a heartbeat found no living member: the owner drops every shard at once, then
  joins anew. Nothing of the former life is resumed, because writes of it may still be under way.
- What the tables say is ours is ours (`Survey.mine`): a `take` or `release` whose answer got lost is found
  out by the next look, so no shard is stranded and none is kept by mistake.
- A shard is dropped by the owner before it is given up in the tables.
- Everybody looks three times a second: a planned drain hands over within one second, and a death is noticed
  at once when the lease is over.

Time alone cannot keep a zombie out; this makes zombies rare, and their tokens make them harmless (`journal`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import psycopg

from reflux.orchestrator import metrics
from reflux.orchestrator.store.errors import LeaseLost
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.store.members import Taken
from reflux.runtime.logs import get_logger
from reflux.runtime.tasks import forever, heed_cancel

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from reflux.orchestrator.store.members import DatabaseTime, MemberId, Membership, Survey
    from reflux.runtime.clock import DatabaseClock

LOOK_SECONDS: Final = 0.3
MARGIN: Final = 0.9
"""Share of the lease for which it counts as valid here."""
LEAVE_SECONDS: Final = 2.0
_PAUSE: Final = 0.25
_AWAY: Final = (psycopg.Error, TimeoutError, OSError)

log = get_logger("lease")


class Owner(Protocol):
    """Who advances runs. Nothing here may wait: hand it to a queue."""

    def joined(self, member: MemberId) -> None:
        """A new life begins, without shards."""

    def gained(self, shards: Sequence[Taken]) -> None:
        """These are ours: adopt their runs."""

    def busy(self) -> Collection[int]:
        """Shards in which something is under way that would be lost or ambiguous if they were given up."""

    def lost(self, shards: Collection[int]) -> None:
        """These are not ours any more: drop their runs, acknowledge nothing, send nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for a fair share; at most one of them is not 0."""

    take: int = 0
    release: int = 0


def plan_shards(survey: Survey) -> Plan:
    """The share of n shards among m members is n // m, and one more for the first n % m that joined.

    A newcomer ranks last, so nobody else's rank changes; members agree without talking. What is not free yet
    is being released by somebody with too much, and found by a later look. Who is of an older release than
    somebody alive has no share.
    """
    mine = len(survey.mine)
    if survey.outdated:
        return Plan(release=mine)
    share, rest = divmod(survey.shards, max(survey.alive, 1))
    target = share + (survey.rank < rest)
    return Plan(release=mine - target) if mine > target else Plan(take=min(target - mine, survey.free))


class Lease:
    """Keeps one orchestrator a member, and tells its owner what it may advance. Somebody must `run` it."""

    def __init__(self, membership: Membership, owner: Owner, clock: DatabaseClock) -> None:
        """`clock` learns the database's time with each heartbeat."""
        self._membership = membership
        self._owner = owner
        self._clock = clock
        self._seconds = membership.lease_seconds
        self._held: dict[int, int] = {}
        self._leases: list[ShardLease] | None = None
        """`_held` as it is given out; None when it has changed since."""
        self._member: MemberId | None = None
        self._until = float("-inf")
        self._expiry: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._leaving = asyncio.Event()

    @property
    def member(self) -> MemberId | None:
        """Who we are in this life; `None`: between two lives."""
        return self._member

    def valid(self) -> bool:
        """Whether the lease surely has not run out in the database."""
        return self._member is not None and self._membership.uptime() < self._until

    def held(self) -> Sequence[ShardLease]:
        """The shards we may advance, none when the lease is not valid."""
        if not self.valid():
            return []
        if self._leases is None:
            self._leases = [ShardLease(*item) for item in self._held.items()]
        return self._leases

    def give_up(self) -> None:
        """Before a planned end: our fair share is nothing from now on, and others may have it at once."""
        self._leaving.set()

    def rejoin(self) -> None:
        """End this life at once and begin another: it is not known what was written (`CommitUnknown`)."""
        self._end("rejoin")

    async def run(self) -> None:
        """Be a member, life after life, until cancelled; then leave, within 2 s.

        Raises:
            Refused: the database has another number of shards than the settings.
        """
        with metrics.SHARDS_HELD.watched(lambda: {(): len(self._held)}):
            await self._live_on()

    async def _live_on(self) -> None:
        """Life after life."""
        for _ in forever():
            try:
                await self._membership.prepare()
                async with asyncio.timeout(self._seconds):
                    member, time = await self._membership.join()
            except _AWAY as error:
                log.warning("lease_not_joined", error=str(error) or type(error).__name__)
                await asyncio.sleep(_PAUSE)
            else:
                await self._live(member, time)

    async def _live(self, member: MemberId, time: DatabaseTime) -> None:
        """One life, from joining to its end."""
        self._member = member
        self._over.clear()
        self._owner.joined(member)
        self._renew(time)
        metrics.LEASE_CHANGES.at("joined").add()
        log.info("lease_joined", member=member)
        try:
            heed_cancel()  # lost while joining
            async with asyncio.TaskGroup() as life:
                tasks = life.create_task(self._beat(member)), life.create_task(self._look(member))
                await self._over.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._end("stopped")
            with suppress(*_AWAY):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._membership.leave(member)

    async def _beat(self, member: MemberId) -> None:
        """Renew until it turns out that there is nothing to renew; the database may be away for a while."""
        for _ in forever():
            await asyncio.sleep(self._seconds / 3)
            try:
                async with asyncio.timeout(self._seconds / 3):
                    self._renew(await self._membership.heartbeat(member))
            except LeaseLost:
                self._end("not alive")
            except _AWAY as error:
                log.warning("lease_not_renewed", member=member, error=str(error) or type(error).__name__)

    async def _look(self, member: MemberId) -> None:
        """End the lives of others that are over, and keep to the fair share."""
        for _ in forever():
            try:
                await self._balance(member)
            except _AWAY as error:
                log.warning("lease_not_balanced", member=member, error=str(error) or type(error).__name__)
            pause = min(LOOK_SECONDS, self._seconds / 3)
            if self._leaving.is_set():
                await asyncio.sleep(pause / 5)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._leaving.wait()

    async def _balance(self, member: MemberId) -> None:
        survey = await self._membership.survey(member)
        if survey.overdue:
            for address in await self._membership.declare_dead():
                metrics.LEASE_CHANGES.at("other_dead").add()
                log.warning("lease_of_other_over", address=address)
            survey = await self._membership.survey(member)
        self._reconcile(survey.mine)
        plan = Plan(release=len(self._held)) if self._leaving.is_set() else plan_shards(survey)
        if plan.release:
            # A busy shard stays until a later look.
            idle = sorted(set(self._held).difference(self._owner.busy()))
            shards = idle[-plan.release :]
            self._drop(shards, "released")
            if shards:
                await self._membership.release(member, shards)
        elif plan.take:
            self._gain(await self._membership.take(member, plan.take))

    def _reconcile(self, mine: dict[int, int]) -> None:
        """Believe the tables: a shard under another token is lost, one that we did not know of is ours."""
        self._drop([shard for shard, token in self._held.items() if mine.get(shard) != token])
        self._gain(
            [Taken(ShardLease(*item), orphaned=True) for item in mine.items() if item[0] not in self._held]
        )

    def _gain(self, taken: Sequence[Taken]) -> None:
        if taken and not self._over.is_set():
            self._held.update(one.lease for one in taken)
            self._leases = None
            self._owner.gained(taken)
            for one in taken:
                metrics.SHARD_CHANGES.at("inherited" if one.orphaned else "taken").add()
            log.info("shards_gained", shards=len(taken), orphaned=sum(one.orphaned for one in taken))

    def _drop(self, shards: Sequence[int], change: str = "lost") -> None:
        if shards:
            for shard in shards:
                del self._held[shard]
            self._leases = None
            self._owner.lost(shards)
            metrics.SHARD_CHANGES.at(change).add(len(shards))
            log.info("shards_lost", shards=len(shards))

    def _renew(self, time: DatabaseTime) -> None:
        if self._over.is_set():
            return
        self._clock.set_offset(time.time)
        self._until = time.sent + MARGIN * self._seconds
        if self._expiry is not None:
            self._expiry.cancel()
        left = self._until - self._membership.uptime()
        self._expiry = asyncio.get_running_loop().call_later(left, self._end, "expired")

    def _end(self, why: str) -> None:
        """End this life, here and now. Not a coroutine: it must not wait for a silent database."""
        if self._over.is_set() or self._member is None:
            return
        metrics.LEASE_CHANGES.at(why.replace(" ", "_")).add()
        log.info("lease_ended", member=self._member, why=why)
        self._member = None
        self._over.set()
        if self._expiry is not None:
            self._expiry.cancel()
        self._drop(list(self._held), "released" if why == "stopped" else "lost")
