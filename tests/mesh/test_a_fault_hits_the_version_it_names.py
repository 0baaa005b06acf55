"""Faults of test runs: Envoy makes a version fail for the calls that say so, and for no others."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import grpc
import pytest

from reflux.controlplane.routes import Target
from reflux.core.route import shadow_cluster
from tests.mesh.support.mesh import NODE

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh

UNAVAILABLE = str(grpc.StatusCode.UNAVAILABLE.value[0])


async def two_versions(mesh: Mesh) -> None:
    """1.0.0 gets every call and falls back to 2.0.0."""
    mesh.allow_faults = True
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))


@pytest.mark.parametrize("lane", ["broad", "safe"])
async def test_an_aborted_version_is_not_reached_and_the_next_one_answers(mesh: Mesh, lane: str) -> None:
    """The fault is met by the tries at its version alone, and the real one hears nothing of the call."""
    await two_versions(mesh)
    reply = await mesh.call(lane=lane, x_reflux_fault="1", **{"x-reflux-fault-abort-1.0.0": UNAVAILABLE})
    assert (reply.code, reply.answer, reply.chosen, reply.tries) == (grpc.StatusCode.OK, "2.0.0", "1.0.0", 2)
    assert reply.headers["x-reflux-answered-by"] == "2.0.0"
    assert not mesh.nodes[0].calls
    (seen,) = mesh.nodes[1].calls
    assert not [name for name in seen if name.startswith(("x-reflux-fault", "x-envoy-fault"))]


async def test_an_abort_without_a_version_hits_all_of_them(mesh: Mesh) -> None:
    """The code is the one that was asked for."""
    await two_versions(mesh)
    reply = await mesh.call(lane="broad", x_reflux_fault="1", x_reflux_fault_abort="8")
    assert (reply.code, reply.tries) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 2)
    assert not mesh.nodes[0].calls
    assert not mesh.nodes[1].calls


async def test_a_pinned_version_fails_alone(mesh: Mesh) -> None:
    """A pin reaches its version or none, with faults too."""
    await two_versions(mesh)
    reply = await mesh.call(
        version="1.0.0", x_reflux_fault="1", **{"x-reflux-fault-abort-1.0.0": UNAVAILABLE}
    )
    assert (reply.code, reply.chosen) == (grpc.StatusCode.UNAVAILABLE, "1.0.0")
    unknown = await mesh.call(version="9.9.9", x_reflux_fault="1")
    assert unknown.headers["x-reflux-missing"] == "version"


async def test_a_dropped_reply_was_acted_on(mesh: Mesh) -> None:
    """The node has the call and answers; its caller hears that the connection broke, and lane safe stops."""
    await two_versions(mesh)
    reply = await mesh.call(lane="safe", x_reflux_fault="1", **{"x-reflux-fault-drop-1.0.0": "1"})
    assert (reply.code, reply.answer, reply.tries) == (grpc.StatusCode.UNAVAILABLE, "", 1)
    assert [len(node.calls) for node in mesh.nodes] == [1, 0]
    broad = await mesh.call(lane="broad", x_reflux_fault="1", **{"x-reflux-fault-drop-1.0.0": "1"})
    assert (broad.answer, broad.tries) == ("2.0.0", 2)
    assert [len(node.calls) for node in mesh.nodes] == [2, 1]


async def test_a_delay_is_spent_before_the_version_is_reached(mesh: Mesh) -> None:
    """A delay beyond the deadline ends the call, and the version never sees it."""
    await two_versions(mesh)
    late = await mesh.call(x_reflux_fault="1", timeout=1, **{"x-reflux-fault-delay-1.0.0": "30000"})
    assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not mesh.nodes[0].calls
    soon = await mesh.call(x_reflux_fault="1", **{"x-reflux-fault-delay-1.0.0": "1"})
    assert soon.answer == "1.0.0"


async def test_faults_eject_nobody_and_meet_nobody_else(mesh: Mesh) -> None:
    """After 40 faults of each kind the version serves everybody else, at the first try."""
    await two_versions(mesh)
    for kind in ("abort", "drop"):
        for _ in range(40):
            await mesh.call(lane="broad", x_reflux_fault="1", **{f"x-reflux-fault-{kind}-1.0.0": UNAVAILABLE})
    for _ in range(20):
        plain = await mesh.call(lane="broad")
        assert (plain.answer, plain.tries) == ("1.0.0", 1)


@pytest.mark.parametrize("kind", ["abort", "drop", "delay"])
async def test_a_call_that_is_no_test_has_no_faults(mesh: Mesh, kind: str) -> None:
    """Without `x-reflux-fault` the other headers say nothing, and neither do Envoy's own."""
    await two_versions(mesh)
    reply = await mesh.call(
        x_envoy_fault_abort_grpc_request="14",
        x_envoy_fault_delay_request="30000",
        timeout=5,
        **{f"x-reflux-fault-{kind}": "14"},
    )
    assert reply.answer == "1.0.0"


