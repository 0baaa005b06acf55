"""Flows in PostgreSQL.

Each change is one statement or one short transaction, and carries the version that its author had seen: two
authors at the same time cannot undo each other without knowing. Documents go in and out as bytes; nothing
here reads them. The triggers that a version declares are written in the transaction that makes it, and go in
the one that deletes the flow, so that a path never leads to a flow that does not declare it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, LiteralString

from psycopg.errors import UniqueViolation

from reflux.core.errors import AlreadyExists
from reflux.core.flow.webhook import Webhook
from reflux.core.names import FlowId, is_id, is_name
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.store import drop_triggers, find_owners, path_taken, replace_triggers
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg.rows import TupleRow

    from reflux.core.flow.limits import Limits
    from reflux.core.flow.triggers import Trigger
    from reflux.runtime.postgres import Connection, Pool

NO_VERSION: Final = 1 << 30
"""Above every version: where a list of versions begins."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a version freezes."""

    digest: str
    """sha256 of the canonical spec, hexadecimal."""
    description: str
    spec: bytes
    """JSON."""
    ui: bytes
    """JSON."""


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """A flow with one of its versions."""

    id: FlowId
    name: str
    created_at: datetime
    version: int
    content: Content
    author: str
    version_created_at: datetime


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """A flow in a list."""

    id: FlowId
    name: str
    version: int
    created_at: datetime
    digest: str
    description: str
    version_created_at: datetime


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """A version in a list."""

    flow_id: FlowId
    version: int
    digest: str
    author: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Current:
    """Which version a new run of a flow begins with."""

    flow_id: FlowId
    name: str
    version: int


class FlowStore:
    """The tables `flows`, `flow_versions` and `flow_requests`. Every method may raise psycopg.Error."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self,
        flow_id: FlowId,
        name: str,
        content: Content,
        author: str,
        request: tuple[str, str] | None,
        *,
        triggers: Sequence[Trigger],
    ) -> FlowId:
        """Save a new flow as version 1.

        Args:
            flow_id: of the new flow.
            name: unique among the flows.
            content: of version 1.
            author: who asked.
            request: the caller's `request_id`, and a digest of all that was asked with it.
            triggers: what version 1 declares.

        Returns:
            `flow_id`, or the id of the flow that the same request made before.

        Raises:
            AlreadyExists: FLOW_NAME_TAKEN, WEBHOOK_PATH_TAKEN, or REQUEST_ID_REUSED for something else.
        """
        values = {"flow_id": flow_id, "name": name, "author": author, **_columns(content)}
        try:
            async with self._pool.connection() as connection, connection.transaction():
                before = None if request is None else await _claim(connection, flow_id, request)
                if before is None:
                    await connection.execute(_sql("create_flow"), values)
                    await replace_triggers(connection, flow_id, 1, triggers)
                return before or flow_id
        except UniqueViolation as violation:
            raise await self._taken(violation, flow_id, name, triggers) from None

    async def save(
        self,
        seen: StoredFlow,
        name: str,
        content: Content | None,
        author: str,
        *,
        triggers: Sequence[Trigger],
        limits: Limits,
    ) -> bool:
        """Make a new version with its triggers and limits, or with `content` None give the flow another name.

        The limits hold at once, also for runs that wait already.

        Returns:
            False when the flow was changed or deleted since it was as `seen`.

        Raises:
            AlreadyExists: FLOW_NAME_TAKEN, WEBHOOK_PATH_TAKEN.
        """
        flow_id = seen.id
        values = {"flow_id": flow_id, "name": name, "seen_version": seen.version, "seen_name": seen.name}
        try:
            if content is None:
                return bool(await self._fetch("rename_flow", values))
            values |= {"author": author, **_columns(content)}
            async with self._pool.connection() as connection, connection.transaction():
                saved = await (await connection.execute(_sql("save_version"), values)).fetchone()
                if saved is not None:
                    await replace_triggers(connection, flow_id, saved[0], triggers)
                    await connection.execute(_sql("change_limits"), _said(flow_id, saved[0], limits))
        except UniqueViolation as violation:
            raise await self._taken(violation, flow_id, name, triggers) from None
        return saved is not None

    async def delete(self, key: str) -> FlowId | None:
        """Delete a flow by id or name; None when there is none."""
        if not _may_exist(key):
            return None
        async with self._pool.connection() as connection, connection.transaction():
            gone = await (await connection.execute(_sql("delete_flow"), _key(key))).fetchone()
            if gone is None:
                return None
            flow_id = FlowId(str(gone[0]))
            await drop_triggers(connection, flow_id)
        return flow_id

    async def find(self, key: str, version: int | None = None) -> StoredFlow | None:
        """A flow by id or name, with `version` or else its current one; None when either is not there.

        A version is found by the id also after the flow was deleted: its runs go on.
        """
        rows = await self._fetch("find_flow", {**_key(key), "version": version}) if _may_exist(key) else []
        if not rows:
            return None
        flow_id, name, created, number, digest, description, spec, ui, author, version_created = rows[0]
        content = Content(digest, description, bytes(spec), bytes(ui))
        return StoredFlow(FlowId(str(flow_id)), name, created, number, content, author, version_created)

    async def current(self, key: str, *, deleted: bool = False) -> Current | None:
        """The current version of a flow by id or name; None when there is no such flow.

        With `deleted` a flow is found by its id also after it was deleted.
        """
        values = {**_key(key), "deleted": deleted}
        rows = await self._fetch("find_current", values) if _may_exist(key) else []
        return Current(FlowId(str(rows[0][0])), rows[0][1], rows[0][2]) if rows else None

    async def spec(self, flow_id: FlowId, version: int) -> tuple[str, bytes] | None:
        """Name and spec of a version, also of a deleted flow; None when there is no such version."""
        rows = await self._fetch("read_spec", {"flow_id": flow_id, "version": version})
        return (rows[0][0], bytes(rows[0][1])) if rows else None

    async def flows(self, after_name: str, limit: int) -> list[FlowSummary]:
        """At most `limit` flows by name, the first after `after_name`."""
        rows = await self._fetch("list_flows", {"after_name": after_name, "limit": limit})
        return [FlowSummary(FlowId(str(row[0])), *row[1:]) for row in rows]

    async def versions(self, flow_id: FlowId, before_version: int, limit: int) -> list[VersionSummary]:
        """At most `limit` versions, newest first, all below `before_version`."""
        values = {"flow_id": flow_id, "before_version": before_version, "limit": limit}
        rows = await self._fetch("list_versions", values)
        return [VersionSummary(FlowId(str(row[0])), *row[1:]) for row in rows]

    async def _taken(
        self, violation: UniqueViolation, flow_id: FlowId, name: str, triggers: Sequence[Trigger]
    ) -> AlreadyExists:
        """What of a flow is somebody else's: its name, or a path."""
        if violation.diag.constraint_name != "triggers_by_path":
            return _name_taken(name)
        async with self._pool.connection() as connection:
            hooks = [trigger for trigger in triggers if isinstance(trigger, Webhook)]
            owners = await find_owners(connection, [(hook.method, hook.path) for hook in hooks])
        return path_taken(next((owner for owner in owners if owner.flow_id != flow_id), None))

    async def _fetch(self, name: str, values: Mapping[str, object]) -> list[TupleRow]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(_sql(name), values, binary=True)).fetchall()


