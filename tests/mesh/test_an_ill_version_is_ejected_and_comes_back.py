"""Ejection is the circuit breaker: an ill version is left alone for a while, then gets traffic again."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc

from reflux.controlplane.routes import Ejection, Target
from tests.mesh.support.node import node_fault, work

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh
    from tests.mesh.support.node import Behaviour, Node


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


def _every(turns: int) -> Behaviour:
    """Fails one of so many calls, and never two in a row."""
    fail, number = node_fault(), count(1)

    async def behave(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if next(number) % turns == 0:
            await fail(context)

    return behave


async def test_half_of_the_calls_failing_eject_it_where_there_is_traffic(mesh: Mesh) -> None:
    """Never two in a row, so it is the share that counts. A version with a quarter failing stays."""
    ill, odd = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    ill.behaviour, odd.behaviour = _every(2), _every(4)
    await mesh.route(Target("1.0.0", 5000), Target("2.0.0", 5000))
    async with asyncio.timeout(30):
        while not await _ejections(mesh, "1.0.0", "enforced_failure_percentage"):
            await mesh.call(draw=0)
            await mesh.call(draw=9999)
    assert not await _ejections(mesh, "1.0.0", "enforced_consecutive_gateway_failure")
    async with asyncio.timeout(10):
        while (await mesh.call(draw=0)).headers["x-reflux-flags"] != "UH":
            await asyncio.sleep(0.01)
    began = len(odd.calls)
    async with asyncio.timeout(30):
        while len(odd.calls) < began + 200:
            await mesh.call(draw=9999)
    assert not await _ejections(mesh, "2.0.0", "enforced_total")


async def test_defects_count_by_their_share_only_and_a_full_node_never(mesh: Mesh) -> None:
    """A few INTERNAL are somebody's odd input, half of all calls an ill version; full is not ill."""
    ill, full = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    ill.behaviour, full.behaviour = (
        node_fault(grpc.StatusCode.INTERNAL),
        node_fault(grpc.StatusCode.RESOURCE_EXHAUSTED),
    )
    await mesh.route(Target("1.0.0", 5000), Target("2.0.0", 5000))
    for _ in range(8):
        assert (await mesh.call(draw=0)).text == "ill"
    assert not await _ejections(mesh, "1.0.0", "enforced_total")
    async with asyncio.timeout(30):
        while not await _ejections(mesh, "1.0.0", "enforced_failure_percentage"):
            await mesh.call(draw=0)
            await mesh.call(draw=9999)
        began = len(full.calls)
        while len(full.calls) < 2 * began:
            await mesh.call(draw=9999)
    assert not await _ejections(mesh, "2.0.0", "enforced_total")


async def test_few_calls_are_not_judged_by_their_share(mesh: Mesh) -> None:
    """Four of eight failing say nothing yet."""
    node = await mesh.node("1.0.0")
    node.behaviour = _every(2)
    await mesh.route(Target("1.0.0", 10_000))
    for _ in range(3):
        for _ in range(8):
            await mesh.call()
        # An interval of 1 s ends in between: two times eight are never judged together.
        await asyncio.sleep(1.2)
    assert not await _ejections(mesh, "1.0.0", "enforced_total")


async def test_an_ill_process_is_ejected_alone(mesh: Mesh) -> None:
    """The other processes of its version go on, and no call is lost to it any more."""
    ill, well = await mesh.node("1.0.0"), await mesh.node("1.0.0")
    ill.behaviour = node_fault()
    await mesh.route(Target("1.0.0", 10_000))
    async with asyncio.timeout(30):
        while not await _ejections(mesh, "1.0.0", "active"):
            await mesh.call()
        while (await mesh.call()).text == "ill":
            await asyncio.sleep(0.01)
    before = len(ill.calls)
    assert {(await mesh.call()).answer for _ in range(20)} == {"1.0.0"}
    assert len(ill.calls) == before
    assert well.calls


async def _ejections(mesh: Mesh, version: str, kind: str) -> int:
    found = await mesh.proxy.stats(f"outlier_detection.ejections_{kind}$")
    return sum(value for name, value in found.items() if version in name)


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


async def test_a_version_has_settings_of_its_own(mesh: Mesh) -> None:
    """Two faults in a row and one second, where the route says so."""
    ill = await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    quick = Ejection(consecutive=2, interval_ms=200, base_time_ms=1_000)
    await mesh.route(Target("1.0.0", 10_000, ("2.0.0",), ejection=quick), Target("2.0.0", 0))
    ill.behaviour = node_fault()
    for _ in range(2):
        assert (await mesh.call(lane="safe")).text == "ill"
    async with asyncio.timeout(10):
        while (reply := await mesh.call(lane="safe")).text == "ill":
            await asyncio.sleep(0.01)
    assert (reply.answer, reply.tries) == ("2.0.0", 1)
    assert len(ill.calls) < 5, "the default would have waited for five"
    ill.behaviour = work
    async with asyncio.timeout(10):
        while (await mesh.call(lane="safe")).answer != "1.0.0":
            await asyncio.sleep(0.05)


async def test_changing_the_settings_loses_no_call_and_lets_the_ejected_back(mesh: Mesh) -> None:
    """Its upstream is made anew: calls in flight end on the old one."""
    node = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))
    stop = asyncio.Event()
    codes: set[grpc.StatusCode] = set()

    async def caller() -> None:
        while not stop.is_set():
            codes.add((await mesh.call(draw=0)).code)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(caller())
        for number in range(2, 12):
            await mesh.route(Target("1.0.0", 10_000, ejection=Ejection(consecutive=number)))
        stop.set()
    assert codes == {grpc.StatusCode.OK}
    await mesh.route(Target("1.0.0", 10_000))
    await _five_faults(mesh, node)
    node.behaviour = work
    await mesh.route(Target("1.0.0", 10_000, ejection=Ejection(consecutive=7)))
    async with asyncio.timeout(10):
        while (await mesh.call()).code is not grpc.StatusCode.OK:
            await asyncio.sleep(0.01)
