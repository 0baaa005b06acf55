"""The orchestrator as it runs in production, over the platform of a test and its real Envoy."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reflux.cli.stack.ports import free_ports
from reflux.orchestrator import __main__ as orchestrator
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from tests.support.scripted_mesh import Client
from tests.support.service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mesh.support.platform import Platform


@asynccontextmanager
async def orchestrator_on(platform: Platform, redis_url: str) -> AsyncIterator[Client]:
    """Within the block it walks runs; yields a client of it."""
    address = Address("127.0.0.1", free_ports(1)[0])
    settings = Settings.load(
        postgres_dsn=platform.settings.postgres_dsn,
        redis_url=redis_url,
        registry_address=platform.settings.registry_address,
        controlplane_address=platform.settings.controlplane_address,
        mesh_address=Address("127.0.0.1", platform.proxy.mesh),
        orchestrator_address=address,
        shards=4,
    )
    async with rpc.channel(address) as channel, serving(orchestrator.serve, settings):
        yield Client(address, channel)
