"""Statements of this store on a pooled connection; the lanes have connections of their own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, LiteralString

from reflux.orchestrator.store import arrays
from reflux.runtime.postgres import load_sql
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.rows import TupleRow

    from reflux.runtime.postgres import Pool


BREATH_SECONDS: Final = 0.02
"""Between two statements that delete rows: others write too."""


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


async def forget_in_pages(pool: Pool, name: str, limit: int) -> int:
    """Has the statement `name` delete until it finds less than `limit`; how many rows are gone.

    Raises:
        psycopg.Error: as `fetch`; what was deleted stays so.
    """
    gone = 0
    for _ in forever():
        [(page,)] = await fetch(pool, name, {"limit": limit})
        gone += page
        if page < limit:
            break
        await asyncio.sleep(BREATH_SECONDS)
    return gone
