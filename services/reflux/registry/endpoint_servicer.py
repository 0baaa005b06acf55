"""EndpointService: node processes come and go, and those who must know are told."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from google.protobuf.duration_pb2 import Duration

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceServicer
from reflux.core.errors import Exhausted, InvalidArgument, NotFound, Refused, Violation
from reflux.core.names import is_id
from reflux.core.reasons import Reason
from reflux.registry import description, messages, metrics
from reflux.registry.store import Endpoint, NodeVersion, Schemas
from reflux.runtime import logs
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reflux.registry.catalog import LiveCatalog
    from reflux.registry.store import RegistryStore

MAX_WATCHERS: Final = 256

log = logs.get_logger("registry")


class EndpointServicer(EndpointServiceServicer):
    """Leases for node processes, the catalog for the control plane and orchestrators."""

    def __init__(self, store: RegistryStore, live: LiveCatalog, lease: timedelta) -> None:
        self._store = store
        self._live = live
        self._lease = lease
        self._watchers = 0

    async def RegisterEndpoint(  # noqa: N802
        self, request: pb.RegisterEndpointRequest, context: Any
    ) -> pb.RegisterEndpointResponse:
        """Raises InvalidArgument, Refused."""
        said = request.description
        # In a thread: the largest schemas take seconds, and leases are renewed meanwhile.
        digest = await asyncio.to_thread(description.check, said)
        address = advertised(request.address, context.peer())
        version = NodeVersion(
            node=said.node,
            version=said.version,
            description=said.description,
            effect=said.effect.SerializeToString(deterministic=True),
            attempt_timeout=said.attempt_timeout.ToTimedelta(),
            max_concurrency=said.max_concurrency,
            batchable=said.batchable,
            verifiable=said.verifiable,
            cancelable=said.cancelable,
            credentials=tuple(slot.SerializeToString(deterministic=True) for slot in said.credentials),
            digest=digest,
            created_at=datetime.now(UTC),
        )
        if not await self._store.register_version(version, Schemas(said.input_schema, said.output_schema)):
            message = (
                f"{said.node}@{said.version} is known with another description, schema or effect; "
                "give what has changed a new version"
            )
            raise Refused(Reason.DESCRIPTION_CONFLICT, message, metadata={"digest": digest})
        endpoint = Endpoint(str(uuid.uuid4()), address)
        await self._store.register_endpoint(endpoint, said.node, said.version)
        self._live.touch()
        metrics.ENDPOINTS_REGISTERED.at(said.node, said.version).add()
        log.info("endpoint_registered", node=said.node, version=said.version, address=address)
        return pb.RegisterEndpointResponse(endpoint_id=endpoint.id, lease=self._duration())

    async def RenewEndpoint(  # noqa: N802
        self, request: pb.RenewEndpointRequest, context: Any
    ) -> pb.RenewEndpointResponse:
        """Raises InvalidArgument, NotFound."""
        del context
        if not await self._store.renew_endpoint(_id(request.endpoint_id)):
            raise NotFound(Reason.LEASE_EXPIRED, "the lease has run out; register again")
        return pb.RenewEndpointResponse(lease=self._duration())

    async def RemoveEndpoint(  # noqa: N802
        self, request: pb.RemoveEndpointRequest, context: Any
    ) -> pb.RemoveEndpointResponse:
        """Raises InvalidArgument."""
        del context
        if await self._store.remove_endpoint(_id(request.endpoint_id)):
            log.info("endpoint_removed", endpoint=request.endpoint_id)
            self._live.touch()
        return pb.RemoveEndpointResponse()

    async def WatchCatalog(  # noqa: N802
        self, request: pb.WatchCatalogRequest, context: Any
    ) -> AsyncIterator[pb.Catalog]:
        """Raises Exhausted."""
        del request, context
        if self._watchers >= MAX_WATCHERS:
            raise Exhausted(Reason.TOO_MANY_WATCHERS, f"at most {MAX_WATCHERS} watch the catalog")
        self._watchers += 1
        try:
            revision = 0
            while True:
                catalog = await self._live.newer_than(revision)
                revision = catalog.revision
                yield messages.catalog(catalog)
        finally:
            self._watchers -= 1

    def _duration(self) -> Duration:
        duration = Duration()
        duration.FromTimedelta(self._lease)
        return duration


def advertised(address: str, peer: str) -> str:
    """The address the mesh shall call, as `ip:port`.

    Args:
        address: `host:port` of the request; an empty host means the one that `peer` comes from.
        peer: as gRPC writes it, `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`.

    Raises:
        InvalidArgument: no port, or a host that is no IP address: Envoy takes no names for endpoints.
    """
    if address.startswith(":"):
        address = f"{unquote(peer.partition(':')[2]).rpartition(':')[0]}{address}"
    problem = ""
    try:
        parsed = Address.parse(address)
        host = ip_address(parsed.host)
    except ValueError as error:
        problem = str(error)
    else:
        problem = "it names no place to call" if host.is_unspecified or parsed.port == 0 else ""
    if problem:
        message = f"{address!r} cannot be called: {problem}; give ip:port, or :port for where you call from"
        violations = [Violation("address", message)]
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=violations)
    return str(Address(str(host), parsed.port))


def _id(text: str) -> str:
    if not is_id(text):
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"endpoint_id {text!r} is not a UUID")
    return text.lower()
