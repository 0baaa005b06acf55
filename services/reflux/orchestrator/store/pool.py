"""Statements of this store on a pooled connection; the lanes have connections of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from reflux.orchestrator.store import arrays
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.rows import TupleRow

    from reflux.runtime.postgres import Pool


def store_sql(name: str) -> LiteralString:
    """The statement `sql/<name>.sql`."""
    return load_sql("reflux.orchestrator.store", name)


async def fetch(
    pool: Pool, name: str, parameters: Mapping[str, object], *, prepare: bool | None = None
) -> list[TupleRow]:
    """All rows of the statement `name`.

    Raises:
        psycopg.Error: the database is away, refuses, or has no connection within the pool's limit.
    """
    return await fetch_of(pool, "reflux.orchestrator.store", name, parameters, prepare=prepare)


async def fetch_of(
    pool: Pool, package: str, name: str, parameters: Mapping[str, object], *, prepare: bool | None = None
) -> list[TupleRow]:
    """All rows of the statement `name` of another package of the orchestrator.

    Raises:
        psycopg.Error: as `fetch`.
    """
    async with pool.connection() as connection:
        cursor = connection.cursor(binary=True)
        arrays.register(cursor)
        await cursor.execute(load_sql(package, name), parameters, prepare=prepare)
        return await cursor.fetchall()