async def _claim(connection: Connection, flow_id: FlowId, request: tuple[str, str]) -> FlowId | None:
    """Take the handle of a request for `flow_id`; the flow it stands for when it is held."""
    request_id, body_digest = request
    values = {"request_id": request_id, "body_digest": body_digest, "flow_id": flow_id}
    claimed = await connection.execute(_sql("claim_request"), values)
    if await claimed.fetchone() is not None:
        return None
    held = await (await connection.execute(_sql("read_request"), values)).fetchone()
    assert held is not None, "a handle that is held goes only by expiring"
    if held[1] == body_digest:
        return FlowId(str(held[0]))
    raise AlreadyExists(
        Reason.REQUEST_ID_REUSED,
        "this request_id was used within 7 days for something else: use another one",
        metadata={"request_id": request_id, "flow_id": str(held[0])},
    )


def _sql(name: str) -> LiteralString:
    return load_sql("reflux.orchestrator.flows", name)


def _key(key: str) -> dict[str, object]:
    return {"id": key if is_id(key) else None, "name": None if is_id(key) else key}


def _may_exist(key: str) -> bool:
    return is_id(key) or is_name(key)


def _said(flow_id: FlowId, version: int, limits: Limits) -> dict[str, object]:
    """What a version says of limits; NULL: nothing. The period is in microseconds."""
    slots, rate = limits.concurrency, limits.rate
    return {
        "flow_id": flow_id,
        "version": version,
        "slots": slots and slots.limit,
        "runs": rate and rate.limit,
        "period": rate and rate.per // timedelta(microseconds=1),
    }


def _columns(content: Content) -> dict[str, object]:
    return {
        "digest": content.digest,
        "description": content.description,
        "spec": content.spec,
        "ui": content.ui,
    }


def _name_taken(name: str) -> AlreadyExists:
    message = f"there is a flow called {name} already: choose another name, or replace that flow"
    return AlreadyExists(Reason.FLOW_NAME_TAKEN, message, metadata={"name": name})
