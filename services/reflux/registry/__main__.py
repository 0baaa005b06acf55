"""Composition root of the registry."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.api.registry.v1.registry_service_pb2_grpc import (
    add_EndpointServiceServicer_to_server,
    add_RegistryServiceServicer_to_server,
)
from reflux.registry.catalog import LiveCatalog
from reflux.registry.endpoint_servicer import EndpointServicer
from reflux.registry.registry_servicer import RegistryServicer
from reflux.registry.store import RegistryStore
from reflux.runtime import migrate, places, process
from reflux.runtime.postgres import open_pool
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Settings
from reflux.runtime.tls import Identity

if TYPE_CHECKING:
    import grpc

_SERVICES = tuple(
    pb.DESCRIPTOR.services_by_name[name].full_name for name in ("RegistryService", "EndpointService")
)


async def serve(settings: Settings, *, ready: asyncio.Event | None = None) -> None:
    """Serve until cancelled, then drain. Ready once calls are accepted.

    Raises:
        MigrationError: the database is not at this release.
        OSError: the address cannot be bound.
    """
    lease = timedelta(seconds=settings.lease_seconds)
    async with open_pool(settings.postgres_dsn, service="registry") as pool:
        async with pool.connection() as connection:
            await migrate.check_version(connection, "registry")
        store = RegistryStore(pool, lease)
        await store.grace()
        live = LiveCatalog(store, await store.catalog())

        def register(to: grpc.aio.Server) -> None:
            add_RegistryServiceServicer_to_server(RegistryServicer(store, live), to)
            add_EndpointServiceServicer_to_server(EndpointServicer(store, live, lease), to)

        address = places.listening(settings, settings.registry_address)
        identity = Identity.of(settings)
        listening = grpc_server(address=address, register=[register], services=_SERVICES, identity=identity)
        async with asyncio.TaskGroup() as tasks, listening:
            tasks.create_task(live.run())
            if ready is not None:
                ready.set()
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    started = asyncio.Event()
    loaded = Settings.load()
    process.run(serve(loaded, ready=started), name="registry", settings=loaded, ready=started)
