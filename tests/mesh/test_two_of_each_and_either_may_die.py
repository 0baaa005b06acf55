"""Two control planes on one database, two mesh proxies that know both: one of each is enough."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from reflux.cli.stack import ports
from reflux.controlplane import __main__ as controlplane
from reflux.controlplane.store import ALIVE_SECONDS
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.mesh.support.node import Node
from tests.mesh.support.platform import NODE
from tests.mesh.support.proxy import envoy
from tests.support.service import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mesh.support.platform import Platform


async def _version(stub: NodeServiceStub) -> str:
    """Who answers; empty when the call fails."""
    try:
        reply = await stub.Execute(
            node_pb.ExecuteRequest(),
            timeout=10,
            metadata=(("x-reflux-node", NODE), ("x-reflux-lane", "safe")),
        )
    except grpc.aio.AioRpcError:
        return ""
    return reply.output.decode()


async def _answered_by(stub: NodeServiceStub, version: str) -> None:
    async with asyncio.timeout(20):
        while await _version(stub) != version:
            await asyncio.sleep(0.01)


async def test_either_control_plane_and_either_proxy_may_die(platform: Platform, tmp_path: Path) -> None:
    """A route that is changed through the control plane that is left reaches the proxies that had a stream to
    the other; a change does not wait for a proxy that is dead; calls never stop.
    """
    async with AsyncExitStack() as stack:
        (port,) = ports.free_ports(1)
        other = platform.settings.model_copy(update={"controlplane_address": Address("127.0.0.1", port)})
        await stack.enter_async_context(serving(controlplane.serve, other))
        second = RoutingServiceStub(await stack.enter_async_context(rpc.channel(other.controlplane_address)))

        def both(document: dict[str, Any]) -> None:
            """One name with two addresses, as a bootstrap has it that is written for two replicas."""
            (cluster,) = (
                each for each in document["static_resources"]["clusters"] if each["name"] == "controlplane"
            )
            (locality,) = cluster["load_assignment"]["endpoints"]
            address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
            locality["lb_endpoints"].append({"endpoint": {"address": address}})

        first_port = platform.settings.controlplane_address.port
        lives = [AsyncExitStack(), AsyncExitStack()]
        stubs = []
        for name, life in zip(("a", "b"), lives, strict=True):
            await stack.enter_async_context(life)
            running = envoy(tmp_path, cluster="mesh", name=name, change=both, controlplane=first_port)
            proxy = await life.enter_async_context(running)
            channel = await stack.enter_async_context(rpc.channel(Address("127.0.0.1", proxy.mesh)))
            stubs.append(NodeServiceStub(channel))
        nodes = [await stack.enter_async_context(Node(version).serving()) for version in ("1.0.0", "2.0.0")]
        for node in nodes:
            await platform.register(node)
        for version in ("1.0.0", "2.0.0"):  # the control plane knows what its proxy knows
            await platform.answered_by(version, version=version)
        await platform.update({"version": "1.0.0", "weight": 10_000})
        for stub in stubs:
            await _answered_by(stub, "1.0.0")

        await platform.stop_controlplane()
        assert {await _version(stub) for stub in stubs for _ in range(20)} == {"1.0.0"}
        await _move(second, "2.0.0")
        for stub in stubs:
            await _answered_by(stub, "2.0.0")

        await lives[0].aclose()
        assert {await _version(stubs[1]) for _ in range(20)} == {"2.0.0"}
        route = await _move(second, "1.0.0")
        await _answered_by(stubs[1], "1.0.0")
        assert route.state is not pb.Route.State.Value("REJECTED")

        await platform.start_controlplane()
        async with asyncio.timeout(4 * ALIVE_SECONDS):
            while (await platform.get()).state != pb.Route.State.Value("APPLIED"):
                await asyncio.sleep(0.05)
        assert await _version(stubs[1]) == "1.0.0"


async def _move(routing: RoutingServiceStub, version: str) -> pb.Route:
    from google.api.httpbody_pb2 import HttpBody

    document = f'{{"targets": [{{"version": "{version}", "weight": 10000}}]}}'.encode()
    return await routing.UpdateRoute(
        pb.UpdateRouteRequest(node=NODE, document=HttpBody(data=document)), timeout=20
    )
