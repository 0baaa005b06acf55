"""The loop that keeps proxies at what catalog and routes say.

One turn: read the routes, found those of new nodes, build the snapshot and publish it if it differs, then
write down what each proxy has made of it. A turn runs whenever something happened here (a catalog, an update,
a word of a proxy) and at least once a second, which is how the updates of another control plane are found.

While the database is away the last routes known stay in force and new endpoints still reach the proxies.
Before both catalog and routes have been read once nothing is published: half of the truth would take traffic
away from who has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.controlplane import graph, metrics, snapshot
from reflux.controlplane.defaults import AUTHOR, first_route
from reflux.controlplane.envoy import xds
from reflux.controlplane.fleet import Fleet
from reflux.controlplane.routes import new_salt
from reflux.controlplane.store import State
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reflux.controlplane.catalog import Catalog
    from reflux.controlplane.store import RouteStore, StoredRoute
    from reflux.controlplane.subscription import Refusal
    from reflux.runtime.collector import Collector

TURN_SECONDS: Final = 1.0
"""Longest time between two turns."""

log = logs.get_logger("controlplane")


class Controller:
    """Holds what is known, and turns."""

    def __init__(
        self, store: RouteStore, collector: Collector | None = None, *, allow_faults: bool = False
    ) -> None:
        self._store = store
        self._collector = collector
        self._allow_faults = allow_faults
        self._wake = asyncio.Event()
        self._turned = asyncio.Condition()
        self.turns = 0
        """Turns ended so far."""
        self._graph: graph.Graph | None = None
        self.fleet = Fleet(self._wake.set)
        self.catalog: Catalog | None = None
        """The last one heard; None before the first."""
        self.routes: Sequence[StoredRoute] | None = None
        """The routes that proxies are led to, by node; None before they were first read."""

    def know(self, catalog: Catalog) -> None:
        """Take a catalog of the registry."""
        self.catalog = catalog
        self._wake.set()

    def wake(self) -> None:
        """Turn soon: the routes were changed."""
        self._wake.set()

    async def turned(self, since: int) -> int:
        """Wait until more than `since` turns have ended; return how many have."""
        async with self._turned:
            await self._turned.wait_for(lambda: self.turns > since)
            return self.turns

    async def run(self) -> None:
        """Turn for ever."""
        for _ in forever():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            await self._turn()
            async with self._turned:
                self.turns += 1
                self._turned.notify_all()

    async def _turn(self) -> None:
        try:
            self.routes = await self._read_routes()
        except psycopg.Error as error:
            log.warning("routes_unreadable", error=str(error))
        self._publish()
        try:
            await self._record()
        except psycopg.Error as error:
            log.warning("acknowledgements_unwritten", error=str(error))

    async def _read_routes(self) -> Sequence[StoredRoute]:
        routes = await self._store.serving()
        if self.catalog is None:
            return routes
        strangers = set(self.catalog.nodes()) - {each.route.node for each in routes}
        for node in sorted(strangers):
            first = first_route(node, self.catalog.of(node))
            route = replace(first.route, salt=new_salt())
            await self._store.found(route, author=AUTHOR, note=first.note)
        return await self._store.serving() if strangers else routes

    def _publish(self) -> None:
        if self.catalog is None or self.routes is None:
            return
        wanted = graph.build(self.catalog.versions, [each.route for each in self.routes])
        if wanted != self._graph:
            self._graph = wanted
            self.fleet.publish(self._build(wanted).traced(self._collector))

    def _build(self, wanted: graph.Graph) -> snapshot.Snapshot:
        return snapshot.build(wanted, allow_faults=self._allow_faults)

    async def _record(self) -> None:
        """Write down who is connected, who took what and who refused what; lead back what was refused."""
        reports = self.fleet.reports()
        await self._store.see_proxies([report.proxy for report in reports])
        current = self.fleet.snapshot
        if current is None or self.routes is None:
            return
        pending = {
            each.route.node: current.revisions[each.route.node]
            for each in self.routes
            if each.state is State.PENDING and each.route.node in current.revisions
        }
        if not pending:
            return
        for report in reports:
            if report.refusal:
                guilty = blamed(report.refusal, pending)
                words = f"{report.proxy}: {report.refusal.words}"
                for node, revision in await self._store.reject(report.proxy, guilty, words):
                    metrics.REVISIONS_REJECTED.at(node).add()
                    log.error("route_rejected", node=node, revision=revision, proxy=report.proxy)
                    self._wake.set()
            elif report.settled:
                await self._store.acknowledge(report.proxy, pending)
        if await self._store.settle():
            self._wake.set()


def blamed(refusal: Refusal, pending: Mapping[str, int]) -> Mapping[str, int]:
    """The revisions that may be why a proxy refused.

    Of clusters Envoy names the ones it does not take. Some belong to no route, such as the collector's: then
    no route is to blame, and none must be taken back for it.
    """
    if refusal.kind != xds.CLUSTER:
        return pending
    return {
        node: revision
        for node, revision in pending.items()
        if f"{node}~" in refusal.words or f"{node}@" in refusal.words
    }
