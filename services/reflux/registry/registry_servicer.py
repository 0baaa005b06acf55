"""RegistryService: the catalog for people. It reads what the process has in memory, at most a second old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.api.registry.v1.registry_service_pb2_grpc import RegistryServiceServicer
from reflux.core.errors import NotFound
from reflux.core.reasons import Reason
from reflux.registry import messages
from reflux.runtime import pages

if TYPE_CHECKING:
    from reflux.registry.catalog import LiveCatalog
    from reflux.registry.store import NodeVersion, RegistryStore, Schemas

_SCHEMA_TYPE: Final = "application/schema+json"


class RegistryServicer(RegistryServiceServicer):
    """Translate, look, translate back."""

    def __init__(self, store: RegistryStore, live: LiveCatalog) -> None:
        self._store = store
        self._live = live

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:  # noqa: N802
        """Raises InvalidArgument."""
        del context
        size = pages.page_size(request.page_size)
        after = pages.read_token("nodes", request.page_token, first="")
        names = sorted({each.node for each in self._live.newest.versions})
        rest = [name for name in names if name > after]
        return pb.ListNodesResponse(
            nodes=[messages.node(self._versions(name)) for name in rest[:size]],
            next_page_token=pages.write_token("nodes", rest[size - 1]) if len(rest) > size else "",
        )

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.Node:  # noqa: N802
        """Raises NotFound."""
        del context
        return messages.node(self._versions(request.node))

    async def ListNodeVersions(  # noqa: N802
        self, request: pb.ListNodeVersionsRequest, context: Any
    ) -> pb.ListNodeVersionsResponse:
        """Raises NotFound."""
        del context
        versions = [messages.node_version(each) for each in self._versions(request.node)]
        return pb.ListNodeVersionsResponse(versions=versions)

    async def GetNodeVersion(  # noqa: N802
        self, request: pb.GetNodeVersionRequest, context: Any
    ) -> pb.NodeVersion:
        """Raises NotFound."""
        del context
        for each in self._versions(request.node):
            if each.version == request.version:
                return messages.node_version(each)
        raise _no_version(request.node, request.version)

    async def GetInputSchema(self, request: pb.GetInputSchemaRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises NotFound."""
        del context
        schemas = await self._schemas(request.node, request.version)
        return HttpBody(content_type=_SCHEMA_TYPE, data=schemas.input)

    async def GetOutputSchema(self, request: pb.GetOutputSchemaRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises NotFound."""
        del context
        schemas = await self._schemas(request.node, request.version)
        return HttpBody(content_type=_SCHEMA_TYPE, data=schemas.output)

    async def _schemas(self, node: str, version: str) -> Schemas:
        schemas = await self._store.schemas(node, version)
        if schemas is None:
            self._versions(node)
            raise _no_version(node, version)
        return schemas

    def _versions(self, node: str) -> list[NodeVersion]:
        """Of one node, the newest first; never empty."""
        versions = [each for each in self._live.newest.versions if each.node == node]
        if not versions:
            raise NotFound(Reason.NODE_NOT_FOUND, f"no node {node!r} is registered")
        return sorted(versions, key=lambda each: each.created_at, reverse=True)


def _no_version(node: str, version: str) -> NotFound:
    return NotFound(Reason.NODE_VERSION_NOT_FOUND, f"{node} has no version {version!r}")
