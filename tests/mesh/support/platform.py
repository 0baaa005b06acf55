"""Registry and control plane as they run in production, on a real PostgreSQL, with one Envoy."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub
from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from reflux.cli.stack import ports
from reflux.controlplane import __main__ as controlplane
from reflux.registry import __main__ as registry
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from tests.mesh.support.flows import flows_at
from tests.mesh.support.proxy import envoy
from tests.support.rest import Rest
from tests.support.service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.mesh.support.flows import Flows
    from tests.mesh.support.node import Node
    from tests.mesh.support.proxy import Proxy
    from tests.support.rest import Answer

NODE = "demo.chat"
"""No shipped node, whose first route would be the shipped one."""


@dataclass(slots=True)
class Platform:
    """What a test holds."""

    settings: Settings
    registry: EndpointServiceStub
    routing: RoutingServiceStub
    mesh: NodeServiceStub
    proxy: Proxy
    flows: Flows
    _registry_life: AsyncExitStack
    _controlplane_life: AsyncExitStack

    async def start_registry(self) -> None:
        """Start the registry, or start it again."""
        await self._registry_life.enter_async_context(serving(registry.serve, self.settings))

    async def stop_registry(self) -> None:
        """Stop it; endpoints cannot be renewed until it is back."""
        await self._registry_life.aclose()

    async def start_controlplane(self) -> None:
        """Start the control plane, or start it again."""
        await self._controlplane_life.enter_async_context(serving(controlplane.serve, self.settings))

    async def stop_controlplane(self) -> None:
        """Stop it; nothing can be changed until it is back."""
        await self._controlplane_life.aclose()

    async def rest(self, method: str, path: str, document: Any = None) -> Answer:
        """One REST call through the edge."""
        return await asyncio.to_thread(Rest(f"http://127.0.0.1:{self.proxy.edge}"), method, path, document)

    async def register(self, node: Node, *, pure: bool = False) -> str:
        """Register a node as its SDK does; return the endpoint's id."""
        description = node_pb.NodeDescription(
            node=NODE, version=node.version, input_schema=b"{}", output_schema=b"{}", max_concurrency=8
        )
        description.attempt_timeout.FromSeconds(10)
        if pure:
            setattr(description.effect, "class", node_pb.Effect.PURE)
        request = registry_pb.RegisterEndpointRequest(
            description=description, address=f":{node.endpoint.port}"
        )
        return (await self.registry.RegisterEndpoint(request, timeout=10)).endpoint_id

    @asynccontextmanager
    async def registered(self, *nodes: Node, pure: bool = False) -> AsyncIterator[None]:
        """Within the block the nodes are there, however long it takes: their leases are renewed."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(2)
                for node in nodes:
                    with suppress(grpc.RpcError):  # the registry may be away for a while
                        await self.register(node, pure=pure)

        for node in nodes:
            await self.register(node, pure=pure)
            await self.answered_by(node.version, version=node.version)
        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()

    async def update(self, *targets: dict[str, Any], **more: Any) -> pb.Route:
        """PUT a route; `more` is the rest of the document."""
        return await self.put(json.dumps({"targets": targets, **more}))

    async def put(self, document: str, *, node: str = NODE, content_type: str = "") -> pb.Route:
        """PUT any document."""
        body = HttpBody(data=document.encode(), content_type=content_type)
        request = pb.UpdateRouteRequest(node=node, document=body)
        return await self.routing.UpdateRoute(request, timeout=20, metadata=(("x-reflux-actor", "ada"),))

    async def get(self) -> pb.Route:
        """GET the route."""
        return await self.routing.GetRoute(pb.GetRouteRequest(node=NODE), timeout=10)

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
async def platform_on(dsn: str, folder: Path, **more: Any) -> AsyncIterator[Platform]:
    """Everything, on a migrated database; `more` are settings."""
    one, two, three = (Address("127.0.0.1", port) for port in ports.free_ports(3))
    addresses = {"registry_address": one, "controlplane_address": two, "orchestrator_address": three}
    settings = Settings.load(postgres_dsn=dsn, **addresses, **more)
    async with (
        flows_at(three) as flows,
        AsyncExitStack() as registry_life,
        AsyncExitStack() as controlplane_life,
        rpc.channel(one) as to_registry,
        rpc.channel(two) as to_controlplane,
    ):
        await controlplane_life.enter_async_context(serving(controlplane.serve, settings))
        await registry_life.enter_async_context(serving(registry.serve, settings))
        async with (
            envoy(folder, cluster="all", controlplane=two.port, registry=one.port) as proxy,
            rpc.channel(Address("127.0.0.1", proxy.mesh)) as to_mesh,
        ):
            yield Platform(
                settings,
                EndpointServiceStub(to_registry),
                RoutingServiceStub(to_controlplane),
                NodeServiceStub(to_mesh),
                proxy,
                flows,
                registry_life,
                controlplane_life,
            )
