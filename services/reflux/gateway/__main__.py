"""Composition root of the gateway: `python -m reflux.gateway`."""

from __future__ import annotations

import asyncio

from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
from reflux.gateway import metrics
from reflux.gateway.app import application
from reflux.gateway.hooks import Hooks
from reflux.gateway.server import serve_http
from reflux.gateway.watches import Watches
from reflux.runtime import logs, places, process, rpc
from reflux.runtime.settings import Settings
from reflux.runtime.tls import Identity, Role

log = logs.get_logger("gateway")


async def serve(settings: Settings, *, ready: asyncio.Event | None = None) -> None:
    """Serve HTTP at the gateway's place until cancelled; open streams are then closed to be resumed.

    Raises:
        OSError: the address cannot be bound.
    """

    def on_ready(port: int) -> None:
        log.info("gateway_serving", port=port)
        if ready is not None:
            ready.set()

    identity = Identity.of(settings)
    async with rpc.channel(settings.orchestrator_address, Role.ORCHESTRATOR, identity) as orchestrator:
        watches = Watches(RunServiceStub(orchestrator))
        app = application(watches, Hooks(TriggerServiceStub(orchestrator)))
        address = places.listening(settings, settings.gateway_address)
        with metrics.WATCHES_OPEN.watched(watches.count):
            await serve_http(app, address, on_ready=on_ready, on_stop=watches.stop, identity=identity)


def main() -> None:
    """Run the gateway as a process."""
    settings = Settings.load()
    ready = asyncio.Event()
    process.run(serve(settings, ready=ready), name="gateway", settings=settings, ready=ready)


if __name__ == "__main__":
    main()
