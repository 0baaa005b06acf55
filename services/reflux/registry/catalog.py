"""The catalog in memory, and who waits for its changes.

One loop per process: it takes out expired endpoints, asks for the catalog's revision, and loads the catalog
when that has risen. It turns at once after a change made through this process and every second for changes
made through another registry, so several registries on one database show the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.registry import metrics
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.registry.store import Catalog, RegistryStore
    from reflux.runtime.metrics import Labels

TURN_SECONDS: Final = 1.0

log = logs.get_logger("registry")


class LiveCatalog:
    """The newest catalog this process has read."""

    def __init__(self, store: RegistryStore, catalog: Catalog) -> None:
        self._store = store
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self.newest = catalog

    def touch(self) -> None:
        """Look for a change now."""
        self._wake.set()

    async def newer_than(self, revision: int) -> Catalog:
        """Wait for a catalog with a higher revision."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.newest.revision > revision)
            return self.newest

    async def run(self) -> None:
        """Keep the catalog fresh, for ever."""
        with metrics.ENDPOINTS_LIVE.watched(self._live):
            await self._keep()

    def _live(self) -> Mapping[Labels, float]:
        return {(each.node, each.version): len(each.endpoints) for each in self.newest.versions}

    async def _keep(self) -> None:
        for _ in forever():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._turn()
            except psycopg.Error as error:
                log.warning("catalog_unreadable", error=str(error))

    async def _turn(self) -> None:
        for node, version, address in await self._store.sweep():
            metrics.ENDPOINTS_EXPIRED.at(node, version).add()
            log.warning("lease_expired", node=node, version=version, address=address)
        if await self._store.revision() == self.newest.revision:
            return
        async with self._changed:
            self.newest = await self._store.catalog()
            self._changed.notify_all()
