"""Limits of a version in its node's route: a call that is over one is answered by the next of the chain."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.controlplane.ejected import read_clusters
from reflux.controlplane.graph import Endpoint
from reflux.controlplane.routes import Ejection, Limits, Target
from tests.mesh.support.node import Node, hang, node_fault, not_processed, target_fault
from tests.mesh.support.orchestrator import orchestrator_on
from tests.mesh.support.platform import NODE

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh, Reply
    from tests.mesh.support.platform import Platform

LIMIT = 2


class _Counting:
    """A node that says how many calls it had at once; each takes its time, or until it may go."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.inside = self.most = 0
        self.free: asyncio.Event | None = None

    async def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.seconds)
            if self.free is not None:
                await self.free.wait()
        finally:
            self.inside -= 1


async def _two(mesh: Mesh, **more: Any) -> tuple[Node, Node, _Counting]:
    """1.0.0 takes two calls at once and falls back to 2.0.0."""
    one, two = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    one.behaviour = counting = _Counting()
    counting.free = asyncio.Event()
    await mesh.route(
        Target("1.0.0", 10_000, ("2.0.0",), limits=Limits(max_requests=LIMIT), **more), Target("2.0.0", 0)
    )
    return one, two, counting


async def _filled(mesh: Mesh, counting: _Counting) -> list[asyncio.Task[Reply]]:
    """Calls that fill 1.0.0."""
    calls = [asyncio.create_task(mesh.call(lane="safe", timeout=20)) for _ in range(LIMIT)]
    async with asyncio.timeout(10):
        while counting.inside < LIMIT:
            await asyncio.sleep(0.005)
    return calls


@pytest.mark.parametrize("lane", ["broad", "safe"])
async def test_what_is_over_the_limit_is_answered_by_the_next(mesh: Mesh, lane: str) -> None:
    """In both lanes: it was surely not sent. What is under way ends where it is, and then there is room."""
    one, two, counting = await _two(mesh)
    held = await _filled(mesh, counting)
    replies = await asyncio.gather(*(mesh.call(lane=lane) for _ in range(10)))
    assert [(reply.answer, reply.chosen, reply.tries) for reply in replies] == [("2.0.0", "1.0.0", 2)] * 10
    assert (len(one.calls), len(two.calls)) == (LIMIT, 10)
    assert counting.free is not None
    counting.free.set()
    assert {(await call).answer for call in held} == {"1.0.0"}
    assert (await mesh.call(lane=lane)).answer == "1.0.0"


async def test_without_a_next_one_the_reply_says_why(mesh: Mesh) -> None:
    """Nobody answered, over a limit: to an orchestrator that is NOT_SENT, and costs a step patience only."""
    one, _, counting = await _two(mesh)
    await _filled(mesh, counting)
    reply = await mesh.call(version="1.0.0", lane="safe")
    assert (reply.code, reply.headers["x-reflux-gate"]) == (grpc.StatusCode.UNAVAILABLE, "UO")
    assert reply.headers["x-reflux-retry"] == "safe"
    assert len(one.calls) == LIMIT


async def test_behind_a_gate_everything_is_as_before(mesh: Mesh) -> None:
    """Answers, faults and their lanes, labels, the deadline: only what is over the limit is new."""
    one, two, counting = await _two(mesh)
    assert counting.free is not None
    counting.free.set()
    reply = await mesh.call(lane="safe")
    assert (reply.answer, reply.headers["x-reflux-answered-by"], reply.tries) == ("1.0.0", "1.0.0", 1)
    assert "x-reflux-gate" not in reply.headers
    one.behaviour = node_fault()
    assert (await mesh.call(lane="broad")).answer == "2.0.0"
    failed = await mesh.call(lane="safe")
    assert (failed.code, failed.text, failed.tries) == (grpc.StatusCode.UNAVAILABLE, "ill", 1)
    one.behaviour = not_processed()
    assert (await mesh.call(lane="safe")).answer == "2.0.0"
    one.behaviour = target_fault()
    assert (await mesh.call(lane="broad")).text == "the target is ill"
    one.behaviour = hang
    late = await mesh.call(lane="safe", timeout=1)
    assert (late.code, late.chosen) == (grpc.StatusCode.DEADLINE_EXCEEDED, "1.0.0")
    assert "x-reflux-try-ms" not in one.calls[-1]
    assert len(two.calls) == 2


async def test_a_version_with_limits_is_ejected_as_any_other(mesh: Mesh) -> None:
    """Also one that hangs, which only the limit of a try can tell; and what is full is not ill."""
    one, two, counting = await _two(
        mesh, try_timeout_ms=100, ejection=Ejection(consecutive=3, interval_ms=100, base_time_ms=60_000)
    )
    await _filled(mesh, counting)
    for _ in range(20):
        await mesh.call(lane="broad")
    one.behaviour = hang
    one.calls.clear()
    async with asyncio.timeout(20):
        while not await _ejected(mesh):
            assert (await mesh.call(lane="broad")).answer == "2.0.0"
    one.calls.clear()
    assert (await mesh.call(lane="safe")).answer == "2.0.0"
    reply = await mesh.call(version="1.0.0", lane="safe")
    assert reply.headers["x-reflux-gate"] == "UH"
    assert not one.calls
    assert two.calls


