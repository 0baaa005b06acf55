"""Short ways to what these tests need: members with shards, writers that run, runs, and rows to look at."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict

from reflux.core.names import FlowId, RunId
from reflux.orchestrator.store.journal import ShardLease, Submission, Writer
from reflux.orchestrator.store.members import RELEASE, MemberId, Membership
from reflux.orchestrator.store.start import Starter, StartRequest
from reflux.runtime.ids import uuid7
from reflux.runtime.postgres import enter_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from reflux.runtime.postgres import Connection, Pool

FLOW = FlowId("00000000-0000-4000-8000-000000000001")
PATIENCE = 20.0


class Runnable(Protocol):
    async def run(self) -> None: ...
    def close(self) -> None: ...


@asynccontextmanager
async def running(*lanes: Runnable) -> AsyncIterator[None]:
    """The lanes work inside the block and finish what they have at its end."""
    async with asyncio.TaskGroup() as tasks:
        for lane in lanes:
            tasks.create_task(lane.run())
        try:
            yield
        finally:
            for lane in lanes:
                lane.close()


async def until(holds: Callable[[], Awaitable[bool]] | Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Return when `holds`; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if answer is True or (not isinstance(answer, bool) and await answer):
                return
            await asyncio.sleep(0.01)


def request(lease: ShardLease, **changes: Any) -> StartRequest:
    now = datetime.now(UTC)
    usual = StartRequest(
        lease=lease,
        run_id=RunId(uuid7(now)),
        flow_id=FLOW,
        flow_name="orders",
        flow_version=1,
        actor="anonymous",
        created_at=now,
        payload=b"created",
        scope="flow",
        body_digest=b"body",
    )
    return replace(usual, **changes)


_ports = itertools.count(2)


@dataclass(frozen=True)
class Desk:
    dsn: str
    admin_dsn: str
    pool: Pool

    def membership(
        self,
        *,
        shards: int = 4,
        lease_seconds: float = 30.0,
        name: str | None = None,
        release: int = RELEASE,
    ) -> Membership:
        """Of an orchestrator at an address of its own, unless one is given."""
        address = name or f"a:{next(_ports)}"
        return Membership(
            self.pool, address=address, shards=shards, lease_seconds=lease_seconds, release=release
        )

    async def newcomer(self) -> MemberId:
        """Another orchestrator that has just joined."""
        member, _ = await self.membership().join()
        return member

    async def member(self, shards: int = 4) -> tuple[Membership, MemberId, list[ShardLease]]:
        """A living member that owns all shards."""
        membership = self.membership(shards=shards, name="a:1")
        await membership.prepare()
        member, _ = await membership.join()
        taken = await membership.take(member, shards)
        return membership, member, sorted(one.lease for one in taken)

    async def leases(self, shards: int = 4) -> list[ShardLease]:
        """The leases of a living member that owns all shards."""
        return (await self.member(shards))[2]

    async def start(self, lease: ShardLease, count: int = 1, **changes: Any) -> list[RunId]:
        """Runs that have begun: event 1 is recorded."""
        starter = Starter(self.dsn)
        async with running(starter):
            started = await asyncio.gather(*(starter.start(request(lease, **changes)) for _ in range(count)))
        return [one.run_id for one in started]

    async def write(self, *submissions: Submission) -> list[object]:
        """What a writer of its own answers to each, exceptions included."""
        writer = Writer(self.dsn)
        async with running(writer):
            return await asyncio.gather(*(writer.submit(one) for one in submissions), return_exceptions=True)

    async def over(self, member: MemberId) -> None:
        """Let the lease of a member be over."""
        await self.act("UPDATE members SET lease_until = now() - interval '1 second' WHERE id = %s", member)

    async def seqs(self, run_id: RunId) -> list[int]:
        """The journal's events of a run."""
        rows = await self.rows("SELECT seq FROM journal WHERE run_id = %s ORDER BY seq", run_id)
        return [seq for (seq,) in rows]

    async def rows(self, statement: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()

    async def act(self, statement: str, *parameters: object) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(statement, parameters)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A session that may open transactions, to stand in somebody's way."""
        connection = await AsyncConnection.connect(self.dsn, autocommit=True)
        try:
            await enter_service(connection, "orchestrator")
            yield connection
        finally:
            await connection.close()

    async def waiting(self, application: str) -> bool:
        """Whether a session of that name waits for a lock."""
        return bool(await self._sessions("pid", application, "AND wait_event_type = 'Lock'"))

    async def terminate(self, application: str) -> None:
        """End the sessions of that name, as a restart of the database would, and see them gone."""
        pids = [pid for pid, _ in await self._sessions("pid, pg_terminate_backend(pid)", application)]

        async def gone() -> bool:
            return not {pid for (pid,) in await self._sessions("pid", application)} & set(pids)

        await until(gone)

    async def cancel(self, application: str) -> None:
        """Give up the statements of the sessions of that name, as a timeout would."""
        await self._sessions("pg_cancel_backend(pid)", application)

    async def _sessions(self, what: str, application: str, which: str = "") -> Sequence[tuple[Any, ...]]:
        database = conninfo_to_dict(self.dsn)["dbname"]
        async with await AsyncConnection.connect(self.admin_dsn, autocommit=True) as connection:
            found = await connection.execute(
                f"SELECT {what} FROM pg_stat_activity WHERE datname = %s AND application_name = %s {which}",
                (database, application),
            )
            return await found.fetchall()
