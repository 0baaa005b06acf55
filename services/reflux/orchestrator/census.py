"""Counts the runs that have not ended, from the tables: what waits or is parked is in nobody's memory.

Counting rows costs, so it is done every `PAUSE_SECONDS`, up to `LIMIT` per state, over the index by state,
and by one orchestrator for all: the one that owns shard 0. Whoever sums over orchestrators sums one figure.
While the shard moves, or the database is away, there is none: nothing is better than something old.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.core.event import RunPhase
from reflux.orchestrator import metrics
from reflux.orchestrator.store.pool import fetch
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.orchestrator.store.lease import Lease
    from reflux.runtime.metrics import Labels
    from reflux.runtime.postgres import Pool

PAUSE_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0
"""Until shard 0 is looked for again."""
LIMIT: Final = 100_000
STATES: Final = (RunPhase.RUNNING, RunPhase.CANCELING, RunPhase.PARKED, RunPhase.PAUSED)

log = logs.get_logger("census")


class Census:
    """Somebody must `run` it."""

    def __init__(self, pool: Pool, lease: Lease) -> None:
        self._pool = pool
        self._lease = lease
        self._counted: Mapping[Labels, float] = {}

    async def run(self) -> None:
        """Count until cancelled."""
        with metrics.RUNS_UNFINISHED.watched(self._current):
            for _ in forever():
                ours = self._ours()
                if not ours:
                    self._counted = {}
                else:
                    try:
                        self._counted = await self._count()
                    except (psycopg.Error, OSError, TimeoutError) as error:
                        self._counted = {}
                        log.warning("census_failed", error=str(error))
                await asyncio.sleep(PAUSE_SECONDS if ours else RETRY_SECONDS)

    def _current(self) -> Mapping[Labels, float]:
        return self._counted if self._ours() else {}

    def _ours(self) -> bool:
        return any(lease.shard == 0 for lease in self._lease.held())

    async def _count(self) -> Mapping[Labels, float]:
        rows = await fetch(
            self._pool, "count_unfinished", {"limit": LIMIT, "states": [state.value for state in STATES]}
        )
        return {(state,): count for state, count in rows}
