"""How every service of ours speaks gRPC: one asyncio server with health, reflection, errors, bounds, a drain.

The life of a server:

    bind ─ start ─ SERVING ─(leave the body)─ NOT_SERVING ─ on_drain ─ end streams ─ finish calls ─ stop

Health (`grpc.health.v1`) knows the whole server as "" and each service by its full name. Reflection is served
under its current name and the older one that most tools ask first. `on_drain` is where a service leaves its
place while it still takes calls; unary calls then have `drain_seconds` to finish, what is left is cancelled.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

from reflux.runtime import logs, rpc, tls
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

DRAIN_SECONDS: Final = 5.0
MAX_CALLS: Final = 4096
"""Calls in flight on one server, streams included; more are answered RESOURCE_EXHAUSTED."""

_REFLECTION: Final = "grpc.reflection.v1.ServerReflection"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", rpc.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", rpc.MAX_MESSAGE_BYTES),
    # A taken port is an error, never a share of somebody else's calls.
    ("grpc.so_reuseport", 0),
    # Our own channels ask every 20 s, or 5 s (`proxies`); the default would answer them with GOAWAY.
    ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

log = logs.get_logger("service")


async def serve_grpc(
    *,
    address: Address,
    register: Sequence[Callable[[grpc.aio.Server], None]],
    services: Sequence[str],
    ready: asyncio.Event | None = None,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve until cancelled, then drain; see `grpc_server` for the arguments.

    >>> await serve_grpc(
    ...     address=settings.registry_address,
    ...     register=[lambda server: add_RegistryServiceServicer_to_server(servicer, server)],
    ...     services=["reflux.api.registry.v1.RegistryService"],
    ...     ready=ready,
    ... )

    Raises:
        OSError: the address cannot be bound.
    """
    async with grpc_server(
        address=address, register=register, services=services, drain_seconds=drain_seconds
    ):
        if ready is not None:
            ready.set()
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def grpc_server(
    *,
    address: Address,
    register: Sequence[Callable[[grpc.aio.Server], None]],
    services: Sequence[str],
    reflected: Sequence[str] | None = None,
    finite: Collection[str] = (),
    on_drain: Callable[[], Awaitable[None]] | None = None,
    drain_seconds: float = DRAIN_SECONDS,
    identity: tls.Identity | None = None,
) -> AsyncIterator[Address]:
    """Serve within the body, and drain when it is left.

    Args:
        address: where to listen; port 0 takes a free one.
        register: adds the servicers, one callback each (`add_…Servicer_to_server`).
        services: full names of those servicers' services, for health and reflection.
        reflected: what reflection lists instead, for a server that clients of several services meet first.
        finite: methods, as `/package.Service/Method`, whose streams may finish like unary calls in a drain.
        on_drain: runs after the server says NOT_SERVING, while it still takes calls; bounds itself.
        drain_seconds: how long unary calls may take to finish after that.
        identity: of this process; with it callers must have one too (`reflux.runtime.tls`). None: plaintext.

    Yields:
        The address bound.

    Raises:
        OSError: the address cannot be bound.
    """
    interceptor = rpc.ErrorInterceptor(finite=finite, admit=None if identity is None else tls.admit)
    server = grpc.aio.server(interceptors=[interceptor], options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    for add in register:
        add(server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    _add_reflection(server, [*(services if reflected is None else reflected), health.SERVICE_NAME])
    try:
        bound = Address(address.host, _bind(server, str(address), identity))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from None
    for name in services:
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    log.info("listening", address=str(bound), services=list(services))
    try:
        yield bound
    finally:
        await health_servicer.enter_graceful_shutdown()
        if on_drain is not None:
            await on_drain()
        interceptor.end_streams()
        await server.stop(drain_seconds)
        log.info("stopped", address=str(bound))


def _bind(server: grpc.aio.Server, address: str, identity: tls.Identity | None) -> int:
    if identity is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, identity.server_credentials())


def _add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Serve reflection as v1alpha and as v1: the messages of the two have the same wire form."""
    names = [*services, reflection.SERVICE_NAME, _REFLECTION]
    servicer: Any = reflection.aio.ReflectionServicer(names)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, _REFLECTION):
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))
