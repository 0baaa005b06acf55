"""Ejection is the circuit breaker: an ill version is left alone for a while, then gets traffic again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target
from tests.mesh.support.node import node_fault, work

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh
    from tests.mesh.support.node import Node


async def _five_faults(mesh: Mesh, node: Node) -> None:
    """Five calls that the node fails, and then the time that Envoy's threads take to tell each other."""
    node.behaviour = node_fault()
    for _ in range(5):
        assert (await mesh.call(lane="safe")).text == "ill"
    async with asyncio.timeout(10):
        while not sum((await mesh.proxy.stats("outlier_detection.ejections_active")).values()):
            await asyncio.sleep(0.01)
        while (await mesh.call(lane="safe")).text == "ill":
            await asyncio.sleep(0.01)


async def test_five_faults_in_a_row_eject_it(mesh: Mesh) -> None:
    """At low traffic too, and although it is the only endpoint of its version."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    await _five_faults(mesh, node)
    before = len(node.calls)
    reply = await mesh.call()
    assert (reply.code, reply.headers["x-reflux-flags"]) == (grpc.StatusCode.UNAVAILABLE, "UH")
    assert len(node.calls) == before


async def test_while_ejected_the_next_version_answers_at_once(mesh: Mesh) -> None:
    """In the safe lane too, because nothing was sent to the ejected one; the answer takes one try."""
    node = await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    await _five_faults(mesh, node)
    before = len(node.calls)
    reply = await mesh.call(lane="safe")
    assert (reply.answer, reply.chosen, reply.tries) == ("2.0.0", "1.0.0", 1)
    assert len(node.calls) == before


async def test_it_comes_back(mesh: Mesh) -> None:
    """After the ejection all traffic returns; nobody has to do anything.

    The 30 s are shortened by the operator's own means, the runtime.
    """
    node = await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    settings = "outlier_detection.base_ejection_time_ms=500&outlier_detection.max_ejection_time_ms=500"
    await mesh.proxy.admin_post(f"/runtime_modify?{settings}")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    await _five_faults(mesh, node)
    node.behaviour = work
    async with asyncio.timeout(15):
        while (await mesh.call(lane="broad")).answer != "1.0.0":
            await asyncio.sleep(0.05)
