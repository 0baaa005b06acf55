"""Snapshots: one consistent configuration of everything, immutable, serialized once for all proxies.

Consistent means that nothing in it points at anything that is not in it: the graph sees to that. A resource's
version is the hash of its content, so a control plane that restarts says the same as the one before, and a
proxy is told only of what differs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from reflux.controlplane.envoy import cluster, endpoint, listener, route, xds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.controlplane.graph import Graph

Resources: TypeAlias = "Mapping[str, bytes]"
"""Serialized resources of one type by name."""
View: TypeAlias = "Mapping[str, Resources]"
"""What one proxy shall have, by type (`xds.CLUSTER`, …)."""

KINDS: Final = (xds.CLUSTER, xds.ENDPOINT, xds.LISTENER, xds.ROUTE)
"""Types in the order in which they must reach a proxy: nothing is used before it is there."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An Envoy as it introduces itself on its stream."""

    name: str
    """`node.id`; acknowledgements name it."""
    mesh: tuple[str, int] | None
    """Where it binds the mesh listener; None for an edge proxy, which needs nothing from here."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a mesh proxy needs but the listener, which says where that proxy binds."""

    clusters: Resources
    endpoints: Resources
    routes: Resources
    revisions: Mapping[str, int] = field(default_factory=dict)
    """Revision of each node's route in it."""

    def view(self, proxy: Proxy) -> View:
        """What `proxy` shall have."""
        if proxy.mesh is None:
            return {kind: {} for kind in KINDS}
        resource = listener.mesh(*proxy.mesh)
        listeners = {resource["name"]: xds.encode(xds.LISTENER, resource)}
        return dict(zip(KINDS, (self.clusters, self.endpoints, listeners, self.routes), strict=True))


def build(graph: Graph) -> Snapshot:
    """Serialize the configuration of a graph."""
    clusters = [cluster.leaf(leaf) for leaf in graph.leaves]
    clusters += [cluster.composite(composite) for composite in graph.composites]
    assignments = [endpoint.assignment(leaf) for leaf in graph.leaves]
    configuration = route.configuration(graph.nodes)
    return Snapshot(
        clusters={each["name"]: xds.encode(xds.CLUSTER, each) for each in clusters},
        endpoints={each["cluster_name"]: xds.encode(xds.ENDPOINT, each) for each in assignments},
        routes={configuration["name"]: xds.encode(xds.ROUTE, configuration)},
        revisions={node.node: node.revision for node in graph.nodes},
    )


def version(resources: Resources) -> str:
    """Content hash, equal for equal resources."""
    digest = hashlib.sha256()
    for name in sorted(resources):
        digest.update(len(resources[name]).to_bytes(4) + resources[name])
    return digest.hexdigest()[:16]