async def test_a_version_that_is_gone_is_fallen_back_from(mesh: Mesh) -> None:
    """What nothing was sent to is no doubt about an effect, in lane safe too."""
    await two_versions(mesh)
    mesh.nodes[0].endpoint = type(mesh.nodes[0].endpoint)("127.0.0.1", 1)
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    reply = await mesh.call(lane="safe", x_reflux_fault="1")
    assert (reply.answer, reply.chosen) == ("2.0.0", "1.0.0")


async def test_statistics_tell_the_twins_from_the_real_ones(mesh: Mesh) -> None:
    """Names that Prometheus would otherwise take apart at their dots."""
    await two_versions(mesh)
    await mesh.call(lane="broad", x_reflux_fault="1", **{"x-reflux-fault-drop-1.0.0": "1"})
    text = await mesh.proxy.admin_get("/stats/prometheus")
    names = set(re.findall(r'envoy_cluster_upstream_rq_total\{.*?envoy_cluster_name="([^"]+)"', text))
    chains = [name for name in names if re.fullmatch(r"payment\.charge~[a-z]+~[0-9a-f]+~faults", name)]
    versions = {
        f"payment.charge@{version}{mark}" for version in ("1.0.0", "2.0.0") for mark in ("", "!", "!drop")
    }
    assert names - {"controlplane"} >= versions
    assert chains
    assert "payment" not in names


async def test_where_faults_are_not_allowed_the_call_fails_and_says_so(mesh: Mesh) -> None:
    """A test that would pass because its faults were ignored is worse than none."""
    await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    reply = await mesh.call(x_reflux_fault="1", x_reflux_fault_abort="14")
    assert (reply.code, reply.headers["x-reflux-missing"]) == (grpc.StatusCode.UNIMPLEMENTED, "faults")
    assert not mesh.nodes[0].calls


async def test_a_copy_meets_no_fault_and_hears_of_none(mesh: Mesh) -> None:
    """Neither does a version in the shadow change what becomes of a call with faults."""
    mesh.allow_faults = True
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        await mesh.node(version)
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)), Target("3.0.0", 0, shadow=500))
    reply = await mesh.call(
        lane="broad",
        x_reflux_fault="1",
        x_reflux_shadow=shadow_cluster(NODE, "3.0.0"),
        **{"x-reflux-fault-abort-1.0.0": UNAVAILABLE, "x-reflux-fault-abort-3.0.0": UNAVAILABLE},
    )
    assert (reply.answer, reply.chosen, reply.tries) == ("2.0.0", "1.0.0", 2)
    async with asyncio.timeout(10):
        while not mesh.nodes[2].calls:
            await asyncio.sleep(0.01)
    assert not mesh.nodes[0].calls
    for node in mesh.nodes[1:]:
        (seen,) = node.calls
        assert not [name for name in seen if name.startswith(("x-reflux-fault", "x-envoy-fault"))]
