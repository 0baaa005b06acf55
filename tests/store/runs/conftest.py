"""An orchestrator over real PostgreSQL and Valkey; the mesh is scripted by the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reflux.cli.stack.ports import free_ports
from reflux.orchestrator.__main__ import serve
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from tests.support.scripted_mesh import Client, Mesh, running_mesh
from tests.support.service import serving


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    """The scripted mesh."""
    async with running_mesh() as mesh:
        yield mesh


@pytest.fixture
def begin(database_dsn: str, valkey_url: str, mesh: Mesh):
    """Starts orchestrators on one database: `async with begin() as client`."""

    @asynccontextmanager
    async def begin(**settings: Any) -> AsyncIterator[Client]:
        address = Address("127.0.0.1", free_ports(1)[0])
        values = {
            "postgres_dsn": database_dsn,
            "redis_url": valkey_url,
            "mesh_address": mesh.address,
            "registry_address": mesh.address,
            "controlplane_address": mesh.address,
            "orchestrator_address": address,
            "lease_seconds": 2.0,
            "shards": 8,
            **settings,
        }
        async with rpc.channel(address) as channel, serving(serve, Settings.load(**values)):
            yield Client(address, channel)

    return begin
