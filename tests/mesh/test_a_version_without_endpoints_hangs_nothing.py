"""A route may name a version that no process serves, yet or any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh


async def test_it_is_accepted_and_passed_over(mesh: Mesh) -> None:
    """Its share goes to the next version of the chain in the same try; others are not touched."""
    await mesh.node("1.0.0")
    await mesh.route(Target("2.0.0", 5000, fallback=("1.0.0",)), Target("1.0.0", 5000))
    reply = await mesh.call(draw=0, lane="safe")
    assert (reply.answer, reply.chosen, reply.tries) == ("1.0.0", "2.0.0", 1)


async def test_without_a_fallback_its_share_fails_at_once(mesh: Mesh) -> None:
    """UNAVAILABLE with the flag for no healthy upstream, not a deadline."""
    await mesh.node("1.0.0")
    await mesh.route(Target("2.0.0", 5000), Target("1.0.0", 5000))
    reply = await mesh.call(draw=0)
    assert (reply.code, reply.headers["x-reflux-flags"]) == (grpc.StatusCode.UNAVAILABLE, "UH")
    assert (await mesh.call(draw=5000)).answer == "1.0.0"


async def test_it_serves_as_soon_as_a_process_registers(mesh: Mesh) -> None:
    """The endpoint alone is pushed; clusters and routes stay as they are."""
    await mesh.route(Target("1.0.0", 10_000))
    before = await mesh.proxy.stats("cluster_manager.cluster_modified|rds.mesh.config_reload$")
    await mesh.node("1.0.0")
    mesh.revision -= 1
    await mesh.route(Target("1.0.0", 10_000))
    async with asyncio.timeout(10):
        while (await mesh.call()).answer != "1.0.0":
            await asyncio.sleep(0.01)
    assert await mesh.proxy.stats("cluster_manager.cluster_modified|rds.mesh.config_reload$") == before
