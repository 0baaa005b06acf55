"""Composition root of the control plane: store, controller, ADS and RoutingService on one port."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.api.routing.v1.routing_service_pb2_grpc import add_RoutingServiceServicer_to_server
from reflux.api.routing.v1.try_service_pb2_grpc import add_TryServiceServicer_to_server
from reflux.controlplane import access_log, catalog, ejections, metrics, server
from reflux.controlplane.contracts import Contracts
from reflux.controlplane.controller import Controller
from reflux.controlplane.envoy.access_log import NAME as TRIES
from reflux.controlplane.growth import Growth
from reflux.controlplane.routing_servicer import RoutingServicer
from reflux.controlplane.store import RouteStore
from reflux.controlplane.tries import TryKeeper
from reflux.controlplane.try_servicer import TryServicer
from reflux.controlplane.updates import Updates
from reflux.runtime import migrate, places, process
from reflux.runtime.collector import Collector
from reflux.runtime.postgres import open_pool
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Settings
from reflux.runtime.tls import Identity

if TYPE_CHECKING:
    import grpc

_SERVICES = (pb.DESCRIPTOR.services_by_name["RoutingService"].full_name,)


async def serve(settings: Settings, *, ready: asyncio.Event | None = None) -> None:
    """Serve until cancelled, then drain. Ready once calls and proxies are accepted.

    Raises:
        MigrationError: the database is not at this release.
        OSError: the address cannot be bound.
    """
    async with open_pool(settings.postgres_dsn, service="controlplane", max_size=4) as pool:
        async with pool.connection() as connection:
            await migrate.check_version(connection, "controlplane")
        store = RouteStore(pool, str(uuid.uuid4()))
        controller = Controller(store, Collector.of(settings), allow_faults=settings.faults == "test")
        watched = [ejections.ProxyWatch(address) for address in settings.proxy_stats_addresses]
        tries = TryKeeper(pool)
        identity = Identity.of(settings)
        contracts = Contracts(settings.orchestrator_address, identity)
        updates = Updates(store, controller)
        routing = RoutingServicer(store, controller, contracts, updates, watched)

        def register(to: grpc.aio.Server) -> None:
            add_RoutingServiceServicer_to_server(routing, to)
            add_TryServiceServicer_to_server(TryServicer(tries), to)
            logs = access_log.handler({TRIES: tries.take})
            to.add_generic_rpc_handlers((server.handler(controller.fleet), logs))

        address = places.listening(settings, settings.controlplane_address)
        listening = grpc_server(address=address, register=[register], services=_SERVICES, identity=identity)
        async with asyncio.TaskGroup() as tasks, listening:
            tasks.create_task(catalog.watch(settings.registry_address, controller.know, identity))
            tasks.create_task(controller.run())
            tasks.create_task(Growth(controller, contracts, updates).run())
            tasks.create_task(tries.run())
            tasks.create_task(ejections.watch(watched))
            if ready is not None:
                ready.set()
            with metrics.PROXIES_CONNECTED.watched(controller.fleet.connections):
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    await contracts.close()


if __name__ == "__main__":
    started = asyncio.Event()
    loaded = Settings.load()
    process.run(serve(loaded, ready=started), name="controlplane", settings=loaded, ready=started)
