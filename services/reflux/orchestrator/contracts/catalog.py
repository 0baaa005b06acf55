"""The schemas of node versions, from the registry.

What a version says of itself is fixed by its first registration, so it is asked for once and kept, within
bounds. It is asked for by name, and not looked up in what this orchestrator has heard of the mesh: the
control plane may know a version some milliseconds earlier, and a version that is not known here must not pass
for one that fits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import grpc
import orjson

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.api.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from reflux.core.contract import Version
from reflux.runtime import rpc
from reflux.runtime.tls import Role

if TYPE_CHECKING:
    from reflux.runtime.settings import Address
    from reflux.runtime.tls import Identity

ASK_SECONDS: Final = 5.0
MAX_VERSIONS: Final = 1_000
"""Kept."""


class SchemaReader:
    """Asks the registry."""

    def __init__(self, registry: Address, identity: Identity | None = None) -> None:
        self._registry = registry
        self._identity = identity
        self._channel: grpc.aio.Channel | None = None
        self._known: OrderedDict[tuple[str, str], Version] = OrderedDict()

    async def of(self, node: str, version: str) -> Version:
        """The schemas of a version.

        Raises:
            NotFound: no such node or version is registered.
            Unavailable: the registry does not answer.
        """
        key = (node, version)
        if key not in self._known:
            self._known[key] = await self._ask(node, version)
            while len(self._known) > MAX_VERSIONS:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    async def _ask(self, node: str, version: str) -> Version:
        if self._channel is None:
            self._channel = rpc.channel(self._registry, Role.REGISTRY, self._identity)
        stub: Any = RegistryServiceStub(self._channel)
        try:
            taken = await stub.GetInputSchema(
                pb.GetInputSchemaRequest(node=node, version=version), timeout=ASK_SECONDS
            )
            given = await stub.GetOutputSchema(
                pb.GetOutputSchemaRequest(node=node, version=version), timeout=ASK_SECONDS
            )
        except grpc.RpcError as error:
            raise rpc.to_error(error) from None
        return Version.of(version, orjson.loads(taken.data), orjson.loads(given.data))

    async def close(self) -> None:
        """Gives the connection back."""
        if self._channel is not None:
            await asyncio.shield(self._channel.close())
