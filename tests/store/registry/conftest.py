"""Two registries on one database, as processes would be."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub, RegistryServiceStub
from reflux.cli.stack import ports
from reflux.registry.__main__ import serve
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from tests.support.service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry as its callers see it."""

    endpoints: EndpointServiceStub
    catalog: RegistryServiceStub

    async def register(self, node: str = "echo", version: str = "1.0.0", **more: Any) -> str:
        """Register an endpoint; `more` changes the description or, as `address`, where it is."""
        address = more.pop("address", "127.0.0.1:9000")
        fields = {"description": "Says it again.", "input_schema": b"{}", "output_schema": b"{}"}
        description = node_pb.NodeDescription(
            node=node, version=version, **{"max_concurrency": 8, **fields, **more}
        )
        description.attempt_timeout.FromSeconds(10)
        request = pb.RegisterEndpointRequest(description=description, address=address)
        return (await self.endpoints.RegisterEndpoint(request, timeout=10)).endpoint_id

    async def renew(self, endpoint: str) -> None:
        """Renew a lease."""
        await self.endpoints.RenewEndpoint(pb.RenewEndpointRequest(endpoint_id=endpoint), timeout=10)

    async def addresses(self) -> list[str]:
        """Live endpoints, as a watcher that has just come sees them."""
        watch = self.endpoints.WatchCatalog(pb.WatchCatalogRequest(), timeout=10)
        catalog = await anext(aiter(watch))
        watch.cancel()
        return sorted(each.address for version in catalog.versions for each in version.endpoints)

    async def shows(self, *addresses: str) -> None:
        """Wait until exactly these endpoints are live."""
        async with asyncio.timeout(15):
            while await self.addresses() != sorted(addresses):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def _running(dsn: str, lease: float) -> AsyncIterator[Registry]:
    (port,) = ports.free_ports(1)
    address = Address("127.0.0.1", port)
    settings = Settings.load(postgres_dsn=dsn, registry_address=address, lease_seconds=lease)
    async with serving(serve, settings), rpc.channel(address) as channel:
        yield Registry(EndpointServiceStub(channel), RegistryServiceStub(channel))


@pytest.fixture
def running(database_dsn: str) -> Callable[..., AbstractAsyncContextManager[Registry]]:
    """Start a registry on this test's database: `async with running(lease=1.0) as registry`."""

    def start(lease: float = 10.0) -> AbstractAsyncContextManager[Registry]:
        return _running(database_dsn, lease)

    return start
