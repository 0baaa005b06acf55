"""Triggers in PostgreSQL: who has which path, for deliveries, for lists, and for whoever wants one.

The rows follow the flows' current versions: `replace_triggers` is called inside the transaction that makes a
version, `drop_triggers` inside the one that deletes a flow, after it has the flow to itself. When those of
time fire is kept beside them (`schedules`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from reflux.core.errors import AlreadyExists
from reflux.core.flow.manual import MANUAL_TYPE, Manual
from reflux.core.flow.scheduled import Scheduled
from reflux.core.flow.webhook import TRIGGER_TYPE, Webhook
from reflux.core.names import FlowId
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.schedules import (
    StoredSchedule,
    drop_schedules,
    replace_schedules,
    stored_schedule,
)
from reflux.runtime.documents import dump
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg.rows import TupleRow

    from reflux.core.flow.triggers import Trigger
    from reflux.runtime.postgres import Connection, Pool


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is served at a method and path."""

    method: str
    path: str
    flow_id: FlowId
    flow_name: str
    trigger_id: str
    flow_version: int


@dataclass(frozen=True, slots=True)
class StoredTrigger:
    """A trigger as lists show it."""

    flow_id: FlowId
    flow_name: str
    flow_version: int
    id: str
    type: str
    """webhook, cron, interval or manual."""
    method: str | None
    """This and the next three are a webhook's."""
    path: str | None
    auth: str | None
    respond: str | None
    created_at: datetime
    title: str
    description: str
    form: bytes
    """JSON Schema; empty: none, or not asked for."""
    schedule: StoredSchedule | None


class TriggerStore:
    """The table `triggers`, read. Every method may raise psycopg.Error."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def owners(self, ways: Sequence[tuple[str, str]]) -> list[Owner]:
        """Who has these (method, path); nothing for those that are free."""
        async with self._pool.connection() as connection:
            return await find_owners(connection, ways)

    async def get(self, flow_id: FlowId, trigger_id: str) -> StoredTrigger | None:
        """One trigger of a flow, or None."""
        rows = await self._fetch("get_trigger", {"flow_id": flow_id, "trigger_id": trigger_id})
        return _stored(rows[0]) if rows else None

    async def page(self, flow_id: FlowId | None, after: tuple[str, str], limit: int) -> list[StoredTrigger]:
        """At most `limit` triggers by flow name and id, of one flow or of all, the first after `after`."""
        values = {"flow_id": flow_id, "after_name": after[0], "after_id": after[1], "limit": limit}
        return [_stored(row) for row in await self._fetch("list_triggers", values)]

    async def _fetch(self, name: str, values: Mapping[str, object]) -> list[TupleRow]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(_sql(name), values, binary=True)).fetchall()


async def replace_triggers(
    connection: Connection, flow_id: FlowId, version: int, declared: Sequence[Trigger]
) -> None:
    """Let a flow have these triggers and no others; to be called in the transaction that makes `version`.

    Raises:
        psycopg.errors.UniqueViolation: of `triggers_by_path`: another flow has one of the paths.
    """
    born = await _drop_rows(connection, flow_id)
    timed = [trigger for trigger in declared if isinstance(trigger, Scheduled)]
    await replace_schedules(connection, flow_id, version, timed)
    if not declared:
        return
    hooks = [trigger if isinstance(trigger, Webhook) else None for trigger in declared]
    manual = [trigger if isinstance(trigger, Manual) else None for trigger in declared]
    values: dict[str, object] = {
        "flow_id": flow_id,
        "flow_version": version,
        "ids": [trigger.id for trigger in declared],
        "types": [type_of(trigger) for trigger in declared],
        "methods": [hook and hook.method for hook in hooks],
        "paths": [hook and hook.path for hook in hooks],
        "auths": [hook and ("hmac" if hook.hmac else "none") for hook in hooks],
        "responds": [hook and hook.respond.value for hook in hooks],
        "titles": [one.title if one else "" for one in manual],
        "descriptions": [one.description if one else "" for one in manual],
        "forms": [_form(one) for one in manual],
        "created": [born.get(trigger.id) for trigger in declared],
    }
    await connection.execute(_sql("add_triggers"), values)


def type_of(trigger: Trigger) -> str:
    """As the flow's document says it."""
    if isinstance(trigger, Scheduled):
        return trigger.type
    return MANUAL_TYPE if isinstance(trigger, Manual) else TRIGGER_TYPE


async def drop_triggers(connection: Connection, flow_id: FlowId) -> None:
    """Take a flow's triggers away, whoever saved them.

    To be called in a transaction that has locked the flow's row by a statement before: this one sees, with a
    snapshot of its own, what those that were waited for have saved.
    """
    await _drop_rows(connection, flow_id)
    await drop_schedules(connection, flow_id)


async def _drop_rows(connection: Connection, flow_id: FlowId) -> dict[str, datetime]:
    """Take the rows of triggers away; when each had come, by id."""
    dropped = await connection.execute(_sql("drop_triggers"), {"flow_id": flow_id})
    return dict(await dropped.fetchall())


async def find_owners(connection: Connection, ways: Sequence[tuple[str, str]]) -> list[Owner]:
    """Which flows that are not deleted have these (method, path)."""
    values = {"methods": [method for method, _ in ways], "paths": [path for _, path in ways]}
    rows = await (await connection.execute(_sql("find_owners"), values)).fetchall()
    return [
        Owner(method, path, FlowId(str(flow_id)), flow_name, trigger_id, version)
        for method, path, flow_id, flow_name, trigger_id, version in rows
    ]


def path_taken(owner: Owner | None) -> AlreadyExists:
    """Another flow is served there; None when it has just let go of it."""
    if owner is None:
        message = "a path of this flow's triggers was another flow's until a moment ago: try again"
        return AlreadyExists(Reason.WEBHOOK_PATH_TAKEN, message)
    return AlreadyExists(
        Reason.WEBHOOK_PATH_TAKEN,
        f"{taken(owner)}: choose another path or method, or change that flow",
        metadata={
            "method": owner.method,
            "path": owner.path,
            "flow_id": owner.flow_id,
            "flow_name": owner.flow_name,
            "trigger_id": owner.trigger_id,
        },
    )


def taken(owner: Owner) -> str:
    """That somebody has a path, in people's words."""
    way = f"{owner.method} /hooks/{owner.path}"
    return f"{way} belongs to the trigger {owner.trigger_id} of flow {owner.flow_name}"


def _sql(name: str) -> LiteralString:
    return load_sql("reflux.orchestrator.triggers", name)


def _form(trigger: Manual | None) -> str:
    return "" if trigger is None or trigger.form is None else dump(trigger.form.source).decode()


def _stored(row: TupleRow) -> StoredTrigger:
    form, *schedule = row[12:]
    fields: tuple[Any, ...] = (
        FlowId(str(row[0])),
        *row[1:12],
        form.encode(),
        stored_schedule(tuple(schedule)),
    )
    return StoredTrigger(*fields)
