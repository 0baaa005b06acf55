"""What Envoy adds to a call of a node: the same call to the same process, straight and through the mesh.

Through the mesh it is what an orchestrator sends: a route, a draw, a chain under lane `broad`, the labels of
the reply. One call in flight tells what a call costs that has the machine for itself; many tell what is left
of it where both ends are busy.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from bench.echo import SINGLE
from bench.report import medians, show, take_turns
from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.api.registry.v1.registry_service_pb2 import WatchCatalogRequest
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub
from reflux.runtime import rpc
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import grpc

    from bench.report import Plan
    from bench.stack import Stack

IN_FLIGHT: Final = (1, 64)
_READY_SECONDS: Final = 60.0


async def measure(stack: Stack, plan: Plan) -> None:
    """Measure and print."""
    async with (
        rpc.channel(await _endpoint(stack)) as direct,
        rpc.channel(_address(stack.mesh)) as mesh,
    ):
        contenders = {"bare limit: straight": _caller(direct), "through Envoy": _caller(mesh)}
        for in_flight in IN_FLIGHT:
            samples = await take_turns(contenders, in_flight=in_flight, plan=plan)
            show(f"Envoy: one call of a node, {in_flight} in flight", samples)
            bare, ours = (medians(rounds) for rounds in samples.values())
            added = sorted(one - other for one, other in zip(ours, bare, strict=True))
            print(f"  added at p50: {added[len(added) // 2]:.2f} ms  ({added[0]:.2f} to {added[-1]:.2f})")


def _caller(channel: grpc.aio.Channel) -> Callable[[], Awaitable[object]]:
    stub = NodeServiceStub(channel)
    request = pb.ExecuteRequest(input=b'{"value": "x"}')
    envelope = (
        ("x-reflux-node", SINGLE),
        ("x-reflux-lane", "broad"),
        ("x-reflux-draw", "0"),
        ("x-reflux-run-id", "00000000-0000-7000-8000-000000000000"),
        ("x-reflux-step", "echo"),
        ("x-reflux-attempt", "1"),
        ("x-reflux-fencing-token", "1"),
        ("x-reflux-effect", "pure"),
        ("x-reflux-idempotency-key", "k"),
    )

    async def call() -> object:
        return await stub.Execute(request, metadata=envelope, timeout=_READY_SECONDS, wait_for_ready=True)

    return call


async def _endpoint(stack: Stack) -> Address:
    """Where the echo node itself listens, by the registry's word."""
    ports = json.loads((stack.data / "run" / "stack.json").read_text())["ports"]
    async with rpc.channel(Address("127.0.0.1", ports["registry"])) as registry:
        catalog = EndpointServiceStub(registry).WatchCatalog(WatchCatalogRequest(), timeout=_READY_SECONDS)
        async for snapshot in catalog:
            for version in snapshot.versions:
                if version.node == SINGLE and version.endpoints:
                    return _address(version.endpoints[0].address)
    raise RuntimeError(f"{SINGLE} is not registered")


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host, int(port))
