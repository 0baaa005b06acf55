"""Who is ejected, since when and why, in API and CLI; and whom nobody could ask."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.cli.__main__ import app
from reflux.controlplane.ejections import ProxyWatch
from reflux.controlplane.routes import Target
from reflux.controlplane.routing_servicer import RoutingServicer
from reflux.runtime.settings import Address
from tests.mesh.support.mesh import NODE
from tests.mesh.support.node import node_fault, work

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh
    from tests.mesh.support.platform import Platform

RUNNER = CliRunner()


class _Api:
    """The method of the API over one proxy that a test looks at itself."""

    def __init__(self, mesh: Mesh) -> None:
        self.watch = ProxyWatch(Address("127.0.0.1", mesh.proxy.admin))
        controller: Any = SimpleNamespace(fleet=mesh.fleet)
        self._servicer = RoutingServicer(None, controller, None, None, [self.watch])

    async def answer(self, node: str = "") -> pb.ListEjectionsResponse:
        return await self._servicer.ListEjections(pb.ListEjectionsRequest(node=node), None)

    async def one(self) -> pb.EjectedEndpoint:
        """The one ejection, once there is one."""
        async with asyncio.timeout(20):
            while not (found := (await self.answer()).ejections):
                await self.watch.look()
                await asyncio.sleep(0.02)
        (ejection,) = found
        return ejection


async def test_failures_in_a_row_are_the_reason(mesh: Mesh) -> None:
    """With version, endpoint and time; the other version is not named, and it goes when it is let back in."""
    settings = "outlier_detection.base_ejection_time_ms=1500&outlier_detection.max_ejection_time_ms=1500"
    await mesh.proxy.admin_post(f"/runtime_modify?{settings}")
    node, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    api = _Api(mesh)
    await api.watch.look()
    answer = await api.answer()
    assert not answer.ejections
    assert [(each.address, each.reachable) for each in answer.proxies] == [(api.watch.proxy, True)]
    assert list(answer.connected) == [mesh.proxy.name]
    node.behaviour = node_fault()
    for _ in range(5):
        await mesh.call(lane="safe")
    ejection = await api.one()
    assert (ejection.node, ejection.version) == (NODE, "1.0.0")
    assert ejection.endpoint == f"{node.endpoint.host}:{node.endpoint.port}"
    assert ejection.reason == pb.EjectedEndpoint.CONSECUTIVE
    since = ejection.since.ToDatetime(UTC)
    assert timedelta(0) <= datetime.now(UTC) - since < timedelta(seconds=20)
    assert not (await api.answer("another.node")).ejections
    node.behaviour = work
    async with asyncio.timeout(20):
        while (await api.answer()).ejections:
            await api.watch.look()
            await asyncio.sleep(0.02)


async def test_the_share_of_failures_is_the_reason(mesh: Mesh) -> None:
    """Five in a row do not count here."""
    node = await mesh.node("1.0.0")
    await mesh.proxy.admin_post("/runtime_modify?outlier_detection.consecutive_gateway_failure=100000")
    await mesh.route(Target("1.0.0", 10_000))
    api = _Api(mesh)
    await api.watch.look()
    node.behaviour = node_fault()
    async with asyncio.timeout(20):
        while not sum((await mesh.proxy.stats("outlier_detection.ejections_active$")).values()):
            await mesh.call()
    assert (await api.one()).reason == pb.EjectedEndpoint.FAILURE_PERCENTAGE


async def test_who_was_out_before_the_first_look_has_no_known_reason(mesh: Mesh) -> None:
    """Nothing is guessed."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    node.behaviour = node_fault()
    async with asyncio.timeout(20):
        while not sum((await mesh.proxy.stats("outlier_detection.ejections_active$")).values()):
            await mesh.call()
    assert (await _Api(mesh).one()).reason == pb.EjectedEndpoint.REASON_UNSPECIFIED


async def _reflux(*arguments: str) -> Any:
    result = await asyncio.to_thread(RUNNER.invoke, app, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout or "null")


async def test_the_command_line_shows_a_proxy_that_nobody_asks(platform: Platform) -> None:
    """A control plane that was told no address of statistics: that is trouble, and said."""
    server = f"127.0.0.1:{platform.proxy.edge}"
    status, document = await _reflux("mesh", "status", "--server", server)
    assert (status, document["connected"]) == (1, [platform.proxy.name])
    assert document["trouble"] == ["1 connected proxies are not asked (REFLUX_PROXY_STATS_ADDRESSES)"]
    answer = await platform.rest("GET", "/api/ejections")
    assert answer.json == {"ejections": [], "proxies": [], "connected": [platform.proxy.name]}


async def test_the_command_line_reads_and_tunes_a_proxy(mesh: Mesh) -> None:
    """A node's chains as they are served; a recipe there and back; a name that is not there is refused."""
    node, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    admin = ("--admin", f"http://127.0.0.1:{mesh.proxy.admin}")
    status, document = await _reflux("mesh", "config", NODE, *admin)
    assert status == 0
    chain = next(each["choices"][0] for each in document["routes"] if each["name"] == f"{NODE} broad")
    assert chain["members"] == [f"{NODE}@1.0.0", f"{NODE}@2.0.0"]
    assert (await _reflux("mesh", "tune", "maintenance", chain["chain"], *admin))[0] == 0
    async with asyncio.timeout(10):
        while (await mesh.call(lane="broad")).text != "maintenance mode":
            await asyncio.sleep(0.02)
    assert (await _reflux("mesh", "tune", "maintenance", chain["chain"], "--undo", *admin))[0] == 0
    async with asyncio.timeout(10):
        while (await mesh.call(lane="broad")).answer != "1.0.0":
            await asyncio.sleep(0.02)
    assert (await _reflux("mesh", "tune", "limit", f"{NODE}@9.9.9", *admin))[0] == 3
    assert (await _reflux("mesh", "drain", *admin))[0] == 2
    assert node.calls
    assert (await _reflux("mesh", "drain", "--yes", *admin))[0] == 0


@pytest.mark.parametrize("url", ["http://192.0.2.1:9901", "https://127.0.0.1:9901", "127.0.0.1"])
async def test_an_admin_interface_is_on_this_machine(url: str) -> None:
    """Or it is refused before anything is sent."""
    status, _ = await _reflux("mesh", "tune", "no-retries", "--admin", url)
    assert status == 2
