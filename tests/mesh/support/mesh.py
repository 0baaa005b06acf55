"""One Envoy, the ADS server and some nodes, with a short way to publish a route and to call."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.controlplane import access_log, graph, server, snapshot
from reflux.controlplane.fleet import Fleet
from reflux.controlplane.graph import Endpoint, Version
from reflux.controlplane.routes import Route, Target
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address
from tests.mesh.support.node import Node
from tests.mesh.support.proxy import Proxy, envoy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from reflux.controlplane.tries import Try
    from reflux.runtime.collector import Collector

NODE = "payment.charge"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller learns from one call."""

    code: grpc.StatusCode
    answer: str
    """The version that worked, by its own word; empty when the call failed."""
    text: str
    headers: dict[str, Any]

    @property
    def chosen(self) -> str:
        """The version that the route chose."""
        return self.headers.get("x-reflux-chosen", "")

    @property
    def tries(self) -> int:
        """Envoy's tries."""
        return int(self.headers.get("x-envoy-attempt-count", 0))


@asynccontextmanager
async def control_plane(
    fleet: Fleet, port: int = 0, logs: Mapping[str, Callable[[Iterator[Try]], None]] | None = None
) -> AsyncIterator[int]:
    """The ADS server of `fleet`, with somebody who hears the access logs; yields its port."""

    def register(to: grpc.aio.Server) -> None:
        to.add_generic_rpc_handlers((server.handler(fleet), access_log.handler(logs or {})))

    address = Address("127.0.0.1", port)
    async with grpc_server(address=address, register=[register], services=[], drain_seconds=0) as bound:
        yield bound.port


@dataclass(slots=True)
class Mesh:
    """What a test holds."""

    fleet: Fleet
    changed: asyncio.Event
    proxy: Proxy
    stub: NodeServiceStub
    stack: AsyncExitStack
    collector: Collector | None = None
    logged: list[Try] = field(default_factory=list)
    """What the access log said of tries that failed."""
    nodes: list[Node] = field(default_factory=list)
    revision: int = 0
    allow_faults: bool = False

    async def node(self, version: str) -> Node:
        """A running node of this version; it is in the catalog of the next `route`."""
        node = await self.stack.enter_async_context(Node(version).serving())
        self.nodes.append(node)
        return node

    async def route(self, *targets: Target) -> None:
        """Publish a route and all nodes, and wait until Envoy serves it.

        Its workers follow some milliseconds after the acknowledgement; on the connection of `call` they have
        when even a refusal tells the new revision.
        """
        self.publish(*targets)
        await self.settled()
        async with asyncio.timeout(10):
            while (await self.call(version="none")).headers.get("x-reflux-revision") != str(self.revision):
                await asyncio.sleep(0.001)

    def publish(self, *targets: Target) -> None:
        """Publish a route and all nodes."""
        self.revision += 1
        endpoints: dict[str, list[Endpoint]] = {}
        for node in self.nodes:
            endpoints.setdefault(node.version, []).append(node.endpoint)
        versions = [Version(NODE, version, tuple(each)) for version, each in endpoints.items()]
        wanted = graph.build(versions, [Route(NODE, self.revision, targets)])
        self.fleet.publish(snapshot.build(wanted, allow_faults=self.allow_faults).traced(self.collector))

    async def settled(self) -> None:
        """Wait until Envoy has accepted the newest snapshot; fail with its words if it refuses."""
        async with asyncio.timeout(10):
            while not (reports := self.fleet.reports()) or not all(each.settled for each in reports):
                assert not any(each.refusal for each in reports), reports
                self.changed.clear()
                await self.changed.wait()

    async def call(
        self, *, draw: int | None = None, lane: str | None = None, version: str | None = None, **more: Any
    ) -> Reply:
        """Call the node; a call that fails is a reply too."""
        timeout = more.pop("timeout", 10)
        given = {"node": more.pop("node", NODE), "draw": draw, "lane": lane, "version": version}
        metadata = [(f"x-reflux-{key}", str(value)) for key, value in given.items() if value is not None]
        metadata += [(key.replace("_", "-"), str(value)) for key, value in more.items()]
        call = self.stub.Execute(pb.ExecuteRequest(input=b"{}"), timeout=timeout, metadata=metadata)
        answer = ""
        with suppress(grpc.aio.AioRpcError):
            answer = (await call).output.decode()
        headers = dict(await call.initial_metadata() or ()) | dict(await call.trailing_metadata() or ())
        return Reply(await call.code(), answer, await call.details() or "", headers)


@asynccontextmanager
async def mesh_on(
    folder: Path, collector: Collector | None = None, every: list[Try] | None = None
) -> AsyncIterator[Mesh]:
    """A mesh without nodes and routes yet; with a collector it traces; `every` hears a log "all"."""
    changed = asyncio.Event()
    fleet = Fleet(changed.set)
    fleet.publish(snapshot.build(graph.build([], [])).traced(collector))
    async with AsyncExitStack() as stack:
        logged: list[Try] = []
        logs = {"tries": logged.extend, "all": (every if every is not None else []).extend}
        port = await stack.enter_async_context(control_plane(fleet, logs=logs))
        proxy = await stack.enter_async_context(envoy(folder, cluster="mesh", controlplane=port))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{proxy.mesh}"))
        yield Mesh(fleet, changed, proxy, NodeServiceStub(channel), stack, collector, logged)
