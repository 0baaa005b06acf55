"""Pure calls may be tried again whatever happened; others only where nothing was processed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from reflux.controlplane.routes import Target
from tests.mesh.support.node import node_fault, not_processed

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh
    from tests.mesh.support.node import Node


async def _chain(mesh: Mesh) -> tuple[Node, Node]:
    """Everything to 1.0.0, twice, then to 2.0.0."""
    first, second = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), tries=2))
    return first, second


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"])
async def test_broad_falls_back_on_a_node_fault(mesh: Mesh, code: str) -> None:
    """Each version is tried as often as its target says, then the next one answers."""
    first, second = await _chain(mesh)
    first.behaviour = node_fault(grpc.StatusCode[code])
    reply = await mesh.call(lane="broad")
    assert (reply.answer, reply.tries) == ("2.0.0", 3)
    assert (len(first.calls), len(second.calls)) == (2, 1)


async def test_safe_does_not_try_again_what_may_have_been_processed(mesh: Mesh) -> None:
    """UNAVAILABLE alone is no proof, so the caller gets it after one try. Safe is also the default."""
    first, second = await _chain(mesh)
    first.behaviour = node_fault()
    for lane in ("safe", None):
        reply = await mesh.call(lane=lane)
        assert (reply.code, reply.tries) == (grpc.StatusCode.UNAVAILABLE, 1)
    assert (len(first.calls), len(second.calls)) == (2, 0)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"])
async def test_safe_falls_back_where_the_node_says_nothing_was_done(mesh: Mesh, code: str) -> None:
    """The trailer x-reflux-retry: safe is the proof, whatever the code."""
    first, second = await _chain(mesh)
    first.behaviour = not_processed(grpc.StatusCode[code])
    reply = await mesh.call(lane="safe")
    assert (reply.answer, reply.tries) == ("2.0.0", 3)
    assert len(second.calls) == 1


async def test_safe_falls_back_where_nobody_listens(mesh: Mesh) -> None:
    """A refused connection was not processed."""
    first, second = Target("1.0.0", 10_000, fallback=("2.0.0",)), await mesh.node("2.0.0")
    dead = await mesh.node("1.0.0")
    dead.endpoint = type(dead.endpoint)("127.0.0.1", 1)
    await mesh.route(first)
    reply = await mesh.call(lane="safe")
    assert (reply.code, reply.answer) == (grpc.StatusCode.OK, "2.0.0")
    assert len(second.calls) == 1


async def test_fallback_holds_under_load(mesh: Mesh) -> None:
    """Retries have a limit in Envoy, 3 by default, that would fail most of 64 calls at once."""
    first, _ = await _chain(mesh)
    first.behaviour = node_fault()
    replies = await asyncio.gather(*(mesh.call(lane="broad") for _ in range(64)))
    assert {reply.answer for reply in replies} == {"2.0.0"}


async def test_the_caller_may_switch_tries_off(mesh: Mesh) -> None:
    """An orchestrator whose retry budget is spent says so for one call."""
    first, second = await _chain(mesh)
    first.behaviour = node_fault()
    reply = await mesh.call(lane="broad", x_envoy_max_retries=0)
    assert (reply.code, reply.tries) == (grpc.StatusCode.UNAVAILABLE, 1)
    assert not second.calls


async def test_another_try_of_a_version_goes_to_another_endpoint(mesh: Mesh) -> None:
    """One ill process among several costs a try, never the call."""
    ill, well = await mesh.node("1.0.0"), await mesh.node("1.0.0")
    ill.behaviour = node_fault(grpc.StatusCode.INTERNAL)
    await mesh.route(Target("1.0.0", 10_000, tries=2))
    replies = [await mesh.call(lane="broad") for _ in range(30)]
    assert {reply.code for reply in replies} == {grpc.StatusCode.OK}
    assert ill.calls
    assert well.calls


async def test_versions_that_fall_back_to_each_other_go_round_in_no_circle(mesh: Mesh) -> None:
    """Each chain is its target's own list, so a call meets each version once, then fails."""
    first, second = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    first.behaviour = second.behaviour = node_fault()
    await mesh.route(Target("1.0.0", 5000, fallback=("2.0.0",)), Target("2.0.0", 5000, fallback=("1.0.0",)))
    for draw, last in ((0, "2.0.0"), (9999, "1.0.0")):
        reply = await mesh.call(lane="broad", draw=draw)
        assert (reply.code, reply.tries) == (grpc.StatusCode.UNAVAILABLE, 2)
        assert reply.headers["x-reflux-answered-by"] == last
    assert (len(first.calls), len(second.calls)) == (2, 2)
