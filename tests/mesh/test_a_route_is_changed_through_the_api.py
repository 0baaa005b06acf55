"""The whole way: RoutingService, rows in PostgreSQL, ADS, Envoy, and Envoy's answer back to the caller."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub
from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from reflux.cli.stack import ports
from reflux.controlplane import __main__ as controlplane
from reflux.controlplane import routing_servicer, store
from reflux.controlplane.envoy import route as route_builder
from reflux.core.reasons import Reason
from reflux.registry import __main__ as registry
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from tests.mesh.support.node import Node
from tests.mesh.support.proxy import envoy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NODE = "ai.chat"


@dataclass(frozen=True, slots=True)
class Platform:
    """Registry, control plane and one Envoy."""

    registry: EndpointServiceStub
    routing: RoutingServiceStub
    mesh: NodeServiceStub

    async def register(self, node: Node) -> str:
        """Register a node as its SDK does; return the endpoint's id."""
        description = node_pb.NodeDescription(
            node=NODE, version=node.version, input_schema=b"{}", output_schema=b"{}", max_concurrency=8
        )
        description.attempt_timeout.FromSeconds(10)
        request = registry_pb.RegisterEndpointRequest(
            description=description, address=f":{node.endpoint.port}"
        )
        return (await self.registry.RegisterEndpoint(request, timeout=10)).endpoint_id

    async def update(self, *targets: dict[str, Any], **more: Any) -> pb.Route:
        """PUT a route."""
        document = HttpBody(data=json.dumps({"targets": targets, **more}).encode())
        request = pb.UpdateRouteRequest(node=NODE, document=document)
        return await self.routing.UpdateRoute(request, timeout=20, metadata=(("x-reflux-actor", "ada"),))

    async def answer(self, **headers: str) -> str:
        """The version that answers a call; empty when the call fails."""
        metadata = (("x-reflux-node", NODE), *((f"x-reflux-{key}", each) for key, each in headers.items()))
        try:
            reply = await self.mesh.Execute(node_pb.ExecuteRequest(), timeout=10, metadata=metadata)
        except grpc.aio.AioRpcError:
            return ""
        return reply.output.decode()

    async def answered_by(self, version: str, /, **headers: str) -> None:
        """Wait until this version answers."""
        async with asyncio.timeout(15):
            while await self.answer(**headers) != version:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def _serving(service: Any, settings: Settings) -> AsyncIterator[None]:
    ready = asyncio.Event()
    task = asyncio.create_task(service.serve(settings, ready=ready))
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=20)
        waiting.cancel()
        if task.done():
            await task
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def platform(database_dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """The real services and a real Envoy."""
    one, two = (Address("127.0.0.1", port) for port in ports.free_ports(2))
    settings = Settings.load(postgres_dsn=database_dsn, registry_address=one, controlplane_address=two)
    async with (
        _serving(registry, settings),
        _serving(controlplane, settings),
        envoy(tmp_path, cluster="all", controlplane=two.port) as proxy,
        rpc.channel(one) as to_registry,
        rpc.channel(two) as to_controlplane,
        rpc.channel(Address("127.0.0.1", proxy.mesh)) as to_mesh,
    ):
        yield Platform(
            EndpointServiceStub(to_registry),
            RoutingServiceStub(to_controlplane),
            NodeServiceStub(to_mesh),
        )


async def test_the_first_version_gets_everything_and_a_later_one_nothing(platform: Platform) -> None:
    """Registering is enough to be called; a new version is reached by pin until somebody gives it a share."""
    async with Node("1.0.0").serving() as first, Node("2.0.0").serving() as second:
        await platform.register(first)
        await platform.answered_by("1.0.0")
        await platform.register(second)
        await platform.answered_by("2.0.0", version="2.0.0")
        assert {await platform.answer() for _ in range(20)} == {"1.0.0"}
        route = await platform.routing.GetRoute(pb.GetRouteRequest(node=NODE), timeout=10)
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
        sound = route_builder.configuration

        def broken(nodes: Any) -> dict[str, Any]:
            configuration = sound(nodes)
            if any(each.revision == 2 for each in nodes):
                lost = {"match": {"prefix": "/"}, "route": {"cluster": "nowhere"}}
                configuration["virtual_hosts"][0]["routes"].append(lost)
            return configuration

        monkeypatch.setattr(route_builder, "configuration", broken)
        target = {"version": "1.0.0", "weight": 10_000}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await platform.update(target)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert rpc.read(refused.value).reason == Reason.ROUTE_REJECTED
        assert "unknown cluster 'nowhere'" in (refused.value.details() or "")
        route = await platform.routing.GetRoute(pb.GetRouteRequest(node=NODE), timeout=10)
        assert (route.revision, route.state) == (1, pb.Route.REJECTED)
        assert await platform.answer() == "1.0.0"
        assert (await platform.update(target)).state == pb.Route.APPLIED


async def test_a_silent_proxy_is_named(
    platform: Platform, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """APPLYING and the names of those that have not acknowledged; the update itself stands."""
    monkeypatch.setattr(routing_servicer, "WAIT_SECONDS", 0.5)
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
            route = await platform.routing.GetRoute(pb.GetRouteRequest(node=NODE), timeout=10)


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
