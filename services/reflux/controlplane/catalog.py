"""What is registered, as the registry streams it.

The last catalog heard stays in force while the registry is away: an unreachable registry never empties
endpoints. Before the first one nothing is known, and nothing is told to any proxy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import grpc

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub
from reflux.controlplane.graph import Endpoint, Version
from reflux.runtime import logs, rpc
from reflux.runtime.settings import Address
from reflux.runtime.tasks import forever
from reflux.runtime.tls import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.runtime.tls import Identity

_RETRY_SECONDS: Final = 0.5

log = logs.get_logger("catalog")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every version known, with its live endpoints."""

    versions: tuple[Version, ...]
    """Of one node in the order in which they were first registered."""

    def of(self, node: str) -> tuple[str, ...]:
        """The versions of a node, the first registered first; empty for an unknown node."""
        return tuple(each.version for each in self.versions if each.node == node)

    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, each once, sorted."""
        return tuple(sorted({each.node for each in self.versions}))


async def watch(
    registry: Address, on_catalog: Callable[[Catalog], None], identity: Identity | None = None
) -> None:
    """Call `on_catalog` with every catalog the registry sends, for ever."""
    away = False
    for _ in forever():
        async with rpc.channel(registry, Role.REGISTRY, identity) as channel:
            try:
                async for message in EndpointServiceStub(channel).WatchCatalog(pb.WatchCatalogRequest()):
                    away = False
                    on_catalog(read(message))
            except grpc.aio.AioRpcError as error:
                if not away:
                    log.warning("registry_away", address=str(registry), code=error.code().name)
                away = True
        await asyncio.sleep(_RETRY_SECONDS)


def read(message: pb.Catalog) -> Catalog:
    """The registry's message as values. An endpoint that Envoy could not call is left out."""
    versions = sorted(message.versions, key=lambda each: (each.node, each.create_time.ToNanoseconds()))
    return Catalog(
        tuple(
            Version(
                each.node,
                each.version,
                tuple(found for one in each.endpoints if (found := _endpoint(one.address)) is not None),
            )
            for each in versions
        )
    )


def _endpoint(text: str) -> Endpoint | None:
    try:
        address = Address.parse(text)
        return Endpoint(str(ip_address(address.host)), address.port)
    except ValueError:
        log.warning("endpoint_ignored", address=text, hint="Envoy needs ip:port")
        return None
