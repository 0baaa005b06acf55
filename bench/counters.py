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
    from collections.abc import AsyncIterator, Mapping

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
    table = _processes()
    parts = {part: _tree(table, stack.pid(part)) for part in ("orchestrator", "envoy", "postgres", "valkey")}
    return {**parts, "node": _tree(table, stack.echo), "load generator": table[os.getpid()].used}


def cpu_of(pid: int) -> float:
    """Seconds used until now by a process and its children."""
    return _tree(_processes(), pid)


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    used: float


def _processes() -> dict[int, _Process]:
    found = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                found[int(entry.name)] = _Process(int(fields[1]), sum(map(int, fields[11:15])) / ticks)
    return found


def _tree(table: Mapping[int, _Process], pid: int) -> float:
    own = table[pid].used if pid in table else 0.0
    return own + sum(_tree(table, child) for child, each in table.items() if each.parent == pid)
