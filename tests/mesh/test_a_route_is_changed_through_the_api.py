"""The whole way: RoutingService, rows in PostgreSQL, ADS, Envoy, and Envoy's answer back to the caller."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import psycopg
import pytest

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.controlplane import snapshot, store, updates
from reflux.controlplane.envoy import route as builder
from reflux.controlplane.envoy import xds
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from tests.mesh.support.node import Node

if TYPE_CHECKING:
    from reflux.controlplane.graph import Graph
    from reflux.controlplane.snapshot import Snapshot
    from tests.mesh.support.platform import Platform


async def test_the_first_version_gets_everything_and_a_later_one_nothing(platform: Platform) -> None:
    """Registering is enough to be called; a new version is reached by pin until somebody gives it a share."""
    async with Node("1.0.0").serving() as first, Node("2.0.0").serving() as second:
        await platform.register(first)
        await platform.answered_by("1.0.0")
        await platform.register(second)
        await platform.answered_by("2.0.0", version="2.0.0")
        assert {await platform.answer() for _ in range(20)} == {"1.0.0"}
        route = await platform.get()
        assert [(each.version, each.weight) for each in route.targets] == [("1.0.0", 10_000)]
        assert (route.revision, route.author) == (1, "reflux")


async def test_an_update_is_applied_when_it_is_answered(platform: Platform) -> None:
    """APPLIED means that every proxy has acknowledged it; the history knows who and why."""
    async with Node("1.0.0").serving() as first, Node("2.0.0").serving() as second:
        await platform.register(first)
        await platform.register(second)
        await platform.answered_by("2.0.0", version="2.0.0")
        route = await platform.update(
            {"version": "1.0.0", "weight": 2500}, {"version": "2.0.0", "weight": 7500}, note="canary"
        )
        assert route.state == pb.Route.APPLIED
        assert (route.revision, route.author, route.note) == (2, "ada", "canary")
        await platform.answered_by("2.0.0", draw="2500")
        assert await platform.answer(draw="2499") == "1.0.0"


async def test_a_stale_revision_is_refused(platform: Platform) -> None:
    """Two people who change the same route do not overwrite each other unseen."""
    async with Node("1.0.0").serving() as node:
        await platform.register(node)
        await platform.answered_by("1.0.0")
        target = {"version": "1.0.0", "weight": 10_000}
        assert (await platform.update(target, revision=1)).revision == 2
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await platform.update(target, revision=1)
        assert refused.value.code() is grpc.StatusCode.ABORTED
        assert rpc.read(refused.value).reason == Reason.REVISION_STALE


async def test_a_refusal_has_envoys_words_and_the_former_route_serves(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a defect of ours lets a bad configuration through, it never serves, and the next one does."""
    async with Node("1.0.0").serving() as node:
        await platform.register(node)
        await platform.answered_by("1.0.0")
        sound = snapshot.build

        def broken(graph: Graph, *, allow_faults: bool) -> Snapshot:
            built = sound(graph, allow_faults=allow_faults)
            if built.revisions["demo.chat"] != 2:
                return built
            lost = {"match": {"prefix": "/"}, "route": {"cluster": "nowhere"}}
            bad = {**builder.frame(), "virtual_hosts": [{**builder.host(), "routes": [lost]}]}
            return replace(built, routes={"mesh": xds.encode(xds.ROUTE, bad)})

        monkeypatch.setattr(snapshot, "build", broken)
        target = {"version": "1.0.0", "weight": 10_000}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await platform.update(target)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert rpc.read(refused.value).reason == Reason.ROUTE_REJECTED
        assert "unknown cluster 'nowhere'" in (refused.value.details() or "")
        route = await platform.get()
        assert (route.revision, route.state) == (1, pb.Route.REJECTED)
        assert "unknown cluster 'nowhere'" in route.refusal
        back = pb.RollbackRouteRequest(node="demo.chat", revision=2)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await platform.routing.RollbackRoute(back, timeout=20)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert rpc.read(refused.value).reason == Reason.REVISION_REJECTED
        assert "unknown cluster 'nowhere'" in (refused.value.details() or "")
        assert await platform.answer() == "1.0.0"
        assert (await platform.update(target)).state == pb.Route.APPLIED


