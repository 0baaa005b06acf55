"""A version in the shadow gets copies of calls; neither the calls nor its own standing know of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from reflux.controlplane.routes import Target
from reflux.core.names import RunId, StepPath
from reflux.core.route import draw, shadow_cluster, shadow_draw
from tests.mesh.support.mesh import NODE
from tests.mesh.support.node import hang, node_fault

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh

COPY = {"x_reflux_shadow": shadow_cluster(NODE, "2.0.0")}


async def shadowed(mesh: Mesh) -> None:
    """1.0.0 answers, 2.0.0 is in its shadow."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000), Target("2.0.0", 0, shadow=500))
    for node in mesh.nodes:
        node.calls.clear()


async def copied(mesh: Mesh, count: int) -> None:
    """Wait until the shadow got so many, and a little longer for any too many."""
    async with asyncio.timeout(10):
        while len(mesh.nodes[1].calls) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert len(mesh.nodes[1].calls) == count


async def test_who_draws_a_copy_gets_one(mesh: Mesh) -> None:
    """Marked as a copy, with the envelope of the call; the reply is the real version's."""
    await shadowed(mesh)
    reply = await mesh.call(lane="broad", x_reflux_run_id="r", **COPY)
    await copied(mesh, 1)
    assert (reply.code, reply.answer, reply.chosen, reply.tries) == (grpc.StatusCode.OK, "1.0.0", "1.0.0", 1)
    real, copy = mesh.nodes[0].calls[-1], mesh.nodes[1].calls[-1]
    assert (copy["x-reflux-shadow-copy"], copy["x-reflux-run-id"]) == ("1", "r")
    assert "x-reflux-shadow-copy" not in real


async def test_nobody_else_gets_one(mesh: Mesh) -> None:
    """Not without a draw, not in the safe lane, not pinned, and not where there is no such version."""
    await shadowed(mesh)
    for asked in ({"lane": "broad"}, {"lane": "safe", **COPY}, {"lane": "broad", "version": "1.0.0", **COPY}):
        assert (await mesh.call(**asked)).answer == "1.0.0"
    nowhere = await mesh.call(lane="broad", x_reflux_shadow=shadow_cluster(NODE, "3.0.0"))
    assert nowhere.answer == "1.0.0"
    await copied(mesh, 0)


async def test_without_a_shadow_in_the_route_there_are_no_copies(mesh: Mesh) -> None:
    """Also for a caller that has not heard yet that it is gone."""
    await shadowed(mesh)
    await mesh.route(Target("1.0.0", 10_000), Target("2.0.0", 0))
    mesh.nodes[1].calls.clear()
    assert (await mesh.call(lane="broad", **COPY)).answer == "1.0.0"
    await copied(mesh, 0)


@pytest.mark.parametrize("ill", [node_fault(), hang])
async def test_what_becomes_of_copies_harms_nobody(mesh: Mesh, ill: object) -> None:
    """A shadow that fails or hangs changes no reply and ejects nobody, itself included."""
    await shadowed(mesh)
    mesh.nodes[1].behaviour = ill  # type: ignore[assignment]
    replies = await asyncio.gather(*(mesh.call(lane="broad", **COPY) for _ in range(40)))
    assert {(each.code, each.answer, each.tries) for each in replies} == {(grpc.StatusCode.OK, "1.0.0", 1)}
    await copied(mesh, 40)
    await asyncio.sleep(1.2)  # longer than the interval of ejections
    ejected = await mesh.proxy.stats(r"outlier_detection\.ejections_enforced_total$")
    assert ejected
    assert not any(ejected.values())
    assert not any(each.call for each in mesh.logged)


def test_draws_of_copies_are_their_own() -> None:
    """5 % of the calls are copied as their draws predict, alike among those that either version answers."""
    steps = [StepPath(f"s{number}") for number in range(10_000)]
    both = [(draw(NODE, RunId("r"), step, 1), shadow_draw(NODE, RunId("r"), step, 1)) for step in steps]
    low = [copy for first, copy in both if first < 5000]
    assert 430 < sum(copy < 500 for _, copy in both) < 570
    assert 190 < sum(copy < 500 for copy in low) < 310
