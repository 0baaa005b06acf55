"""What an input names may be dead without the node being ill: one flow's dead URL must not stop others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target
from tests.mesh.support.node import target_fault, work

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
    """After far more of them than an ejection takes, the next call is served."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    node.behaviour = target_fault(grpc.StatusCode.UNAVAILABLE)
    for _ in range(25):
        await mesh.call()
    node.behaviour = work
    assert (await mesh.call()).code is grpc.StatusCode.OK
    assert len(node.calls) == 26
