"""An orchestrator over real PostgreSQL and Valkey; the mesh is scripted by the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from reflux.cli.stack.ports import free_ports
from reflux.orchestrator.__main__ import serve
from reflux.runtime import rpc
from reflux.runtime.postgres import enter_service
from reflux.runtime.settings import Address, Settings
from tests.support.orchestrators import Orchestrators, orchestrators, store_settings
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
        stores = store_settings(database_dsn, valkey_url, mesh.address)
        values = {**stores, "orchestrator_address": address, **settings}
        async with rpc.channel(address) as channel, serving(serve, Settings.load(**values)):
            yield Client(address, channel)

    return begin


@pytest.fixture
async def session(database_dsn: str):
    """A session of the orchestrator's role, to look at the tables and to change them."""
    async with await AsyncConnection.connect(database_dsn, autocommit=True) as connection:
        await enter_service(connection, "orchestrator")
        yield connection


@pytest.fixture
async def processes(
    database_dsn: str, valkey_url: str, mesh: Mesh, tmp_path: Path
) -> AsyncIterator[Orchestrators]:
    """Orchestrators as processes on one database: `client = await processes.serving("a")`."""
    async with orchestrators(store_settings(database_dsn, valkey_url, mesh.address), tmp_path) as made:
        yield made
