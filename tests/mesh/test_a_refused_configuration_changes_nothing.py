"""Envoy checks what it is told. What it refuses never serves, and it says why."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from reflux.controlplane.envoy import route, xds
from reflux.controlplane.routes import Target

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh


async def _refusal(mesh: Mesh) -> str:
    async with asyncio.timeout(10):
        while True:
            mesh.changed.clear()
            for report in mesh.fleet.reports():
                if report.refusal:
                    assert not report.settled
                    return report.refusal.words
            await mesh.changed.wait()


async def test_a_route_to_a_cluster_that_does_not_exist_is_refused(mesh: Mesh) -> None:
    """The former route serves on, the refusal has Envoy's own words, and the next good one is taken."""
    await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    good = mesh.fleet.snapshot
    assert good is not None
    lost = {"match": {"prefix": "/"}, "route": {"cluster": "nowhere"}}
    bad = {**route.frame(), "virtual_hosts": [{**route.host(), "routes": [lost]}]}
    mesh.fleet.publish(replace(good, routes={"mesh": xds.encode(xds.ROUTE, bad)}))
    assert "unknown cluster 'nowhere'" in await _refusal(mesh)
    assert (await mesh.call()).answer == "1.0.0"
    mesh.fleet.publish(good)
    await mesh.settled()
    assert (await mesh.call()).answer == "1.0.0"
