"""The journal records what the reply says, so every reply says it, the failed ones above all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target
from tests.mesh.support.node import hang, node_fault, target_fault, work

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh

SERVICE_TIME = "x-envoy-upstream-service-time"


async def test_a_success_tells_version_weight_and_revision(mesh: Mesh) -> None:
    """Chosen, its weight, the route's revision, who answered and after how many tries."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 7000), Target("2.0.0", 3000))
    reply = await mesh.call(draw=8000)
    assert reply.headers["x-reflux-chosen"] == "2.0.0"
    assert reply.headers["x-reflux-weight"] == "3000"
    assert reply.headers["x-reflux-revision"] == "1"
    assert reply.headers["x-reflux-answered-by"] == "2.0.0"
    assert reply.tries == 1


async def test_a_failure_tells_the_same(mesh: Mesh) -> None:
    """Whether the node's status comes alone or after initial metadata."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    for behaviour in (node_fault(), target_fault()):
        node.behaviour = behaviour
        reply = await mesh.call()
        assert reply.code is grpc.StatusCode.UNAVAILABLE
        assert (reply.chosen, reply.headers["x-reflux-weight"]) == ("1.0.0", "10000")
        assert reply.headers["x-reflux-answered-by"] == "1.0.0"


async def test_envoys_own_errors_tell_what_was_chosen(mesh: Mesh) -> None:
    """Nobody answered, and the reply says that too: chosen, a flag with Envoy's reason, no version."""
    await mesh.route(Target("1.0.0", 10_000))
    reply = await mesh.call()
    assert reply.code is grpc.StatusCode.UNAVAILABLE
    assert (reply.chosen, reply.headers["x-reflux-weight"]) == ("1.0.0", "10000")
    assert reply.headers["x-reflux-flags"] == "UH"
    assert reply.headers.get("x-reflux-answered-by", "-") == "-"


async def test_after_a_fallback_chosen_and_answered_by_differ(mesh: Mesh) -> None:
    """The probability belongs to the choice, never to the answer."""
    (await mesh.node("1.0.0")).behaviour = node_fault()
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    reply = await mesh.call(lane="broad")
    assert (reply.chosen, reply.answer) == ("1.0.0", "2.0.0")
    assert reply.headers["x-reflux-answered-by"] == "2.0.0"
    assert reply.tries == 2


async def test_only_an_answer_of_a_node_tells_how_long_it_took(mesh: Mesh) -> None:
    """That is how an answer is told from Envoy speaking for itself, who names the version tried last."""
    first = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), try_timeout_ms=1000))
    for behaviour, flags, answered in (
        (work, "-", True),
        (node_fault(), "UH", False),  # the try after it found nobody
        (target_fault(), "-", True),
        (hang, "UH", False),
    ):
        first.behaviour = behaviour
        reply = await mesh.call(lane="broad")
        assert (reply.headers["x-reflux-flags"], SERVICE_TIME in reply.headers) == (flags, answered)
        assert reply.headers["x-reflux-answered-by"] == "1.0.0"
    assert reply.text == "no healthy upstream"


async def test_a_version_that_is_passed_over_leaves_its_tries_to_the_next(mesh: Mesh) -> None:
    """Try n goes to the n-th of the chain or to the next one after it that is there."""
    second = await mesh.node("2.0.0")
    second.behaviour = node_fault()
    await mesh.node("3.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0", "3.0.0")))
    reply = await mesh.call(lane="broad")
    assert (reply.answer, reply.tries, len(second.calls)) == ("3.0.0", 3, 2)
