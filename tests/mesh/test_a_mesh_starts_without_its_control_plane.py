"""Envoy may be there first: it waits for the control plane and needs no restart."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import grpc

from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.cli.stack import ports
from reflux.controlplane import graph, snapshot
from reflux.controlplane.fleet import Fleet
from reflux.controlplane.routes import Target
from tests.mesh.support.mesh import Mesh, control_plane
from tests.mesh.support.proxy import envoy

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_control_plane_that_comes_late_is_found(tmp_path: Path) -> None:
    """The proxy is live without it, with nothing to serve; when it comes, calls go, seconds later."""
    async with AsyncExitStack() as stack:
        (port,) = ports.free_ports(1)
        proxy = await stack.enter_async_context(envoy(tmp_path, cluster="mesh", controlplane=port))
        assert "LIVE" in await proxy.admin_get("/ready")
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{proxy.mesh}"))
        changed = asyncio.Event()
        mesh = Mesh(Fleet(changed.set), changed, proxy, NodeServiceStub(channel), stack)
        assert (await mesh.call(timeout=2)).code is grpc.StatusCode.UNAVAILABLE

        mesh.fleet.publish(snapshot.build(graph.build([], [])))
        await stack.enter_async_context(control_plane(mesh.fleet, port))
        await mesh.node("1.0.0")
        await mesh.route(Target("1.0.0", 10_000))
        assert (await mesh.call()).answer == "1.0.0"


async def test_the_edge_serves_its_api_without_it(tmp_path: Path) -> None:
    """Its routes are in the bootstrap: the edge answers, whatever the control plane does."""
    (nowhere,) = ports.free_ports(1)
    async with envoy(tmp_path, cluster="edge", controlplane=nowhere) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.edge)
        writer.write(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 404")
