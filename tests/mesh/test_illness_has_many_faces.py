"""A version that hangs, talks nonsense, is not up yet or comes and goes: calls go round it and find it again.

Each version has one endpoint. Ejections are shortened by the operator's own means, the runtime.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflux.api.node.v1.node_service_pb2_grpc import add_NodeServiceServicer_to_server
from reflux.cli.stack.ports import free_ports
from reflux.controlplane.graph import Endpoint
from reflux.controlplane.routes import Target
from tests.mesh.support.node import Node, hang, node_fault, target_fault, work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mesh.support.mesh import Mesh

CHAIN = Target("1.0.0", 10_000, fallback=("2.0.0",))


async def _shorten(mesh: Mesh, milliseconds: int) -> None:
    keys = "&".join(f"outlier_detection.{key}_ejection_time_ms={milliseconds}" for key in ("base", "max"))
    await mesh.proxy.admin_post(f"/runtime_modify?{keys}")


async def _active(mesh: Mesh) -> int:
    return sum((await mesh.proxy.stats("outlier_detection.ejections_active$")).values())


async def _ejections(mesh: Mesh) -> int:
    found = await mesh.proxy.stats("outlier_detection.ejections_enforced_total$")
    return sum(value for name, value in found.items() if "@1.0.0" in name)


async def _until_out(mesh: Mesh) -> None:
    """Calls until it is ejected; no call may fail meanwhile."""
    async with asyncio.timeout(30):
        while not await _active(mesh):
            assert (await mesh.call(lane="broad")).code is grpc.StatusCode.OK


async def _until_answered_by(mesh: Mesh, version: str) -> None:
    async with asyncio.timeout(30):
        while (reply := await mesh.call(lane="broad")).answer != version:
            assert reply.code is grpc.StatusCode.OK
            await asyncio.sleep(0.02)


async def test_one_that_hangs_is_ejected_by_its_try_timeout(mesh: Mesh) -> None:
    """Each call costs one limit of a try until it is out, then nothing."""
    ill, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    ill.behaviour = hang
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), try_timeout_ms=100))
    await _until_out(mesh)
    async with asyncio.timeout(10):
        while (await mesh.call(lane="broad")).tries != 1:
            await asyncio.sleep(0.01)
    before = len(ill.calls)
    for _ in range(10):
        reply = await mesh.call(lane="broad")
        assert (reply.answer, reply.tries) == ("2.0.0", 1)
    assert len(ill.calls) == before


@asynccontextmanager
async def _garbage() -> AsyncIterator[Endpoint]:
    """A server that is no gRPC server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_one_that_talks_nonsense_is_ejected(mesh: Mesh) -> None:
    """What is no gRPC is a failure of the version, and no call is lost to it."""
    ill, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    async with _garbage() as ill.endpoint:
        await mesh.route(CHAIN)
        await _until_out(mesh)
        assert (await mesh.call(lane="broad")).answer == "2.0.0"


async def test_one_that_is_not_up_yet_gets_its_calls_when_it_is(mesh: Mesh) -> None:
    """It is in the catalog before it listens."""
    await _shorten(mesh, 500)
    late = Node("1.0.0", endpoint=Endpoint("127.0.0.1", free_ports(1)[0]))
    mesh.nodes.append(late)
    await mesh.node("2.0.0")
    await mesh.route(CHAIN)
    await _until_out(mesh)
    async with late.serving(late.endpoint.port):
        await _until_answered_by(mesh, "1.0.0")


async def test_one_that_comes_and_goes_is_out_each_time_and_back_each_time(mesh: Mesh) -> None:
    """Three times; no call fails on the way, and no ejection makes the next one longer."""
    await _shorten(mesh, 500)
    node, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    await mesh.route(CHAIN)
    loop, lasted = asyncio.get_running_loop(), []
    for _ in range(3):
        node.behaviour = node_fault()
        await _until_out(mesh)
        node.behaviour = work
        began = loop.time()
        await _until_answered_by(mesh, "1.0.0")
        lasted.append(loop.time() - began)
    assert await _ejections(mesh) >= 3
    # An ejection that grew would take 1.5 s for the third; its end is seen at intervals of 1 s.
    assert lasted[2] < lasted[0] + 5


async def test_half_open_and_still_ill_is_out_again(mesh: Mesh) -> None:
    """The time is over, calls come, fail, and it is out; those calls are answered by the next version."""
    await _shorten(mesh, 300)
    node, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    node.behaviour = node_fault()
    await mesh.route(CHAIN)
    async with asyncio.timeout(30):
        while True:
            assert (await mesh.call(lane="broad")).answer == "2.0.0"
            if await _ejections(mesh) >= 3:
                break


