"""What was used up meanwhile: transactions, by the database's own count; CPU time, by the kernel's.

CPU time per run hardly depends on what else the machine does, so it can be compared where rates cannot; the
rate of a machine that does nothing else is about its cores divided by the sum.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
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


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Used until now by each part, its children included, and by the load generator."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                used[int(entry.name)] = sum(map(int, fields[11:15])) / ticks

    def tree(pid: int) -> float:
        return used.get(pid, 0.0) + sum(tree(child) for child in children.get(pid, []))

    parts = {part: tree(stack.pid(part)) for part in ("orchestrator", "envoy", "postgres", "valkey")}
    return {**parts, "node": tree(stack.echo), "load generator": used[os.getpid()]}
