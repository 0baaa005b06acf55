"""The table of findings: what was found is added in bulk, and forgotten when it is not seen any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from reflux.runtime.postgres import Pool

TOTAL: Final = "total"
"""Instead of a pointer: how many copies ended so. No pointer is called that: each begins with a slash."""
MAX_PLACES: Final = 500
"""Of one version."""
MAX_EXAMPLES: Final = 3
KEPT_DAYS: Final = 7

Place = tuple[str, str, str, str]
"""node, version, kind, pointer"""


@dataclass(slots=True)
class Finding:
    """How often, and the last times."""

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    """Newest first."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A row."""

    version: str
    kind: str
    pointer: str
    count: int
    examples: list[dict[str, Any]]
    seen_at: datetime


async def add(pool: Pool, findings: Mapping[Place, Finding]) -> None:
    """Raises psycopg.Error; then nothing was added, or nobody knows."""
    columns: list[list[Any]] = [list(column) for column in zip(*findings, strict=True)]
    names = ("nodes", "versions", "kinds", "pointers")
    values: dict[str, Any] = dict(zip(names, columns, strict=True))
    values["counts"] = [each.count for each in findings.values()]
    values["examples"] = [Jsonb(each.examples) for each in findings.values()]
    async with pool.connection() as connection:
        await connection.execute(
            load_sql("reflux.orchestrator.store", "add_shadow_findings"), {**values, "most": MAX_PLACES}
        )


async def of_node(pool: Pool, node: str) -> list[Kept]:
    """By version, the most frequent first. Raises psycopg.Error."""
    if "\0" in node:
        return []
    async with pool.connection() as connection:
        statement = load_sql("reflux.orchestrator.store", "shadow_findings")
        return [Kept(*row) for row in await (await connection.execute(statement, {"node": node})).fetchall()]


async def forget(pool: Pool) -> None:
    """Raises psycopg.Error."""
    async with pool.connection() as connection:
        statement = load_sql("reflux.orchestrator.store", "forget_shadow_findings")
        await connection.execute(statement, {"days": KEPT_DAYS})