async def test_one_that_is_slow_at_first_gets_its_calls_when_it_is_warm(mesh: Mesh) -> None:
    """Its first calls take longer than a try may: the next version answers them, and it is back by itself."""
    await _shorten(mesh, 500)
    cold, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    warm = asyncio.Event()

    async def warms_up(context: grpc.aio.ServicerContext) -> None:
        if not warm.is_set():
            await asyncio.sleep(60)

    cold.behaviour = warms_up
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), try_timeout_ms=100))
    await _until_out(mesh)
    for _ in range(20):
        assert (await mesh.call(lane="broad")).answer == "2.0.0"
    warm.set()
    await _until_answered_by(mesh, "1.0.0")


class _Health(health_pb2_grpc.HealthServicer):
    """Answers what a test says, and counts who asks."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked = 0

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        self.asked += 1
        return health_pb2.HealthCheckResponse(status=self.status)


@asynccontextmanager
async def _with_health(node: Node, health: _Health) -> AsyncIterator[None]:
    """The node at an address that answers health checks too."""
    server = grpc.aio.server()
    add_NodeServiceServicer_to_server(node, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    node.endpoint = Endpoint("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    yield
    await server.stop(0)


async def test_what_a_node_says_of_its_health_lets_nobody_in_and_nobody_out(mesh: Mesh) -> None:
    """SERVING does not end an ejection; NOT_SERVING takes nobody out who works. Envoy does not even ask.

    A node that drains leaves the catalog, and one that fails is ejected: by its calls, and by nothing else.
    """
    ill, well = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    serving = _Health(health_pb2.HealthCheckResponse.SERVING)
    refusing = _Health(health_pb2.HealthCheckResponse.NOT_SERVING)
    async with _with_health(ill, serving), _with_health(well, refusing):
        await mesh.route(CHAIN)
        ill.behaviour = node_fault()
        await _until_out(mesh)
        ill.behaviour = work
        async with asyncio.timeout(10):
            while (await mesh.call(lane="broad")).tries != 1:
                await asyncio.sleep(0.01)
        loop, before = asyncio.get_running_loop(), len(ill.calls)
        end = loop.time() + 2.5  # two intervals of the outlier detection
        while loop.time() < end:
            reply = await mesh.call(lane="broad")
            assert (reply.answer, reply.tries) == ("2.0.0", 1)
        assert len(ill.calls) == before
        assert await _active(mesh) == 1
    assert (serving.asked, refusing.asked) == (0, 0)


async def test_news_of_the_control_plane_lets_nobody_back_in(mesh: Mesh) -> None:
    """A changed route and the same endpoint again: it stays out for its time, well or not."""
    node, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    await mesh.route(CHAIN)
    node.behaviour = node_fault()
    await _until_out(mesh)
    node.behaviour = work
    async with asyncio.timeout(10):
        while (await mesh.call(lane="broad")).tries != 1:
            await asyncio.sleep(0.01)
    await mesh.node("3.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0", "3.0.0")))
    for _ in range(20):
        assert (await mesh.call(lane="broad")).answer == "2.0.0"
    assert await _active(mesh) == 1


async def test_a_full_version_hands_over_and_stays_in(mesh: Mesh) -> None:
    """At its limit every call above it is the next version's, and it is never ejected for that."""
    full, other = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    inside = 0

    async def two_at_once(context: grpc.aio.ServicerContext) -> None:
        nonlocal inside
        if inside >= 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("x-reflux-retry", "safe"),))
        inside += 1
        await asyncio.sleep(0.05)
        inside -= 1

    full.behaviour = two_at_once
    await mesh.route(CHAIN)
    for lane in ("broad", "safe"):
        replies = await asyncio.gather(*(mesh.call(lane=lane) for _ in range(30)))
        assert {reply.code for reply in replies} == {grpc.StatusCode.OK}
        assert {reply.answer for reply in replies} == {"1.0.0", "2.0.0"}
    assert other.calls
    await asyncio.sleep(1.2)
    assert not await _active(mesh)


async def test_a_flow_that_hammers_a_dead_host_fails_nobody_else(mesh: Mesh) -> None:
    """Its calls are TargetFaults, as many as it likes; those of another flow at the same node all work."""
    node = await mesh.node("1.0.0")
    dead = target_fault(grpc.StatusCode.UNAVAILABLE)

    async def by_flow(context: grpc.aio.ServicerContext) -> None:
        if dict(context.invocation_metadata() or ()).get("x-reflux-run-id") == "dead":
            await dead(context)

    node.behaviour = by_flow
    await mesh.route(Target("1.0.0", 10_000))
    loop = asyncio.get_running_loop()
    end = loop.time() + 3

    async def hammer() -> int:
        made = 0
        while loop.time() < end:
            assert (await mesh.call(x_reflux_run_id="dead")).code is grpc.StatusCode.UNAVAILABLE
            made += 1
        return made

    async def work_on() -> int:
        made = 0
        while loop.time() < end:
            assert (await mesh.call(x_reflux_run_id="well")).code is grpc.StatusCode.OK
            made += 1
        return made

    *hammered, worked = await asyncio.gather(*(hammer() for _ in range(8)), work_on())
    assert sum(hammered) > 100
    assert worked > 10
    assert not await _active(mesh)
