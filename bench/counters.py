"""What the database did meanwhile: transactions per step, by its own count."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.stack import Stack

_FLUSH_SECONDS: Final = 1.5
"""A session tells its counts at most once a second, and when it is idle."""

_COUNT: Final = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


@dataclass(slots=True)
class Transactions:
    """How many there were within a body; right after it has been left."""

    count: int = 0


@asynccontextmanager
async def transactions(stack: Stack) -> AsyncIterator[Transactions]:
    """Count those of everybody; heartbeats and polls, which come however little is done, are among them."""
    counted = Transactions()
    async with await psycopg.AsyncConnection.connect(stack.postgres_dsn, autocommit=True) as connection:
        before = await _read(connection)
        yield counted
        await asyncio.sleep(_FLUSH_SECONDS)
        counted.count = await _read(connection) - before


async def _read(connection: psycopg.AsyncConnection[tuple[int]]) -> int:
    row = await (await connection.execute(_COUNT)).fetchone()
    assert row is not None
    return row[0]
