"""Serving node versions: a port each, a lease each, one connection to the registry.

The drain of a version: health says NOT_SERVING and the endpoint is taken back; for `LINGER_SECONDS` calls are
still served, because the mesh may not have noticed; then further ones are answered NODE_DRAINING (not
processed, so the mesh may hand them on), and those in flight get `DRAIN_SECONDS` to finish.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from reflux.api.node.v1 import node_service_pb2_grpc
from reflux.runtime import rpc
from reflux.runtime.collector import Collector
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address
from reflux.runtime.tls import Identity, Role
from reflux.runtime.trace_export import Exporter, exporting
from reflux.sdk import metrics
from reflux.sdk.claims import Claims
from reflux.sdk.credentials import CredentialStore
from reflux.sdk.registration import Registration
from reflux.sdk.servicer import SERVICE, NodeServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import grpc

    from reflux.runtime.settings import Settings
    from reflux.sdk.definition import NodeVersion

LINGER_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 10.0

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


async def serve(
    versions: Sequence[NodeVersion], settings: Settings, *, ready: asyncio.Event | None = None
) -> None:
    """Serve `versions` until cancelled, then drain.

    Args:
        versions: what to serve, each on a port of its own.
        settings: `node_port` and the port of `advertise` may be given only for a single version; see
            `Settings` for `registry_address`, `bind` and `advertise`.
        ready: set once the registry has answered for every version.

    Raises:
        ValueError: one port for several versions.
        OSError: a port is taken.
        TlsError: `tls_dir` does not hold an identity.
    """
    advertised_port = settings.advertise.port if settings.advertise else 0
    if len(versions) > 1 and (settings.node_port or advertised_port):
        raise ValueError("node_port and the port of advertise fit one node version, not several")
    identity = Identity.of(settings)
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(
            rpc.channel(settings.registry_address, Role.REGISTRY, identity)
        )
        claims = await stack.enter_async_context(Claims(identity))
        exporter = await stack.enter_async_context(exporting(Collector.of(settings)))
        async with asyncio.TaskGroup() as group:
            served = [asyncio.Event() for _ in versions]
            for version, event in zip(versions, served, strict=True):
                serving = _serve_one(version, settings, registry, claims, exporter=exporter, settled=event)
                group.create_task(serving, name=version.name)
            for event in served:
                await event.wait()
            if ready is not None:
                ready.set()


async def _serve_one(
    version: NodeVersion,
    settings: Settings,
    registry: grpc.aio.Channel,
    claims: Claims,
    *,
    exporter: Exporter | None,
    settled: asyncio.Event,
) -> None:
    registration: Registration | None = None

    async def leave() -> None:
        if registration is not None:
            await registration.remove()
            await asyncio.sleep(LINGER_SECONDS)

    address = Address(_bind_host(settings), settings.node_port)
    server = node_server(version, settings, claims=claims, address=address, on_drain=leave, exporter=exporter)
    async with server as bound:
        registration = Registration(registry, version=version, address=_advertise(settings, bound))
        async with asyncio.TaskGroup() as group:
            group.create_task(registration.keep(), name=f"lease of {version.name}")
            await registration.settled.wait()
            settled.set()


@asynccontextmanager
async def node_server(
    version: NodeVersion,
    settings: Settings,
    *,
    claims: Claims,
    address: Address,
    on_drain: Callable[[], Awaitable[None]] | None = None,
    exporter: Exporter | None = None,
) -> AsyncIterator[Address]:
    """Serve one version within the body, without registering it; yields the address bound.

    >>> async with Claims() as claims:
    ...     async with node_server(quote, settings, claims=claims, address=Address("127.0.0.1", 0)) as at:
    ...         ...
    """
    resources: Any = version.resources(settings) if version.resources else nullcontext()
    async with resources as opened:
        store = CredentialStore(settings.credentials_dir)
        servicer = NodeServicer(
            version, resources=opened, claims=claims, exporter=exporter, credentials=store
        )

        async def drain() -> None:
            if on_drain is not None:
                await on_drain()
            servicer.drain()

        add = partial(node_service_pb2_grpc.add_NodeServiceServicer_to_server, servicer)
        try:
            listening = grpc_server(
                address=address,
                register=[add],
                services=[SERVICE],
                finite=[f"/{SERVICE}/ExecuteBatch"],
                on_drain=drain,
                drain_seconds=DRAIN_SECONDS,
                identity=Identity.of(settings),
            )
            with metrics.CALLS_IN_FLIGHT.watched(servicer.in_flight):
                async with listening as bound:
                    yield bound
        finally:
            servicer.close()


def _bind_host(settings: Settings) -> str:
    """As told; else loopback when the mesh is on this machine, which its registry's address tells, or every
    address.
    """
    if settings.bind is not None:
        return str(settings.bind)
    found_by = settings.advertise or settings.registry_address
    return "127.0.0.1" if found_by.host in _LOOPBACK else "0.0.0.0"


def _advertise(settings: Settings, bound: Address) -> str:
    """What the registry is told; without a host it takes the one that the connection comes from."""
    if settings.advertise is None:
        one_place = settings.bind is not None and not settings.bind.is_unspecified
        return str(bound) if one_place else f":{bound.port}"
    return str(Address(settings.advertise.host, settings.advertise.port or bound.port))
