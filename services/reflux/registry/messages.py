"""The registry's values as its API's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.api.node.v1.node_service_pb2 import CredentialSlot, Effect
from reflux.api.registry.v1 import registry_service_pb2 as pb

if TYPE_CHECKING:
    from reflux.registry.store import Catalog, NodeVersion


def node_version(of: NodeVersion) -> pb.NodeVersion:
    """A version with its endpoints."""
    message = pb.NodeVersion(
        node=of.node,
        version=of.version,
        description=of.description,
        state=pb.NodeVersion.LIVE if of.endpoints else pb.NodeVersion.ABSENT,
        effect=Effect.FromString(of.effect),
        max_concurrency=of.max_concurrency,
        batchable=of.batchable,
        verifiable=of.verifiable,
        cancelable=of.cancelable,
        credentials=[CredentialSlot.FromString(each) for each in of.credentials],
        digest=of.digest,
        endpoints=[pb.Endpoint(id=each.id, address=each.address) for each in of.endpoints],
    )
    message.attempt_timeout.FromTimedelta(of.attempt_timeout)
    message.create_time.FromDatetime(of.created_at)
    return message


def catalog(of: Catalog) -> pb.Catalog:
    """The whole catalog."""
    return pb.Catalog(revision=of.revision, versions=[node_version(each) for each in of.versions])


def node(versions: list[NodeVersion]) -> pb.Node:
    """A node from its versions, the newest first."""
    newest = versions[0]
    return pb.Node(
        name=newest.node,
        description=newest.description,
        versions=[each.version for each in versions],
    )
