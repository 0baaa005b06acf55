"""Routes and endpoints change while calls are in flight; nobody notices but the versions."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.mesh.support.mesh import Mesh, Reply

CALLERS = 8


async def _call_until(mesh: Mesh, stop: asyncio.Event) -> list[Reply]:
    replies = []
    while not stop.is_set():
        replies.append(await mesh.call(timeout=30))
    return replies


async def _under_load(mesh: Mesh, change: Coroutine[None, None, None]) -> Counter[grpc.StatusCode]:
    """The codes of all calls made while `change` was going on."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(_call_until(mesh, stop)) for _ in range(CALLERS)]
        try:
            await change
        finally:
            stop.set()
    return Counter(reply.code for caller in callers for reply in caller.result())


async def test_weights_flip_back_and_forth(mesh: Mesh) -> None:
    """Ten times from all to none and back: no call fails, and each flip takes effect."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")

    async def flip() -> None:
        for turn in range(10):
            one = 10_000 * (turn % 2)
            await mesh.route(Target("1.0.0", one), Target("2.0.0", 10_000 - one))
            assert (await mesh.call()).answer == ("1.0.0" if one else "2.0.0")

    await mesh.route(Target("1.0.0", 10_000))
    codes = await _under_load(mesh, flip())
    assert codes.keys() == {grpc.StatusCode.OK}


async def test_chains_and_versions_come_and_go(mesh: Mesh) -> None:
    """New clusters are there before a route leads to them, old ones go after the last route has left."""
    await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))

    async def grow_and_shrink() -> None:
        for number in range(2, 6):
            await mesh.node(f"{number}.0.0")
            newest = Target(f"{number}.0.0", 10_000, fallback=("1.0.0",), tries=number)
            await mesh.route(newest)
            assert (await mesh.call()).answer == f"{number}.0.0"
        await mesh.route(Target("1.0.0", 10_000))

    codes = await _under_load(mesh, grow_and_shrink())
    assert codes.keys() == {grpc.StatusCode.OK}


async def test_an_endpoint_that_was_removed_gets_no_more_calls(mesh: Mesh) -> None:
    """That is how a node drains: out of the catalog first, then it stops."""
    first, second = await mesh.node("1.0.0"), await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000))

    async def remove() -> None:
        async with asyncio.timeout(10):
            while not (first.calls and second.calls):
                await asyncio.sleep(0.01)
        mesh.nodes.remove(first)
        await mesh.route(Target("1.0.0", 10_000))
        # Calls that Envoy had already chosen an endpoint for may still arrive.
        async with asyncio.timeout(10):
            seen = -1
            while seen != len(first.calls):
                seen = len(first.calls)
                await asyncio.sleep(0.1)
        before = len(second.calls)
        while len(second.calls) < before + 50:
            await asyncio.sleep(0.01)
        assert len(first.calls) == seen

    codes = await _under_load(mesh, remove())
    assert codes.keys() == {grpc.StatusCode.OK}
