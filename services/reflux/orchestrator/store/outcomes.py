"""Outcomes that a new run takes over, written before the run exists.

A run that began without them would do everything anew. So they are durable first: the run exists from the
moment that its row and event 1 are written, and then its journal is whole. They may be far more than one
statement should carry, which is why they do not travel with the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.orchestrator.store import arrays
from reflux.orchestrator.store.pool import store_sql
from reflux.orchestrator.store.portions import portions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core.names import RunId
    from reflux.runtime.postgres import Pool

FIRST_SEQ: Final = 2
"""Of what follows `RunCreated`."""


async def keep(pool: Pool, run_id: RunId, payloads: Sequence[bytes]) -> None:
    """Writes the events that are to follow event 1 of `run_id`, which nobody has heard of yet.

    Raises:
        psycopg.Error: the database is away; some may have been written, which nobody will see.
    """
    if not payloads:
        return
    async with pool.connection() as connection:
        first = FIRST_SEQ
        for portion in portions(payloads):
            seqs = list(range(first, first := first + len(portion)))
            values = {"run_id": run_id, "seqs": arrays.int4s(seqs), "payloads": arrays.blobs(portion)}
            cursor = connection.cursor(binary=True)
            arrays.register(cursor)
            await cursor.execute(store_sql("keep_outcomes"), values)


async def drop(pool: Pool, run_id: RunId) -> None:
    """Takes back what was kept for a run that was not begun.

    Raises:
        psycopg.Error: the database is away.
    """
    async with pool.connection() as connection:
        await connection.execute(store_sql("drop_outcomes"), {"run_id": run_id})
