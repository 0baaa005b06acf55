"""A control plane may die, restart or come late. Calls do not depend on it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import grpc

from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.controlplane import graph, snapshot
from reflux.controlplane.fleet import Fleet
from reflux.controlplane.routes import Target
from tests.mesh.support.mesh import Mesh, control_plane
from tests.mesh.support.proxy import envoy

if TYPE_CHECKING:
    from pathlib import Path


async def test_it_dies_and_another_takes_over(tmp_path: Path) -> None:
    """All calls are served while it is away; its successor needs to know nothing about it."""
    async with AsyncExitStack() as stack:
        changed = asyncio.Event()
        fleet = Fleet(changed.set)
        fleet.publish(snapshot.build(graph.build([], [])))
        life = AsyncExitStack()
        port = await life.enter_async_context(control_plane(fleet))
        proxy = await stack.enter_async_context(envoy(tmp_path, cluster="mesh", controlplane=port))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{proxy.mesh}"))
        mesh = Mesh(fleet, changed, proxy, NodeServiceStub(channel), stack)
        await mesh.node("1.0.0")
        await mesh.node("2.0.0")
        await mesh.route(Target("1.0.0", 10_000))
        await life.aclose()
        assert {(await mesh.call()).answer for _ in range(50)} == {"1.0.0"}

        mesh.fleet = Fleet(changed.set)
        await stack.enter_async_context(control_plane(mesh.fleet, port))
        await mesh.route(Target("2.0.0", 10_000))
        assert (await mesh.call()).answer == "2.0.0"


async def test_a_successor_that_knows_nothing_yet_takes_nothing_away(tmp_path: Path) -> None:
    """Before it has heard the registry it publishes nothing, and every proxy keeps what it has."""
    async with AsyncExitStack() as stack:
        changed = asyncio.Event()
        fleet = Fleet(changed.set)
        life = AsyncExitStack()
        port = await life.enter_async_context(control_plane(fleet))
        fleet.publish(snapshot.build(graph.build([], [])))
        proxy = await stack.enter_async_context(envoy(tmp_path, cluster="mesh", controlplane=port))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{proxy.mesh}"))
        mesh = Mesh(fleet, changed, proxy, NodeServiceStub(channel), stack)
        await mesh.node("1.0.0")
        await mesh.route(Target("1.0.0", 10_000))
        await life.aclose()

        mesh.fleet = Fleet(changed.set)
        await stack.enter_async_context(control_plane(mesh.fleet, port))
        async with asyncio.timeout(15):
            while not mesh.fleet.reports():
                changed.clear()
                await changed.wait()
        assert {(await mesh.call()).answer for _ in range(20)} == {"1.0.0"}
        assert not mesh.fleet.reports()[0].settled
