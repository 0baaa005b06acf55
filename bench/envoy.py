"""What Envoy adds to a call of a node: the same call to the same process, straight and through the mesh.

Through the mesh it is what an orchestrator sends: a route, a draw, a chain under lane `broad`, the labels of
the reply. One call in flight tells what a call costs that has the machine for itself; many tell what is left
of it where both ends are busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.calls import REQUEST, envelope
from bench.echo import SINGLE
from bench.report import medians, row, show, take_turns
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.api.registry.v1.registry_service_pb2 import WatchCatalogRequest
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub
from reflux.runtime import rpc
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import grpc

    from bench.report import Plan, Row
    from bench.stack import Stack

IN_FLIGHT: Final = (1, 64)
_READY_SECONDS: Final = 60.0


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print."""
    async with (
        rpc.channel(await _endpoint(stack)) as direct,
        rpc.channel(stack.mesh) as mesh,
    ):
        contenders = {"bare limit: straight": _caller(direct), "through Envoy": _caller(mesh)}
        lines = []
        for in_flight in IN_FLIGHT:
            samples = await take_turns(contenders, in_flight=in_flight, plan=plan)
            show(f"Envoy: one call of a node, {in_flight} in flight", samples)
            bare, ours = (medians(rounds) for rounds in samples.values())
            added = sorted(one - other for one, other in zip(ours, bare, strict=True))
            print(f"  added at p50: {added[len(added) // 2]:.2f} ms  ({added[0]:.2f} to {added[-1]:.2f})")
            lines.append(row(f"a call through Envoy, {in_flight} in flight, p50 ms", bare, ours, digits=1))
    return lines


def _caller(channel: grpc.aio.Channel) -> Callable[[], Awaitable[object]]:
    stub = NodeServiceStub(channel)
    headers = envelope(SINGLE)

    async def call() -> object:
        return await stub.Execute(REQUEST, metadata=headers, timeout=_READY_SECONDS, wait_for_ready=True)

    return call


async def _endpoint(stack: Stack) -> Address:
    """Where the echo node itself listens, by the registry's word."""
    async with rpc.channel(stack.registry) as registry:
        catalog = EndpointServiceStub(registry).WatchCatalog(WatchCatalogRequest(), timeout=_READY_SECONDS)
        async for snapshot in catalog:
            for version in snapshot.versions:
                if version.node == SINGLE and version.endpoints:
                    return Address.parse(version.endpoints[0].address)
    raise RuntimeError(f"{SINGLE} is not registered")
