"""A node version's place in the mesh: registered under a lease, renewed, given back.

    unregistered ──Register──► registered ──Renew every lease/3──► registered
         ▲                          │ NOT_FOUND: the lease ran out
         └──────────────────────────┘

The registry may be away for any time: the node goes on serving (the mesh keeps what it knows) and asks again,
with a backoff of at most 5 s. A registry that refuses the description (another one is known under the same
version) is an operator's matter: logged as an error, asked again every 30 s, and the other versions of the
process go on.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import grpc

from reflux.api.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from reflux.runtime import logs, rpc
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from reflux.sdk.definition import NodeVersion

_CALL_SECONDS: Final = 2.0
_FIRST_BACKOFF: Final = 0.1
_MAX_BACKOFF: Final = 5.0
_REFUSED_BACKOFF: Final = 30.0
_RENEWALS_PER_LEASE: Final = 3
_MIN_RENEWAL_SECONDS: Final = 0.05

_REFUSALS: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION})


class Registration:
    """Keeps one endpoint registered while `keep` runs.

    Args:
        registry: channel to the EndpointService.
        version: what is served.
        address: `host:port` the mesh shall call; with an empty host the registry takes the connection's.
    """

    def __init__(self, registry: grpc.aio.Channel, *, version: NodeVersion, address: str) -> None:
        self._stub = registry_service_pb2_grpc.EndpointServiceStub(registry)
        self._version = version
        self._address = address
        self._endpoint_id = ""
        self._away = False
        self._log = logs.get_logger("sdk").bind(node_version=version.name, address=address)
        self.settled = asyncio.Event()
        """Set once the registry has answered, for good or ill."""

    async def keep(self) -> None:
        """Register, renew, register again; runs until cancelled."""
        backoff = _FIRST_BACKOFF
        for _ in forever():
            try:
                lease = await (self._renew() if self._endpoint_id else self._register())
                backoff, self._away = _FIRST_BACKOFF, False
                pause = max(lease / _RENEWALS_PER_LEASE, _MIN_RENEWAL_SECONDS)
            except grpc.aio.AioRpcError as error:
                pause = self._after_failure(rpc.read(error), backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)
            await asyncio.sleep(pause)

    async def remove(self) -> None:
        """Give the place back; a registry that does not answer finds out when the lease runs out."""
        if not self._endpoint_id:
            return
        request = registry_service_pb2.RemoveEndpointRequest(endpoint_id=self._endpoint_id)
        try:
            await self._stub.RemoveEndpoint(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._log.warning("endpoint_not_removed", code=error.code().name, message=error.details())

    async def _register(self) -> float:
        request = registry_service_pb2.RegisterEndpointRequest(
            description=self._version.describe(), address=self._address
        )
        response = await self._stub.RegisterEndpoint(request, timeout=_CALL_SECONDS)
        self._endpoint_id = response.endpoint_id
        self._log.info("endpoint_registered", endpoint_id=response.endpoint_id)
        self.settled.set()
        return response.lease.ToTimedelta().total_seconds()

    async def _renew(self) -> float:
        request = registry_service_pb2.RenewEndpointRequest(endpoint_id=self._endpoint_id)
        response = await self._stub.RenewEndpoint(request, timeout=_CALL_SECONDS)
        return response.lease.ToTimedelta().total_seconds()

    def _after_failure(self, failure: rpc.RpcFailure, backoff: float) -> float:
        """Seconds until the registry is asked again."""
        if failure.code is grpc.StatusCode.NOT_FOUND and self._endpoint_id:
            self._log.warning("lease_lost", endpoint_id=self._endpoint_id)
            self._endpoint_id = ""
            return 0.0
        if failure.code in _REFUSALS:
            self._log.error("registration_refused", reason=failure.reason, message=failure.message)
            self.settled.set()
            return _REFUSED_BACKOFF
        if not self._away:
            self._away = True
            self._log.warning("registry_away", code=failure.code.name, message=failure.message)
        return backoff * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
