"""What an input names may be dead without the node being ill: one flow's dead URL must not stop others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target
from tests.mesh.support.node import node_fault, target_fault, work

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh


async def test_it_is_not_tried_again(mesh: Mesh) -> None:
    """The status after initial metadata reaches the caller as it is, after one try, in either lane."""
    node, other = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), tries=2))
    node.behaviour = target_fault(grpc.StatusCode.UNAVAILABLE)
    for lane in ("broad", "safe"):
        reply = await mesh.call(lane=lane)
        assert (reply.code, reply.text, reply.tries) == (
            grpc.StatusCode.UNAVAILABLE,
            "the target is ill",
            1,
        )
    assert (len(node.calls), len(other.calls)) == (2, 0)


async def test_it_never_ejects_the_node(mesh: Mesh) -> None:
    """However many, in a row and by their share: as many node faults beside them eject theirs meanwhile."""
    node, ill = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 5000), Target("2.0.0", 5000))
    node.behaviour, ill.behaviour = target_fault(grpc.StatusCode.UNAVAILABLE), node_fault()
    # Without the count of five in a row it takes a whole interval, so the other is judged by one as well.
    await mesh.proxy.admin_post("/runtime_modify?outlier_detection.consecutive_gateway_failure=100000")
    made = 0
    async with asyncio.timeout(30):
        while not sum((await mesh.proxy.stats("ejections_enforced_failure_percentage$")).values()):
            for draw in (0, 9999):
                await mesh.call(draw=draw)
            made += 1
        for _ in range(made):
            await mesh.call(draw=0)
    node.behaviour = work
    assert (await mesh.call(draw=0)).code is grpc.StatusCode.OK
    assert len(node.calls) == 2 * made + 1
