"""Several endpoints of one version: the least busy one gets the call, a new one gets few at first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from reflux.controlplane.routes import Target

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh, Reply

VERSION = "1.0.0"


async def _shares(mesh: Mesh, calls: int) -> Counter[int]:
    """Who answered so many calls made one after the other, by `id` of the node."""
    before = {id(node): len(node.calls) for node in mesh.nodes}
    for _ in range(calls):
        assert (await mesh.call()).answer == VERSION
    return Counter({id(node): len(node.calls) - before[id(node)] for node in mesh.nodes})


async def test_who_is_busy_gets_less(mesh: Mesh) -> None:
    """One endpoint holds its calls; those that come meanwhile go to the others, and none waits behind it."""
    release = asyncio.Event()
    slow, *quick = [await mesh.node(VERSION) for _ in range(3)]
    await mesh.route(Target(VERSION, 10_000))

    async def hold(_: object) -> None:
        await release.wait()

    slow.behaviour = hold
    held: list[asyncio.Task[Reply]] = []
    async with asyncio.timeout(30):
        while sum(not task.done() for task in held) < 4:
            held = [task for task in held if not task.done()]
            held.append(asyncio.ensure_future(mesh.call(timeout=60)))
            await asyncio.sleep(0.02)
    before = {id(node): len(node.calls) for node in mesh.nodes}
    for _ in range(60):
        held.append(asyncio.ensure_future(mesh.call(timeout=60)))
        await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        while sum(len(node.calls) - before[id(node)] for node in mesh.nodes) < 60:
            await asyncio.sleep(0.01)
    # A fair share were 20. Two endpoints are drawn for each call, now and then both times this one.
    assert len(slow.calls) - before[id(slow)] < 14
    release.set()
    assert {each.answer for each in await asyncio.gather(*held)} == {VERSION}
    assert all(len(node.calls) > before[id(node)] for node in quick)


async def test_a_new_endpoint_gets_few_calls_at_first_and_its_share_in_the_end(mesh: Mesh) -> None:
    """Slow start, from the moment it appears; the version that was alone before served all the while."""
    old = await mesh.node(VERSION)
    await mesh.route(Target(VERSION, 10_000))
    await asyncio.sleep(11)  # else the first one were new as well, and they would weigh the same
    new = await mesh.node(VERSION)
    await mesh.route(Target(VERSION, 10_000))
    assert (await _shares(mesh, 100))[id(new)] < 35
    async with asyncio.timeout(60):
        while (shares := await _shares(mesh, 200))[id(new)] < 80:
            pass
    assert shares[id(old)] > 60
