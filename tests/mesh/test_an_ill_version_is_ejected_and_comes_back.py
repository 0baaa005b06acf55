"""Ejection is the circuit breaker: an ill version is left alone for a while, then gets traffic again."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.envoy.cluster import EJECTION
from reflux.controlplane.routes import Target
from tests.mesh.support.node import node_fault, work

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh


async def _sooner(mesh: Mesh) -> None:
    """Shorten the ejection from 30 s by the operator's own means, the runtime."""
    url = f"http://127.0.0.1:{mesh.proxy.admin}/runtime_modify"
    settings = "outlier_detection.base_ejection_time_ms=500&outlier_detection.max_ejection_time_ms=500"
    request = urllib.request.Request(f"{url}?{settings}", method="POST")
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=5).close())


async def test_five_faults_in_a_row_eject_it(mesh: Mesh) -> None:
    """At low traffic too, and although it is the only endpoint of its version."""
    assert EJECTION["base_ejection_time"] == "30s"
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    node.behaviour = node_fault()
    for _ in range(5):
        assert (await mesh.call()).text == "ill"
    reply = await mesh.call()
    assert (reply.code, reply.headers["x-reflux-flags"]) == (grpc.StatusCode.UNAVAILABLE, "UH")
    assert len(node.calls) == 5


async def test_while_ejected_the_next_version_answers_at_once(mesh: Mesh) -> None:
    """In the safe lane too, because nothing was sent to the ejected one; the answer takes one try."""
    node = await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    node.behaviour = node_fault()
    for _ in range(5):
        await mesh.call(lane="safe")
    reply = await mesh.call(lane="safe")
    assert (reply.answer, reply.chosen, reply.tries) == ("2.0.0", "1.0.0", 1)
    assert len(node.calls) == 5


async def test_it_comes_back(mesh: Mesh) -> None:
    """After the ejection all traffic returns; nobody has to do anything."""
    node = await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await _sooner(mesh)
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    node.behaviour = node_fault()
    for _ in range(6):
        await mesh.call(lane="broad")
    assert len(node.calls) == 5
    node.behaviour = work
    async with asyncio.timeout(15):
        while (await mesh.call(lane="broad")).answer != "1.0.0":
            await asyncio.sleep(0.05)