async def test_a_silent_proxy_is_named(
    platform: Platform, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """APPLYING and the names of those that have not acknowledged; the update itself stands."""
    monkeypatch.setattr(updates, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(store, "ALIVE_SECONDS", 2.0)
    async with Node("1.0.0").serving() as node, asyncio.timeout(30):
        await platform.register(node)
        await platform.answered_by("1.0.0")
        await _pretend_proxy(database_dsn, "envoy-9")
        route = await platform.update({"version": "1.0.0", "weight": 10_000})
        assert (route.state, route.revision) == (pb.Route.APPLYING, 2)
        assert list(route.waiting_for) == ["envoy-9"]
        # Its control plane says no more that it is there; then it holds nobody up.
        while route.state != pb.Route.APPLIED:
            await asyncio.sleep(0.1)
            route = await platform.get()


async def _pretend_proxy(dsn: str, name: str) -> None:
    """A proxy that another control plane has just seen."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO controlplane.proxies VALUES (%s, gen_random_uuid(), clock_timestamp())", (name,)
        )


async def test_orchestrators_see_every_route_at_once(platform: Platform) -> None:
    """WatchRoutes sends all of them, and again after every change."""
    async with Node("1.0.0").serving() as node, asyncio.timeout(20):
        watch = platform.routing.WatchRoutes(pb.WatchRoutesRequest())
        await platform.register(node)
        seen = await anext(aiter(watch))
        while not seen.routes:
            seen = await anext(aiter(watch))
        assert [each.revision for each in seen.routes] == [1]
        await platform.update({"version": "1.0.0", "weight": 10_000})
        while seen.routes[0].revision != 2:
            seen = await anext(aiter(watch))
        watch.cancel()


@pytest.mark.parametrize(
    ("document", "content_type", "reason", "places"),
    [
        ('{"targets": [', "application/json", Reason.DOCUMENT_UNREADABLE, ["line 1, column 14"]),
        ("targets: [{version: 1.0.0}]", "text/csv", Reason.CONTENT_TYPE_UNSUPPORTED, []),
        ("", "application/json", Reason.ROUTE_INVALID, [""]),
        (
            "targets: [{version: 1.0.0, weight: 1}, {version: 9.9.9, wieght: 1}]",
            "application/yaml",
            Reason.ROUTE_INVALID,
            ["/targets/1/wieght", "/targets/1/version"],
        ),
    ],
)
async def test_a_document_with_mistakes_is_refused_before_any_proxy_hears_of_it(
    platform: Platform, document: str, content_type: str, reason: Reason, places: list[str]
) -> None:
    """JSON or YAML by content type; every mistake with its place; the route is as it was."""
    async with Node("1.0.0").serving() as node:
        await platform.register(node)
        await platform.answered_by("1.0.0")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await platform.put(document, content_type=content_type)
        failure = rpc.read(refused.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert [each.pointer for each in failure.violations] == places
        assert (await platform.get()).revision == 1


async def test_a_node_that_nobody_registered_has_no_route(platform: Platform) -> None:
    """Neither to get nor to change; a mistyped name makes nothing."""
    async with Node("1.0.0").serving() as node:
        await platform.register(node)
        await platform.answered_by("1.0.0")
        for call, reason in (
            (platform.put("{}", node="ai.chta"), Reason.NODE_NOT_FOUND),
            (
                platform.routing.GetRoute(pb.GetRouteRequest(node="ai.chta"), timeout=10),
                Reason.ROUTE_NOT_FOUND,
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert (refused.value.code(), rpc.read(refused.value).reason) == (
                grpc.StatusCode.NOT_FOUND,
                reason,
            )
        listed = await platform.routing.ListRoutes(pb.ListRoutesRequest(), timeout=10)
        assert [each.node for each in listed.routes] == ["demo.chat"]
