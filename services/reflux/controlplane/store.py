"""The control plane's tables: routes with every revision they had, and what each proxy has taken.

A revision is PENDING until every live proxy, of whichever control plane, has acknowledged it (APPLIED) or one
has refused it (REJECTED). Proxies are led to the newest revision that is not refused. A proxy counts as live
for ALIVE_SECONDS after its control plane last said so; only the database's clock is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from reflux.controlplane import document
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from reflux.controlplane.routes import Route
    from reflux.runtime.postgres import Pool

ALIVE_SECONDS: Final = 5.0

MAX_WORDS: Final = 4_096
"""Characters of a refusal that are kept."""
_NUL: Final = "\0"
"""What no text in the database can hold, and so what no node is called by."""

_sql = partial(load_sql, "reflux.controlplane")


class State(StrEnum):
    """Where a revision stands."""

    PENDING = "PENDING"
    APPLIED = "APPLIED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """One revision of a route, with what people want to know about it."""

    route: Route
    author: str
    note: str
    created_at: datetime
    state: State
    """Of this revision."""
    refusal: str
    """A proxy's own words when it is REJECTED."""
    contracts_ignored: bool
    """It was made whether flows fit the versions that came to take calls, or not."""


@dataclass(frozen=True, slots=True)
class StoredRoute(StoredRevision):
    """The revision that proxies are led to; when the newest was refused, that is another one."""

    newest_state: State
    newest_refusal: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one revision stands."""

    state: State
    refusal: str
    waiting_for: tuple[str, ...]
    """Live proxies that have not acknowledged it."""


class RouteStore:
    """Every statement on the schema `controlplane`. All raise `psycopg.Error` when the database is away."""

    def __init__(self, pool: Pool, control_plane: str) -> None:
        self._pool = pool
        self._control_plane = control_plane

    async def serving(self, node: str | None = None) -> list[StoredRoute]:
        """The routes that proxies are led to, by node; of one node: its own, if it has one."""
        if node is not None and _NUL in node:
            return []
        return [
            StoredRoute(**_revision(row[:-2]), newest_state=State(row[-2]), newest_refusal=row[-1])
            for row in await self._all("serving", {"node": node})
        ]

    async def revision(self, node: str, revision: int) -> StoredRevision | None:
        """One revision; None if there is none of this number."""
        return await self._one("revision", {"node": node, "revision": revision})

    async def former(self, node: str, revision: int) -> StoredRevision | None:
        """What this revision took over from: the newest before it that no proxy refused."""
        return await self._one("former", {"node": node, "revision": revision})

    async def revisions(self, node: str, before: int, limit: int) -> list[StoredRevision]:
        """At most `limit` revisions with smaller numbers than `before`, newest first."""
        if _NUL in node:
            return []
        rows = await self._all("revisions", {"node": node, "before": before, "limit": limit})
        return [StoredRevision(**_revision(row)) for row in rows]

    async def salt(self, node: str) -> str | None:
        """The salt of the route that serves; None when the node has none."""
        found = await self.serving_route(node)
        return None if found is None else found.route.salt

    async def serving_route(self, node: str) -> StoredRoute | None:
        """The route of a node that proxies are led to; None when it has none."""
        return next(iter(await self.serving(node)), None)

    async def propose(
        self, route: Route, *, author: str, note: str, contracts_ignored: bool = False
    ) -> int | None:
        """Add a PENDING revision; return its number, or None if `route.revision` (0: any) is not serving."""
        values = {
            "node": route.node,
            "expected": route.revision,
            "document": Jsonb(document.write_policy(route)),
            "author": author,
            "note": note,
            "contracts_ignored": contracts_ignored,
        }
        rows = await self._all("propose", values)
        return int(rows[0][0]) if rows else None

    async def found(self, route: Route, *, author: str, note: str) -> None:
        """Give a node its first route, unless it has one."""
        policy = Jsonb(document.write_policy(route))
        await self._run("found", {"node": route.node, "document": policy, "author": author, "note": note})

    async def standing(self, node: str, revision: int) -> Standing:
        """Where a revision stands that was proposed."""
        values = {"node": node, "revision": revision, "alive": ALIVE_SECONDS}
        ((state, refusal, waiting_for),) = await self._all("standing", values)
        return Standing(State(state), refusal, tuple(waiting_for))

    async def see_proxies(self, names: Sequence[str]) -> None:
        """Say that these proxies, and no others, have a stream to this control plane."""
        await self._run("see_proxies", {"control_plane": self._control_plane, "names": list(names)})

    async def acknowledge(self, proxy: str, revisions: Mapping[str, int]) -> None:
        """Record that `proxy` has taken these revisions, by node."""
        await self._run("acknowledge", {"proxy": proxy, **_columns(revisions)})

    async def reject(self, proxy: str, revisions: Mapping[str, int], words: str) -> list[tuple[str, int]]:
        """Record that `proxy` refused these revisions together; return those that are to blame."""
        kept = words[:MAX_WORDS].replace(_NUL, "\ufffd")
        rows = await self._all("reject", {"proxy": proxy, "words": kept, **_columns(revisions)})
        return [(node, revision) for node, revision in rows]

    async def settle(self) -> list[tuple[str, int]]:
        """Declare APPLIED what every live proxy has taken; return it."""
        rows = await self._all("settle", {"alive": ALIVE_SECONDS})
        return [(node, revision) for node, revision in rows]

    async def _one(self, name: str, values: Mapping[str, Any]) -> StoredRevision | None:
        if _NUL in values["node"]:
            return None
        rows = await self._all(name, values)
        return StoredRevision(**_revision(rows[0])) if rows else None

    async def _run(self, name: str, values: Mapping[str, Any]) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(_sql(name), values)

    async def _all(self, name: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(_sql(name), values)).fetchall()


def _columns(revisions: Mapping[str, int]) -> dict[str, list[Any]]:
    return {"nodes": list(revisions), "revisions": list(revisions.values())}


def _revision(row: tuple[Any, ...]) -> dict[str, Any]:
    """The members of a StoredRevision, from the columns that every statement on revisions gives."""
    node, revision, policy, author, note, created_at, state, refusal, contracts_ignored = row
    return {
        "route": document.read_policy(node, revision, policy),
        "author": author,
        "note": note,
        "created_at": created_at,
        "state": State(state),
        "refusal": refusal,
        "contracts_ignored": contracts_ignored,
    }
