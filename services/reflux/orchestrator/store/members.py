"""Who is alive, and which shards are whose. One statement per act; `lease` decides when to do what.

A member's life: `join` → `heartbeat`s → `leave`, or death, which others declare when its lease is over. Both
ends are final; whoever comes back comes as a new member. A shard's token rises with every change of owner.

While an upgrade is under way members of two releases live side by side. Shards move from the older to the
newer one and never back, because what the newer one writes the older one may not be able to fold.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NewType
from uuid import uuid4

from reflux.core.errors import Refused
from reflux.core.reasons import Reason
from reflux.orchestrator.store.errors import LeaseLost
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.store.pool import fetch, store_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from reflux.runtime.postgres import Pool

MemberId = NewType("MemberId", str)

RELEASE: Final = 1
"""Rises whenever journals may hold what the release before cannot fold; see `tests/golden/releases.json`."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where the system has such a clock: a lease does too."""


def uptime() -> float:
    """Seconds of this machine, never set, of no meaning elsewhere."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class DatabaseTime:
    """What the database's clock showed, after a moment of ours."""

    time: datetime
    sent: float
    """`uptime()` before the question."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A shard that is ours now."""

    lease: ShardLease
    orphaned: bool
    """Its former owner died: its runs are recoveries."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a member sees of all."""

    alive: int
    """Members of its release."""
    rank: int
    """Of this member among them, from 0, by the time of joining."""
    shards: int
    free: int
    """Shards without a living owner that no newer release has owned."""
    mine: dict[int, int]
    """Shard → token, as the tables have it."""
    outdated: bool = False
    """A member of a newer release lives: everything is that one's."""
    overdue: bool = False
    """Somebody's lease is over, and nobody has declared it dead."""


class Membership:
    """Statements about members and shards. Every method may raise `psycopg.Error`: the database is away."""

    def __init__(
        self,
        pool: Pool,
        *,
        address: str,
        shards: int,
        lease_seconds: float,
        release: int = RELEASE,
        uptime: Callable[[], float] = uptime,
    ) -> None:
        """`pool`: best one of its own, so that no reader keeps a heartbeat waiting; `address`: where nodes
        claim; `shards`: how many a new database gets; `uptime`: by what a lease is measured here.
        """
        self.uptime = uptime
        self.lease_seconds = lease_seconds
        self._pool = pool
        self._address = address
        self._shards = shards
        self._release = release

    async def prepare(self) -> None:
        """Make the shards if there are none.

        Raises:
            Refused: the database has another number of shards; it cannot be changed.
        """
        await self._act("create_shards", shards=self._shards)
        [(count,)] = await fetch(self._pool, "count_shards", {})
        if count != self._shards:
            raise Refused(
                Reason.ARGUMENT_INVALID,
                f"this database was made with {count} shards, not {self._shards}: set shards = {count}",
            )

    async def join(self) -> tuple[MemberId, DatabaseTime]:
        """Become a new member, alive for one lease; a former one at this address is dead by that."""
        member = MemberId(str(uuid4()))
        sent = self.uptime()
        given = {"address": self._address, "release": self._release, "lease": self._lease()}
        rows = await fetch(self._pool, "join", {"member": member, **given})
        return member, DatabaseTime(rows[0][0], sent)

    async def heartbeat(self, member: MemberId) -> DatabaseTime:
        """Stay alive for another lease.

        Raises:
            LeaseLost: the member is not alive; it never will be again.
        """
        sent = self.uptime()
        rows = await fetch(self._pool, "heartbeat", {"member": member, "lease": self._lease()})
        if not rows:
            raise LeaseLost
        return DatabaseTime(rows[0][0], sent)

    async def leave(self, member: MemberId) -> None:
        """End the membership in order and give up its shards."""
        await self._act("leave", member=member)

    async def declare_dead(self) -> list[str]:
        """End the memberships whose lease is over; their addresses."""
        return [address for _, address in await fetch(self._pool, "declare_dead", {})]

    async def take(self, member: MemberId, limit: int) -> list[Taken]:
        """Take up to `limit` shards without a living owner; fewer if others take them meanwhile."""
        given = {"member": member, "limit": limit, "release": self._release}
        rows = await fetch(self._pool, "take_shards", given)
        return [Taken(ShardLease(shard, token), orphaned) for shard, token, orphaned in rows]

    async def release(self, member: MemberId, shards: Iterable[int]) -> list[int]:
        """Give up some shards; which of them were still ours."""
        rows = await fetch(self._pool, "release_shards", {"member": member, "shards": list(shards)})
        return [shard for (shard,) in rows]

    async def survey(self, member: MemberId) -> Survey:
        """Look at all members and shards."""
        given = {"member": member, "release": self._release}
        [row] = await fetch(self._pool, "survey", given)
        alive, rank, outdated, overdue, shards, free, ids, tokens = row
        return Survey(alive, rank, shards, free, dict(zip(ids, tokens, strict=True)), outdated, overdue)

    async def _act(self, name: str, **parameters: object) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(store_sql(name), parameters)

    def _lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)
