"""A version of a shipped route takes its place when it is registered and flows fit it: never unasked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.types.json import Jsonb

from reflux.api.flow.v1 import contract_service_pb2 as flows_pb
from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.controlplane import growth
from reflux.controlplane.defaults import shipped_route
from reflux.controlplane.document import write_policy

if TYPE_CHECKING:
    from tests.mesh.support.platform import Platform

NODE = "ai.chat"
ALONE = {"openai": (10_000, [])}
TWO = {"openai": (7_000, ["anthropic"]), "anthropic": (3_000, ["openai"])}
WHOLE = {
    "openai": (7_000, ["anthropic", "local"]),
    "anthropic": (3_000, ["openai", "local"]),
    "local": (0, ["openai", "anthropic"]),
}
MISFIT = flows_pb.Misfit(flow="ask", flow_version=1, step="one", pointer="/spec/steps/0/with", message="no")


@pytest.fixture(autouse=True)
def asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "AGAIN_SECONDS", 0.1)


async def register(platform: Platform, *versions: str) -> None:
    """As their processes would; nobody calls them."""
    for version in versions:
        description = node_pb.NodeDescription(
            node=NODE, version=version, input_schema=b"{}", output_schema=b"{}", max_concurrency=1
        )
        description.attempt_timeout.FromSeconds(1)
        request = registry_pb.RegisterEndpointRequest(description=description, address="127.0.0.1:9")
        await platform.registry.RegisterEndpoint(request, timeout=10)


async def route(platform: Platform) -> pb.Route:
    return await platform.routing.GetRoute(pb.GetRouteRequest(node=NODE), timeout=10)


def shape(found: pb.Route) -> dict[str, tuple[int, list[str]]]:
    return {each.version: (each.weight, list(each.fallback)) for each in found.targets}


async def becomes(platform: Platform, wanted: dict[str, tuple[int, list[str]]]) -> pb.Route:
    """Wait until the route is so."""
    async with asyncio.timeout(15):
        while True:
            listed = await platform.routing.ListRoutes(pb.ListRoutesRequest(), timeout=10)
            for found in listed.routes:
                if found.node == NODE and shape(found) == wanted:
                    return found
            await asyncio.sleep(0.02)


async def test_each_version_takes_its_place(platform: Platform) -> None:
    """Alone, the one that is there takes all; then each has the share and the fallback that are shipped."""
    await register(platform, "local")
    await becomes(platform, {"local": (10_000, [])})
    await register(platform, "openai")
    await becomes(platform, {"openai": (10_000, ["local"]), "local": (0, ["openai"])})
    await register(platform, "anthropic")
    whole = await becomes(platform, WHOLE)
    assert (whole.revision, whole.author, whole.contracts_ignored) == (3, "reflux", False)
    assert [(list(each.versions), list(each.serving)) for each in platform.flows.asked] == [
        (["openai"], ["local"]),
        (["anthropic"], ["openai", "local"]),
    ]


async def test_a_version_that_flows_cannot_be_given_to_stays_out(platform: Platform) -> None:
    """The others come without it; it comes when the flows are mended."""
    await register(platform, "openai")
    await becomes(platform, ALONE)
    platform.flows.misfits["local"] = [MISFIT]
    await register(platform, "local", "anthropic")
    await becomes(platform, TWO)
    asked = len(platform.flows.asked)
    async with asyncio.timeout(15):
        while len(platform.flows.asked) < asked + 3:
            await asyncio.sleep(0.02)
    shown = await route(platform)
    assert (shape(shown), list(shown.left_out)) == (TWO, ["local"])
    platform.flows.misfits.clear()
    assert not (await becomes(platform, WHOLE)).left_out


async def test_nobody_comes_unasked(platform: Platform) -> None:
    """Without an orchestrator the route stays as it is until one answers."""
    platform.flows.away = True
    await register(platform, "openai")
    await becomes(platform, ALONE)
    await register(platform, "anthropic")
    async with asyncio.timeout(15):
        while len(platform.flows.asked) < 2:
            await asyncio.sleep(0.02)
    assert shape(await route(platform)) == ALONE
    platform.flows.away = False
    await becomes(platform, TWO)


async def test_what_a_person_has_made_is_theirs(platform: Platform) -> None:
    """A version that comes later joins no route that a person has changed."""
    await register(platform, "openai")
    await becomes(platform, ALONE)
    await platform.put('{"targets": [{"version": "openai", "weight": 10000}]}', node=NODE)
    await register(platform, "anthropic", "local")
    described = registry_pb.WatchCatalogRequest()
    async for catalog in platform.registry.WatchCatalog(described, timeout=10):
        if len(catalog.versions) == 3:
            break
    await asyncio.sleep(2)  # two turns
    shown = await route(platform)
    assert (shape(shown), list(shown.left_out), platform.flows.asked) == (ALONE, [], [])


async def test_a_route_of_an_older_release_is_asked_about_too(platform: Platform) -> None:
    """It named versions that were not there yet; they leave it until they come and fit."""
    await register(platform, "openai")
    await becomes(platform, ALONE)
    await platform.stop_controlplane()
    shipped = shipped_route(NODE)
    assert shipped is not None
    values = (Jsonb(write_policy(replace(shipped.route, salt="s"))), NODE)
    with psycopg.connect(platform.settings.postgres_dsn) as connection:
        changed = connection.execute(
            "UPDATE controlplane.route_revisions SET document = %s WHERE node = %s", values
        )
        assert changed.rowcount == 1
    await platform.start_controlplane()
    platform.flows.misfits["local"] = [MISFIT]
    assert (await becomes(platform, ALONE)).revision == 2
    await register(platform, "local", "anthropic")
    await becomes(platform, TWO)
