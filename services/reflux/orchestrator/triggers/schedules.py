"""The table `schedules`: when triggers of time fire next, and how they fared.

Rows follow the flows' current versions, as those of `triggers` do: `replace_schedules` is called inside the
transaction that makes a version, `drop_schedules` inside the one that deletes a flow. Between two versions a
row belongs to the owner of its shard. What the owner writes carries the shard's token and the firing it
started from, so a zombie's writes drop out, and one that comes twice counts once.

Only the database's clock says what is due.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from reflux.core.names import FlowId, RunId
from reflux.core.schedule import Resumed
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from typing import LiteralString

    from psycopg.rows import TupleRow

    from reflux.core.document import JsonValue
    from reflux.core.flow.scheduled import Scheduled
    from reflux.orchestrator.launcher import StartOnce
    from reflux.orchestrator.store.journal import ShardLease
    from reflux.runtime.postgres import Connection, Pool

Place = tuple[FlowId, str]
"""Flow and trigger: the key of a row."""
NOBODY: Final = RunId("00000000-0000-0000-0000-000000000000")
"""What the handle of a firing stands for that shall have no run."""
_LEAST: Final = timedelta(microseconds=1)
MAX_UNFINISHED: Final = 1_000
"""Earlier runs of a trigger that one firing looks at."""


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule that is due, or will be soon."""

    flow_id: FlowId
    trigger_id: str
    flow_version: int
    shard: int
    revision: int
    rule: JsonValue
    scheduled_for: datetime
    """The oldest firing that was not dealt with."""
    fire_at: datetime
    now: datetime
    """By the database's clock, when it was asked."""
    given_up: tuple[datetime, datetime] | None = None
    """What its last pause took away, see `Schedule`."""

    @property
    def place(self) -> Place:
        """Its row."""
        return self.flow_id, self.trigger_id

    @property
    def key(self) -> str:
        """Names the trigger among all."""
        return key_of(self.flow_id, self.trigger_id)


@dataclass(frozen=True, slots=True)
class FiringProblem:
    """Why a firing started no run."""

    scheduled_for: datetime
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the firings of a look."""

    scheduled_for: datetime | None
    """The one to be dealt with next; None: the rule has no other one."""
    fire_at: datetime | None
    last: tuple[datetime, datetime, RunId] | None = None
    """Of the last firing that started a run: its moment, when it was to be started, its run."""
    problem: FiringProblem | None = None
    """Of the last firing, if it could not start one."""
    fired: int = 0
    skipped: int = 0
    missed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """How a schedule stands, for people."""

    rule: Mapping[str, str]
    """See `Scheduled.described`."""
    catchup: str
    overlap: str
    paused: bool
    scheduled_for: datetime | None
    fire_at: datetime | None
    last_scheduled_for: datetime | None
    last_fire_at: datetime | None
    last_run_id: RunId | None
    problem: FiringProblem | None
    problem_at: datetime | None
    fired: int
    skipped: int
    missed: int
    failed: int


class ScheduleStore:
    """Every method may raise psycopg.Error."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(
        self, leases: Collection[ShardLease], *, ahead: timedelta, limit: int, in_hand: Collection[Place] = ()
    ) -> list[Due]:
        """Schedules of these shards that are due within `ahead`, the earliest first, save those `in_hand`."""
        values = {
            "shards": [lease.shard for lease in leases],
            "tokens": [lease.token for lease in leases],
            "ahead": ahead,
            "limit": limit,
            "busy_flows": [flow_id for flow_id, _ in in_hand],
            "busy_triggers": [trigger_id for _, trigger_id in in_hand],
        }
        rows = await self._fetch("find_due_schedules", values)
        return [_due(row) for row in rows]

    async def settle(self, due: Due, lease: ShardLease, settled: Settled) -> bool:
        """Write what became of the firings; False: the schedule is not what it was, or not ours any more."""
        scheduled_for, fire_at, run_id = settled.last or (None, None, None)
        problem = settled.problem
        values = {
            "flow_id": due.flow_id,
            "trigger_id": due.trigger_id,
            "revision": due.revision,
            "was": due.scheduled_for,
            "shard": lease.shard,
            "token": lease.token,
            "scheduled_for": settled.scheduled_for,
            "fire_at": settled.fire_at,
            "last_scheduled_for": scheduled_for,
            "last_fire_at": fire_at,
            "last_run_id": run_id,
            "keep_error": problem is None and settled.last is None,
            "error_scheduled_for": problem and problem.scheduled_for,
            "error_reason": problem and problem.reason,
            "error_message": problem and problem.message,
            "fired": settled.fired,
            "skipped": settled.skipped,
            "missed": settled.missed,
            "failed": settled.failed,
        }
        return bool(await self._fetch("settle_schedule", values))

    async def pass_over(self, lease: ShardLease, firings: Sequence[StartOnce]) -> None:
        """Let these firings of one schedule have no run, but for those that have one; nothing if not ours."""
        values = {
            "shard": lease.shard,
            "token": lease.token,
            "scope": firings[0].scope,
            "keys": [firing.key for firing in firings],
            "digests": [firing.body_digest for firing in firings],
            "nobody": NOBODY,
        }
        await self._fetch("pass_over", values)

    async def unfinished(self, due: Due, lease: ShardLease, actor: str) -> list[RunId]:
        """Runs that a trigger started by itself and that have not ended, oldest first; none if not ours."""
        values = {
            "flow_id": due.flow_id,
            "shard": lease.shard,
            "token": lease.token,
            "actor": actor,
            "limit": MAX_UNFINISHED,
        }
        return [RunId(str(run_id)) for (run_id,) in await self._fetch("unfinished_runs", values)]

    async def pause(self, flow_id: FlowId, trigger_id: str) -> None:
        """Stop it; what is paused stays so."""
        await self._fetch("pause_schedule", {"flow_id": flow_id, "trigger_id": trigger_id})

    async def resume(self, flow_id: FlowId, trigger: Scheduled) -> None:
        """Let it go on, without what came due since its pause; what is not paused goes on as it does."""
        key = key_of(flow_id, trigger.id)
        place = {"flow_id": flow_id, "trigger_id": trigger.id, "rule": _rule(trigger)}
        async with self._pool.connection() as connection, connection.transaction():
            row = await (await connection.execute(_sql("lock_paused_schedule"), place)).fetchone()
            if row is None:
                return
            first, paused_at, *given_up, now = row
            before = replace(trigger.schedule, given_up=_span(*given_up))
            if first is None:  # the rule had no firing any more
                after = Resumed(before, before.next_after(now), 0)
            else:  # a release that did not say when it paused gave up all that waited
                after = before.resumed(first, paused_at or first - _LEAST, now, key)
            start, until = after.schedule.given_up or (None, None)
            values = {
                **place,
                "scheduled_for": after.first,
                "fire_at": after.first and after.schedule.fires_at(after.first, key),
                "given_up_from": start,
                "given_up_until": until,
                "missed": after.missed,
            }
            await connection.execute(_sql("resume_schedule"), values)

    async def _fetch(self, name: str, values: Mapping[str, object]) -> list[TupleRow]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(_sql(name), values)).fetchall()


