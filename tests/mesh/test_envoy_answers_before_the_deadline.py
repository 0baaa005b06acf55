"""Envoy knows what was chosen; a client whose own deadline fires knows nothing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.graph import Endpoint
from reflux.controlplane.routes import Target
from tests.mesh.support.node import Node, hang

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A process that is stopped: its kernel takes everything, nobody answers."""
    await reader.read()
    writer.close()


async def test_a_node_that_is_stopped_is_answered_for(mesh: Mesh) -> None:
    """0.2 s before the caller's deadline Envoy gives up, and its reply says what was chosen."""
    stopped = await mesh.stack.enter_async_context(await asyncio.start_server(_swallow, "127.0.0.1", 0))
    mesh.nodes.append(Node("1.0.0", Endpoint(*stopped.sockets[0].getsockname())))
    await mesh.route(Target("1.0.0", 10_000))
    reply = await mesh.call(timeout=1.0)
    assert reply.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reply.chosen == "1.0.0"
    assert "duration timeout" in reply.text


async def test_the_node_sees_the_shorter_deadline(mesh: Mesh) -> None:
    """So it stops working when nobody listens any more."""
    node = await mesh.node("1.0.0")
    left: list[float | None] = []

    async def look(context: grpc.aio.ServicerContext[object, object]) -> None:
        left.append(context.time_remaining())

    node.behaviour = look
    await mesh.route(Target("1.0.0", 10_000))
    await mesh.call(timeout=20)
    assert left[0] is not None
    assert left[0] <= 20


async def test_a_try_has_its_own_limit(mesh: Mesh) -> None:
    """A version that is slow loses the call to the next one long before the deadline."""
    slow = await mesh.node("1.0.0")
    slow.behaviour = hang
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), try_timeout_ms=1000))
    began = time.monotonic()
    reply = await mesh.call(lane="broad", timeout=30)
    assert (reply.answer, reply.tries, len(slow.calls)) == ("2.0.0", 2, 1)
    assert time.monotonic() - began < 15


async def test_each_choice_has_its_own_limit_and_its_fallbacks_share_it(mesh: Mesh) -> None:
    """Envoy keeps one limit per call: a fallback is tried under that of the chosen target, not its own."""
    slow, last = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    slow.behaviour = last.behaviour = hang
    await mesh.route(
        Target("1.0.0", 5000, fallback=("2.0.0",), try_timeout_ms=100),
        Target("2.0.0", 5000, try_timeout_ms=3_600_000),
    )
    reply = await mesh.call(lane="broad", draw=0, timeout=60)
    assert (reply.code, reply.text) == (grpc.StatusCode.UNAVAILABLE, "upstream request timeout")
    assert (reply.tries, reply.headers["x-reflux-answered-by"]) == (2, "2.0.0")
    reply = await mesh.call(lane="broad", draw=9999, timeout=1.5)
    assert reply.code is grpc.StatusCode.DEADLINE_EXCEEDED
