"""Shipped routes grow: a version that is registered takes its place in the route that comes with REFLUX.

It is a change of the route like that of a person, a revision that flows must fit (`contracts`), because a
version that is registered after others have served may narrow what flows use. What does not fit stays out and
is asked about again; who wants it in all the same changes the route, with `ignore_contracts`. A route that a
person has changed is theirs: nothing joins it any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.controlplane.defaults import AUTHOR, shipped_route
from reflux.controlplane.store import State
from reflux.core.errors import RefluxError
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Collection

    from reflux.controlplane.contracts import Contracts
    from reflux.controlplane.controller import Controller
    from reflux.controlplane.defaults import FirstRoute
    from reflux.controlplane.routes import Route
    from reflux.controlplane.store import StoredRoute
    from reflux.controlplane.updates import Updates

AGAIN_SECONDS: Final = 10.0
"""After a version did not fit: flows may have been mended."""
HINT: Final = "reflux node list names the flows; mend them, or change the route with ignore_contracts"

log = logs.get_logger("growth")


class Growth:
    """Looks after each turn of the controller."""

    def __init__(self, controller: Controller, contracts: Contracts, updates: Updates) -> None:
        self._controller = controller
        self._contracts = contracts
        self._updates = updates
        self._kept_out: dict[str, tuple[Collection[str], float]] = {}
        """By node: the versions that were registered when some of them did not fit, and when to ask again."""

    async def run(self) -> None:
        """For ever."""
        turns = 0
        for _ in forever():
            turns = await self._controller.turned(turns)
            catalog, routes = self._controller.catalog, self._controller.routes
            if catalog is None or routes is None:
                continue
            for stored in routes:
                if (shipped := _growing(stored)) is not None:
                    await self._look(stored.route, shipped, catalog.of(stored.route.node))

    async def _look(self, before: Route, shipped: FirstRoute, registered: Collection[str]) -> None:
        known, again = self._kept_out.get(before.node, ((), 0.0))
        if known == registered and _now() < again:
            return
        try:
            misfits = await self._grow(before, shipped, registered)
        except (RefluxError, psycopg.Error) as error:  # tried again after the next turn
            log.info("route_not_grown", node=before.node, error=str(error))
            return
        if misfits:
            self._kept_out[before.node] = (registered, _now() + AGAIN_SECONDS)
        if misfits and known != registered:
            log.warning("versions_kept_out", node=before.node, versions=", ".join(misfits), hint=HINT)

    async def _grow(self, before: Route, shipped: FirstRoute, registered: Collection[str]) -> Collection[str]:
        """Make the revision with everyone who fits; return who does not.

        Raises:
            Conflict: somebody else made one meanwhile.
            Refused: a proxy did not take it.
            Unavailable: nobody can say who fits.
            psycopg.Error: the database is away.
        """
        there = before.versions()
        named = [each for each in shipped.versions() if each in registered]
        joining = set(named) - there
        while fit := [each for each in named if each in there or each in joining]:
            route = replace(before, targets=shipped.among(fit).route.targets)
            found = await self._contracts.held(route, before, registered, patient=True)
            held = {version for version, _ in found}
            if not held:
                if route != before:
                    await self._updates.make(route, author=AUTHOR, note=shipped.note)
                break
            if not joining & held:  # one that is there would get more than it fits: all stays as it is
                return [each for each in named if each not in there]
            joining -= held
        return [each for each in named if each not in fit]


def left_out(stored: StoredRoute, registered: Collection[str]) -> tuple[str, ...]:
    """Which of the registered versions will join this route when they fit, in its order."""
    shipped = _growing(stored)
    if shipped is None:
        return ()
    named = stored.route.versions()
    return tuple(each for each in shipped.versions() if each in registered and each not in named)


def _growing(stored: StoredRoute) -> FirstRoute | None:
    """The shipped route that `stored` is a part of, as long as it is ours: no person made it, a newer release
    does not ship another one, and no proxy refused what was made last.
    """
    shipped = shipped_route(stored.route.node)
    if shipped is None or stored.author != AUTHOR or stored.newest_state is State.REJECTED:
        return None
    names = stored.route.versions()
    if not names & set(shipped.versions()) or shipped.among(names).route.targets != stored.route.targets:
        return None
    return shipped


def _now() -> float:
    return asyncio.get_running_loop().time()