async def replace_schedules(
    connection: Connection, flow_id: FlowId, version: int, declared: Sequence[Scheduled]
) -> None:
    """Let a flow have these schedules and no others; to be called in the transaction that makes `version`."""
    await drop_schedules(connection, flow_id, [trigger.id for trigger in declared])
    if not declared:
        return
    now = await _now(connection)
    firsts = [first_firing(flow_id, trigger, now) for trigger in declared]
    values: dict[str, object] = {
        "flow_id": flow_id,
        "flow_version": version,
        "ids": [trigger.id for trigger in declared],
        "rules": [_rule(trigger) for trigger in declared],
        "catchups": [trigger.schedule.catchup.value for trigger in declared],
        "overlaps": [trigger.schedule.overlap.value for trigger in declared],
        "scheduled": [first for first, _ in firsts],
        "fires": [fire_at for _, fire_at in firsts],
    }
    await connection.execute(_sql("add_schedules"), values)


async def drop_schedules(connection: Connection, flow_id: FlowId, kept: Sequence[str] = ()) -> None:
    """Take the schedules of a flow away, but for those with an id of `kept`."""
    await connection.execute(_sql("drop_schedules"), {"flow_id": flow_id, "kept": list(kept)})


def first_firing(
    flow_id: FlowId, trigger: Scheduled, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """The first firing after `now`, and when it is to be started."""
    first = trigger.schedule.rule.next_after(now)
    return first, first and trigger.schedule.fires_at(first, key_of(flow_id, trigger.id))


def key_of(flow_id: FlowId, trigger_id: str) -> str:
    """Names a trigger among those of all flows."""
    return f"{flow_id}/{trigger_id}"


def stored_schedule(row: TupleRow) -> StoredSchedule | None:
    """The columns of a schedule from `rule` on; None when the trigger has none."""
    if row[0] is None:
        return None
    run_id, error_for, reason, message, error_at = row[8:13]
    problem = None if reason is None else FiringProblem(error_for, reason, message)
    last_run = None if run_id is None else RunId(str(run_id))
    fields: tuple[Any, ...] = (*row[:8], last_run, problem, error_at, *row[13:])
    return StoredSchedule(*fields)


def _due(row: TupleRow) -> Due:
    fields: tuple[Any, ...] = (FlowId(str(row[0])), *row[1:9], _span(*row[9:]))
    return Due(*fields)


def _span(start: datetime | None, until: datetime | None) -> tuple[datetime, datetime] | None:
    return None if start is None or until is None else (start, until)


def _rule(trigger: Scheduled) -> str:
    return orjson.dumps(trigger.described()["rule"]).decode()


async def _now(connection: Connection) -> datetime:
    row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert row is not None, "a row"
    now: datetime = row[0]
    return now


def _sql(name: str) -> LiteralString:
    return load_sql("reflux.orchestrator.triggers", name)
