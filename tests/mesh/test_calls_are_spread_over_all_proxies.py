"""The orchestrator's channel to several proxies: all of them are used, and those that are left are enough."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import grpc

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.runtime import proxies, rpc
from reflux.runtime.settings import Address
from tests.mesh.support.node import Node
from tests.mesh.support.platform import NODE
from tests.mesh.support.proxy import envoy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mesh.support.platform import Platform
    from tests.mesh.support.proxy import Proxy

CALLERS = 4


async def _code(stub: NodeServiceStub) -> grpc.StatusCode:
    call = stub.Execute(
        node_pb.ExecuteRequest(),
        timeout=20,
        metadata=(("x-reflux-node", NODE), ("x-reflux-lane", "safe")),
    )
    return await call.code()


async def _ready(proxy: Proxy) -> None:
    """Wait until it serves the node."""
    async with rpc.channel(Address("127.0.0.1", proxy.mesh)) as channel, asyncio.timeout(20):
        while await _code(NodeServiceStub(channel)) is not grpc.StatusCode.OK:
            await asyncio.sleep(0.02)


async def _calls(proxy: Proxy) -> int:
    (number,) = (await proxy.stats("^http.mesh.downstream_rq_total$")).values()
    return number


async def test_each_proxy_has_its_share_and_one_that_dies_is_missed_once(
    platform: Platform, tmp_path: Path
) -> None:
    """Under load one of two proxies is killed: no caller loses more than the call that was on its way through
    it, and all later ones go through the other.
    """
    async with AsyncExitStack() as stack:
        await platform.register(await stack.enter_async_context(Node("1.0.0").serving()))
        lives, running = [AsyncExitStack(), AsyncExitStack()], []
        for name, life in zip(("a", "b"), lives, strict=True):
            await stack.enter_async_context(life)
            port = platform.settings.controlplane_address.port
            started = envoy(tmp_path, cluster="mesh", name=name, controlplane=port)
            running.append(await life.enter_async_context(started))
            await _ready(running[-1])
        known = tuple(Address("127.0.0.1", proxy.mesh) for proxy in running)
        settings = platform.settings.model_copy(update={"mesh_addresses": known})
        stub = NodeServiceStub(await stack.enter_async_context(proxies.channel(settings)))

        async with asyncio.timeout(20):
            alone = [await _calls(proxy) for proxy in running]
            while any([await _calls(proxy) == former for proxy, former in zip(running, alone, strict=True)]):
                assert await _code(stub) is grpc.StatusCode.OK  # until it is connected to both
        before = [await _calls(proxy) for proxy in running]
        assert {await _code(stub) for _ in range(40)} == {grpc.StatusCode.OK}
        shares = [await _calls(proxy) - former for proxy, former in zip(running, before, strict=True)]
        assert sum(shares) == 40
        assert min(shares) >= 15  # by turns

        codes: list[list[grpc.StatusCode]] = [[] for _ in range(CALLERS)]
        over = asyncio.Event()

        async def call_on(mine: list[grpc.StatusCode]) -> None:
            while not over.is_set():
                mine.append(await _code(stub))

        async with asyncio.TaskGroup() as callers:
            for mine in codes:
                callers.create_task(call_on(mine))
            await asyncio.sleep(0.2)
            await lives[0].aclose()
            done = [len(mine) for mine in codes]
            async with asyncio.timeout(20):
                while any(len(mine) < had + 20 for mine, had in zip(codes, done, strict=True)):
                    await asyncio.sleep(0.02)
            over.set()
        for mine, had in zip(codes, done, strict=True):
            assert len([code for code in mine if code is not grpc.StatusCode.OK]) <= 1
            assert set(mine[had + 1 :]) == {grpc.StatusCode.OK}
