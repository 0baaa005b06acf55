"""Who pins a version wants an answer from it, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target
from tests.mesh.support.node import node_fault

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh


async def test_a_pin_wins_over_the_weights(mesh: Mesh) -> None:
    """Even a version without any weight is reached, and the choice was certain."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000), Target("2.0.0", 0))
    for lane in (None, "safe", "broad"):
        reply = await mesh.call(version="2.0.0", lane=lane, draw=0)
        assert (reply.answer, reply.chosen, reply.headers["x-reflux-weight"]) == ("2.0.0", "2.0.0", "10000")


async def test_an_unknown_version_is_refused(mesh: Mesh) -> None:
    """It never falls through to the weights, where a version would answer that nobody asked for."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    for lane in ("safe", "broad"):
        reply = await mesh.call(version="9.9.9", lane=lane)
        assert reply.code is grpc.StatusCode.UNIMPLEMENTED
        assert "no such version" in reply.text
        assert not reply.chosen
        assert reply.headers["x-reflux-missing"] == "version"
    assert not node.calls


async def test_a_pinned_call_never_falls_back(mesh: Mesh) -> None:
    """The chain of the pinned version's target is for weighted calls only."""
    (await mesh.node("1.0.0")).behaviour = node_fault()
    other = await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    reply = await mesh.call(version="1.0.0", lane="broad")
    assert reply.code is grpc.StatusCode.UNAVAILABLE
    assert not other.calls


async def test_an_unknown_node_is_refused(mesh: Mesh) -> None:
    """UNIMPLEMENTED at once, with a text that names the reason."""
    reply = await mesh.call(node="no.such")
    assert reply.code is grpc.StatusCode.UNIMPLEMENTED
    assert "no such node" in reply.text
    assert reply.headers["x-reflux-missing"] == "node"


async def test_a_nodes_own_unimplemented_is_not_taken_for_a_missing_version(mesh: Mesh) -> None:
    """The same code; only Envoy's own answer has the label that tells it."""
    (await mesh.node("1.0.0")).behaviour = node_fault(grpc.StatusCode.UNIMPLEMENTED)
    await mesh.route(Target("1.0.0", 10_000))
    reply = await mesh.call(version="1.0.0", x_reflux_missing="version")
    assert reply.code is grpc.StatusCode.UNIMPLEMENTED
    assert "x-reflux-missing" not in reply.headers
