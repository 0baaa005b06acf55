"""The registry's tables: node versions and endpoints. Only the database's clock decides about leases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from reflux.runtime.postgres import Pool

_sql = partial(load_sql, "reflux.registry")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A live process of a node version."""

    id: str
    """UUID."""
    address: str
    """ip:port"""


@dataclass(frozen=True, slots=True)
class NodeVersion:
    """A version as it is known."""

    node: str
    version: str
    description: str
    effect: bytes
    """Serialized reflux.api.node.v1.Effect."""
    attempt_timeout: timedelta
    max_concurrency: int
    batchable: bool
    """It takes several attempts in one call."""
    verifiable: bool
    """It can say what became of an effect."""
    cancelable: bool
    """It can undo an effect by its key."""
    credentials: tuple[bytes, ...]
    """Serialized reflux.api.node.v1.CredentialSlot."""
    digest: str
    created_at: datetime
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that is known at one revision, by node and version."""

    revision: int
    versions: tuple[NodeVersion, ...]


@dataclass(frozen=True, slots=True)
class Schemas:
    """JSON Schemas of a version, as JSON."""

    input: bytes
    output: bytes


class RegistryStore:
    """Every statement on the schema `registry`. All raise `psycopg.Error` when the database is away."""

    def __init__(self, pool: Pool, lease: timedelta) -> None:
        self._pool = pool
        self._lease = lease

    async def register_version(self, version: NodeVersion, schemas: Schemas) -> bool:
        """Make a version known; False when it is known with another digest."""
        values = {
            "node": version.node,
            "version": version.version,
            "description": version.description,
            "input_schema": schemas.input,
            "output_schema": schemas.output,
            "effect": version.effect,
            "attempt_timeout": version.attempt_timeout,
            "max_concurrency": version.max_concurrency,
            "batchable": version.batchable,
            "verifiable": version.verifiable,
            "cancelable": version.cancelable,
            "credentials": list(version.credentials),
            "digest": version.digest,
        }
        return bool(await self._all("register_version", values))

    async def register_endpoint(self, endpoint: Endpoint, node: str, version: str) -> None:
        """Put an endpoint of a known version under a lease."""
        values = {"id": endpoint.id, "address": endpoint.address, "node": node, "version": version}
        async with self._pool.connection() as connection:
            await connection.execute(_sql("register_endpoint"), {**values, "lease": self._lease})

    async def renew_endpoint(self, endpoint_id: str) -> bool:
        """Renew a lease; False when it has run out or is unknown."""
        return bool(await self._all("renew_endpoint", {"id": endpoint_id, "lease": self._lease}))

    async def remove_endpoint(self, endpoint_id: str) -> bool:
        """Take an endpoint out; False when it is unknown."""
        return bool(await self._all("remove_endpoint", {"id": endpoint_id}))

    async def sweep(self) -> list[tuple[str, str, str]]:
        """Take out what has expired; return node, version and address of each."""
        return [(node, version, address) for node, version, address in await self._all("sweep", {})]

    async def grace(self) -> None:
        """Give every known endpoint one lease from now."""
        async with self._pool.connection() as connection:
            await connection.execute(_sql("grace"), {"lease": self._lease})

    async def revision(self) -> int:
        """Revision of the catalog."""
        ((revision,),) = await self._all("revision", {})
        return int(revision)

    async def catalog(self) -> Catalog:
        """Everything."""
        rows = await self._all("catalog", {})
        known = (row for row in rows if row[1] is not None)
        versions = [_version(list(group)) for _, group in groupby(known, key=lambda row: row[1:3])]
        return Catalog(int(rows[0][0]), tuple(versions))

    async def schemas(self, node: str, version: str) -> Schemas | None:
        """The schemas of a version; None when it is unknown."""
        rows = await self._all("schema", {"node": node, "version": version})
        return Schemas(*rows[0]) if rows else None

    async def _all(self, name: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(_sql(name), values)).fetchall()


def _version(rows: list[tuple[Any, ...]]) -> NodeVersion:
    _, *fields, _, _ = rows[0]
    endpoints = tuple(Endpoint(str(row[-2]), row[-1]) for row in rows if row[-1] is not None)
    return replace(NodeVersion(*fields), endpoints=endpoints)
