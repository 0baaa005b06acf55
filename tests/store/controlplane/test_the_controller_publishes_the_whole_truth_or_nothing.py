"""Half of the truth would take traffic away from who has it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg

from reflux.controlplane.catalog import Catalog
from reflux.controlplane.controller import Controller
from reflux.controlplane.graph import Endpoint, Version
from reflux.controlplane.store import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reflux.controlplane.snapshot import Snapshot
    from reflux.controlplane.store import RouteStore

EMPTY = Catalog((Version("n", "1", ()),))
SERVED = Catalog((Version("n", "1", (Endpoint("127.0.0.1", 1),)),))


@asynccontextmanager
async def _turning(store: RouteStore) -> AsyncIterator[Controller]:
    controller = Controller(store)
    task = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _routes_away(dsn: str) -> AsyncIterator[None]:
    """Inside the block no statement on the routes succeeds."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("ALTER TABLE controlplane.routes RENAME TO routes_away")
        yield
        await connection.execute("ALTER TABLE controlplane.routes_away RENAME TO routes")


async def _published(controller: Controller, before: Snapshot | None = None) -> Snapshot:
    async with asyncio.timeout(15):
        while (snapshot := controller.fleet.snapshot) is before or snapshot is None:
            await controller.turned(controller.turns)
    return snapshot


async def test_nothing_before_the_catalog_was_heard(stores: tuple[RouteStore, RouteStore]) -> None:
    """Routes alone would leave every version without endpoints."""
    async with _turning(stores[0]) as controller, asyncio.timeout(15):
        await controller.turned(1)
        assert controller.routes is not None
        assert controller.fleet.snapshot is None


async def test_nothing_before_the_routes_were_read(
    stores: tuple[RouteStore, RouteStore], database_dsn: str
) -> None:
    """The catalog alone would leave every node without weights."""
    async with _turning(stores[0]) as controller, asyncio.timeout(15):
        async with _routes_away(database_dsn):
            controller.know(SERVED)
            await controller.turned(controller.turns + 1)
            assert controller.fleet.snapshot is None
        assert (await _published(controller)).revisions == {"n": 1}


async def test_endpoints_move_on_while_the_database_is_away(
    stores: tuple[RouteStore, RouteStore], database_dsn: str
) -> None:
    """With the last routes known."""
    async with _turning(stores[0]) as controller:
        controller.know(EMPTY)
        before = await _published(controller)
        async with _routes_away(database_dsn):
            controller.know(SERVED)
            after = await _published(controller, before)
        assert after.endpoints != before.endpoints
        assert (after.routes, after.revisions) == (before.routes, {"n": 1})


async def test_another_control_planes_update_is_found(stores: tuple[RouteStore, RouteStore]) -> None:
    """Within about a second, without a word between the two."""
    async with _turning(stores[0]) as one, _turning(stores[1]) as other:
        for controller in (one, other):
            controller.know(SERVED)
            await _published(controller)
        assert one.routes is not None
        before = other.fleet.snapshot
        await stores[0].propose(one.routes[0].route, author="ada", note="")
        assert (await _published(other, before)).revisions == {"n": 2}


async def test_a_pending_revision_that_is_led_back_to_is_still_brought_to_an_end(
    stores: tuple[RouteStore, RouteStore],
) -> None:
    """A newer one was refused while it waited for a slow proxy: it serves again and ends APPLIED."""
    store = stores[0]
    async with _turning(store) as controller, asyncio.timeout(15):
        controller.know(SERVED)
        await _published(controller)
        # A proxy of another control plane holds both up; then it refuses the newer one and leaves.
        await stores[1].see_proxies(["slow"])
        assert controller.routes is not None
        route = controller.routes[0].route
        assert await store.propose(route, author="ada", note="") == 2
        assert await store.propose(route, author="ada", note="") is None
        assert await store.propose(replace(route, revision=2), author="ada", note="") == 3
        assert await stores[1].reject("slow", {"n": 3}, "no") == [("n", 3)]
        assert (await store.standing("n", 2)).state is State.PENDING
        await stores[1].see_proxies([])
        while (await store.standing("n", 2)).state is not State.APPLIED:
            await controller.turned(controller.turns)
        (served,) = await store.serving()
        assert (served.route.revision, served.state, served.newest_state) == (
            2,
            State.APPLIED,
            State.REJECTED,
        )