async def _ejected(mesh: Mesh) -> bool:
    text = await mesh.proxy.admin_get("/clusters?format=json")
    return any(endpoint[1] == "1.0.0" for endpoint in read_clusters(text.encode()))


async def test_limits_change_under_load_and_nothing_is_lost(mesh: Mesh) -> None:
    """They come, get narrower, and go again. When a version gets its first, its leaf has them before calls
    take the way through the gate: what is over them in between was not sent, and says so (UO). So does what
    meets the leaf in the moment in which it is made anew, on a busy machine (UH).
    """
    _, _, counting = await _two(mesh)
    assert counting.free is not None
    counting.free.set()
    answers: Counter[str] = Counter()
    going = True

    async def caller(lane: str) -> None:
        while going:
            counted = answers  # of the route that is served when the call begins
            reply = await mesh.call(lane=lane, timeout=20)
            unsent = reply.headers.get("x-reflux-flags") in ("UO", "UH") and reply.tries == 1
            assert reply.code is grpc.StatusCode.OK or unsent, (reply.text, dict(reply.headers))
            counted[reply.answer] += 1

    async with asyncio.TaskGroup() as group:
        for lane in ("broad", "safe") * 4:
            group.create_task(caller(lane))
        for limits in (Limits(max_requests=1), Limits(max_requests=5), None, Limits(1), None):
            await mesh.route(Target("1.0.0", 10_000, ("2.0.0",), limits=limits), Target("2.0.0", 0))
            answers = Counter()
            async with asyncio.timeout(10):
                while answers.total() < 50:
                    await asyncio.sleep(0.01)
            assert (answers["2.0.0"] > 0) == (limits is not None)
            assert not answers[""], "the gate is open once the route is served"
            assert answers["1.0.0"]
        going = False


async def test_calls_that_wait_for_a_connection_are_limited_too(mesh: Mesh) -> None:
    """An endpoint that lets nobody in: one call waits for it, the others go on at once."""
    await mesh.node("2.0.0")
    with socket.socket() as deaf, ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        for _ in range(4):  # its queue is full, so a further connection waits for an answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        node = Node("1.0.0")
        node.endpoint = Endpoint(*address)
        mesh.nodes.append(node)
        await mesh.route(
            Target("1.0.0", 10_000, ("2.0.0",), limits=Limits(max_pending=1)), Target("2.0.0", 0)
        )
        began = asyncio.get_running_loop().time()
        calls = [asyncio.create_task(mesh.call(lane="safe")) for _ in range(8)]
        done, rest = await asyncio.wait(calls, timeout=0.7)
        assert all(call.result().answer == "2.0.0" for call in done)
        assert 1 <= len(rest) <= 2, f"{len(rest)} wait after {asyncio.get_running_loop().time() - began}"
        assert {(await call).answer for call in rest} == {"2.0.0"}


async def test_no_run_fails_for_a_full_version(platform: Platform, valkey_url: str) -> None:
    """Set through the API, kept with the route; a burst of runs is shared by the chain, each done once."""
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Node(name).serving()) for name in ("1", "2")]
        for node in (one, two):
            await platform.register(node, pure=True)
            await platform.answered_by(node.version, version=node.version)
        one.behaviour = counting = _Counting(0.05)
        client = await stack.enter_async_context(orchestrator_on(platform, valkey_url))
        chain = {"version": "1", "weight": 10_000, "fallback": ["2"], "limits": {"max_requests": 4}}
        route = await platform.update(chain, {"version": "2", "weight": 0})
        assert (route.targets[0].limits.max_requests, route.targets[1].HasField("limits")) == (4, False)
        one.calls.clear()
        two.calls.clear()
        await client.save("busy", {"id": "one", "node": NODE, "with": {}})
        started = await asyncio.gather(*(client.start("busy") for _ in range(60)))
        await platform.update(chain | {"limits": {"max_requests": 3}}, {"version": "2", "weight": 0})
        for run in started:
            assert (await client.until(run["id"], "SUCCEEDED", "FAILED", seconds=60))["state"] == "SUCCEEDED"
        assert counting.most <= 4 + 3  # calls of before the change do not count for the new limit
        assert len(one.calls) + len(two.calls) == 60
        assert two.calls
        step = (await client.steps(started[-1]["id"]))["one"]
        assert [each["reason"] for each in step["attempts"]] in (["weight"], ["fallback"])
