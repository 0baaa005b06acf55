"""Runs that get their last chance before quarantine: one at a time, so that one does not die of another.

All runs that an orchestrator has in memory lose it together, and each is counted: the one that kills, and
those beside it. So the deaths before the last one prove nothing of a single run. The last one does: it is
held against a run only if its row says that it was being tried (`runs.try_run`), and that is done with one
after the other. The next one follows when this one has got further, has left memory, or has lived for
`TRIAL_SECONDS`: what kills later than that is not told apart from what is tried after it.

A run that waits for its turn is in nobody's memory: `Intake` leaves it in the tables, and its words too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Final

import psycopg

from reflux.core.names import RunId
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.store.runs import Adopted
from reflux.orchestrator.worker import Worker
from reflux.runtime import logs
from reflux.runtime.postgres import Pool
from reflux.runtime.tasks import forever

TRIAL_SECONDS: Final = 5.0
_PAUSE: Final = 0.1
_AGAIN: Final = 1.0

log = logs.get_logger("suspects")


class Suspects:
    """Those that wait for their trial. `run` must be running.

    Args:
        pool: of the orchestrator's schema.
        worker: has the runs in memory.
        take: brings a run into memory; one that is not due comes by its word, once it is not waiting here.
    """

    def __init__(
        self,
        pool: Pool,
        worker: Worker,
        *,
        take: Callable[[ShardLease, Adopted], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._worker = worker
        self._take = take
        self._waiting: dict[RunId, tuple[ShardLease, Adopted]] = {}
        self._more = asyncio.Event()

    def __contains__(self, run_id: RunId) -> bool:
        return run_id in self._waiting

    def __iter__(self) -> Iterator[RunId]:
        return iter(self._waiting)

    def add(self, lease: ShardLease, suspect: Adopted) -> None:
        """Lets a run wait for its trial, under the newest lease of its shard."""
        self._waiting[suspect.run_id] = lease, suspect
        self._more.set()

    def lost(self, shards: Collection[int]) -> None:
        """These shards are not ours any more, nor are their runs."""
        for run_id in [run_id for run_id, (lease, _) in self._waiting.items() if lease.shard in shards]:
            del self._waiting[run_id]

    async def run(self) -> None:
        """Tries one after the other until it is cancelled."""
        for _ in forever():
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                lease, suspect = next(iter(self._waiting.values()))
                try:
                    await runs.try_run(self._pool, lease, suspect.run_id)
                except (psycopg.Error, OSError, TimeoutError) as error:
                    log.warning("trial_deferred", run_id=suspect.run_id, error=str(error))
                    await asyncio.sleep(_AGAIN)
                    continue
                # Meanwhile it may be lost, or here again under a newer lease.
                if self._waiting.get(suspect.run_id) == (lease, suspect):
                    del self._waiting[suspect.run_id]
                    log.warning("run_on_trial", run_id=suspect.run_id)
                    await self._try(lease, suspect)

    async def _try(self, lease: ShardLease, suspect: Adopted) -> None:
        try:
            await self._take(lease, suspect)
        except (psycopg.Error, OSError, TimeoutError) as error:  # it is due, and found by a later look
            log.warning("loading_failed", run_id=suspect.run_id, error=str(error))
        seen = False
        for _ in range(int(TRIAL_SECONDS / _PAUSE)):
            active = self._worker.runs.get(suspect.run_id)
            if (active is None and seen) or (active is not None and not active.unproven):
                return
            seen = seen or active is not None
            await asyncio.sleep(_PAUSE)
