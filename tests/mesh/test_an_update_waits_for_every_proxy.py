"""APPLIED means that every connected proxy serves it, whichever control plane the proxy hangs on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.cli.stack import ports
from reflux.controlplane import __main__ as controlplane
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.mesh.support.node import Node
from tests.mesh.support.proxy import envoy
from tests.support.service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.mesh.support.platform import Platform
    from tests.mesh.support.proxy import Proxy

ONE = ({"version": "1.0.0", "weight": 10_000}, {"version": "2.0.0", "weight": 0})
TWO = ({"version": "1.0.0", "weight": 0}, {"version": "2.0.0", "weight": 10_000})


@asynccontextmanager
async def _two_versions(platform: Platform) -> AsyncIterator[None]:
    async with Node("1.0.0").serving() as first, Node("2.0.0").serving() as second:
        await platform.register(first)
        await platform.register(second)
        await platform.answered_by("2.0.0", version="2.0.0")
        yield


@asynccontextmanager
async def _another(platform: Platform, folder: Path, port: int) -> AsyncIterator[tuple[Proxy, Platform]]:
    """A second Envoy on the control plane at `port`, and the platform as seen through it."""
    async with (
        envoy(folder, cluster="mesh", name="envoy-2", controlplane=port) as proxy,
        rpc.channel(Address("127.0.0.1", proxy.mesh)) as channel,
    ):
        seen = replace(platform, mesh=NodeServiceStub(channel))
        await seen.answered_by("2.0.0", version="2.0.0")
        yield proxy, seen


async def test_a_proxy_that_is_stopped_is_named_and_follows_when_it_goes_on(
    platform: Platform, tmp_path: Path
) -> None:
    """After 5 s the answer is APPLYING; the others serve the new route all the time."""
    async with (
        _two_versions(platform),
        _another(platform, tmp_path, platform.settings.controlplane_address.port) as (proxy, seen),
    ):
        proxy.pause()
        try:
            route = await platform.update(*TWO)
            assert (route.revision, route.state, list(route.waiting_for)) == (
                2,
                pb.Route.APPLYING,
                ["envoy-2"],
            )
            assert (await platform.get()).waiting_for == ["envoy-2"]
            assert await platform.answer() == "2.0.0"
        finally:
            proxy.resume()
        async with asyncio.timeout(20):
            while (await platform.get()).state != pb.Route.APPLIED:
                await asyncio.sleep(0.05)
        await seen.answered_by("2.0.0")


async def test_a_proxy_that_dies_holds_nobody_up(platform: Platform, tmp_path: Path) -> None:
    """Its stream is gone, so the next update does not wait for it."""
    port = platform.settings.controlplane_address.port
    async with _two_versions(platform):
        async with _another(platform, tmp_path, port):
            assert (await platform.update(*TWO)).state == pb.Route.APPLIED
        async with asyncio.timeout(20):
            while (await platform.update(*ONE)).state != pb.Route.APPLIED:
                await asyncio.sleep(0.05)


async def test_an_update_through_one_control_plane_reaches_the_proxies_of_the_other(
    platform: Platform, tmp_path: Path
) -> None:
    """One database is all they share; APPLIED through either means both proxies."""
    (port,) = ports.free_ports(1)
    other = platform.settings.model_copy(update={"controlplane_address": Address("127.0.0.1", port)})
    async with (
        _two_versions(platform),
        serving(controlplane.serve, other),
        _another(platform, tmp_path, port) as (proxy, seen),
    ):
        route = await platform.update(*TWO)
        assert (route.state, route.revision) == (pb.Route.APPLIED, 2)
        await seen.answered_by("2.0.0")
        proxy.pause()
        try:
            route = await platform.update(*ONE)
            assert (route.state, list(route.waiting_for)) == (pb.Route.APPLYING, ["envoy-2"])
        finally:
            proxy.resume()
        await seen.answered_by("1.0.0")
