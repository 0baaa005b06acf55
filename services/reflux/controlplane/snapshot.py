"""Snapshots: one consistent configuration of everything, immutable, serialized once for all proxies.

Consistent means that nothing in it points at anything that is not in it: the graph sees to that. A resource's
version is the hash of its content, so a control plane that restarts says the same as the one before, and a
proxy is told only of what differs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from reflux.controlplane.envoy import (
    cluster,
    endpoint,
    faults,
    gate,
    listener,
    route,
    shadow,
    tls,
    tracing,
    xds,
)
from reflux.core.route import shadow_cluster
from reflux.runtime.tls import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reflux.controlplane.graph import Composite, Graph, Leaf, NodeGraph
    from reflux.runtime.collector import Collector

Resources: TypeAlias = "Mapping[str, bytes]"
"""Serialized resources of one type by name."""
View: TypeAlias = "Mapping[str, Resources]"
"""What one proxy shall have, by type (`xds.CLUSTER`, …)."""

KINDS: Final = (xds.CLUSTER, xds.ENDPOINT, xds.LISTENER, xds.ROUTE)
"""Types in the order in which they must reach a proxy: nothing is used before it is there."""

_CACHED: Final = 16_384  # resources of each type, so that a change costs what has changed


@dataclass(frozen=True, slots=True)
class Proxy:
    """An Envoy as it introduces itself on its stream."""

    name: str
    """`node.id`; acknowledgements name it."""
    mesh: tuple[str, int] | None
    """Where it binds the mesh listener; None for an edge proxy, which needs nothing from here."""
    tls_dir: str | None = None
    """Folder of its identity on its own machine; None: it speaks plaintext."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a mesh proxy needs but the listener, which says where that proxy binds."""

    clusters: Resources
    endpoints: Resources
    routes: Resources
    to_nodes: frozenset[str] = frozenset()
    """Names of the clusters whose endpoints are node versions."""
    revisions: Mapping[str, int] = field(default_factory=dict)
    """Revision of each node's route in it."""
    collector: Collector | None = None
    """Where proxies send their spans; None: they make none."""

    def traced(self, collector: Collector | None) -> Snapshot:
        """The same, with the proxies telling `collector`; None: as it is."""
        if collector is None:
            return self
        cluster_of_it = {tracing.CLUSTER: xds.encode(xds.CLUSTER, tracing.cluster(collector))}
        return replace(self, clusters={**self.clusters, **cluster_of_it}, collector=collector)

    def view(self, proxy: Proxy) -> View:
        """What `proxy` shall have."""
        if proxy.mesh is None:
            return {kind: {} for kind in KINDS}
        resource = listener.mesh(*proxy.mesh, self.collector, proxy.tls_dir)
        resources = [resource, *(each.listener() for each in (faults, gate) if each.NAME in self.routes)]
        listeners = {each["name"]: xds.encode(xds.LISTENER, each) for each in resources}
        clusters = self.clusters if proxy.tls_dir is None else self._secured(proxy.tls_dir)
        return dict(zip(KINDS, (clusters, self.endpoints, listeners, self.routes), strict=True))

    def _secured(self, tls_dir: str) -> Resources:
        """The clusters, with those of nodes under TLS. Messages are merged by writing one after the other."""
        socket = xds.encode(xds.CLUSTER, {"transport_socket": tls.upstream(tls_dir, Role.NODE)})
        return {name: raw + socket if name in self.to_nodes else raw for name, raw in self.clusters.items()}


def build(graph: Graph, *, allow_faults: bool = False) -> Snapshot:
    """Serialize the configuration of a graph; `allow_faults`: with the way on which versions fail."""
    leaves = {leaf.name: _leaf(leaf) for leaf in graph.leaves}
    composites = {composite.name: _composite(composite) for composite in graph.composites}
    twins: dict[str, bytes] = {}
    routes = {
        listener.ROUTES: _routes(graph.nodes, allow_faults=allow_faults),
        gate.NAME: _hosts(gate.routes(), (_gate_host(leaf) for leaf in graph.leaves)),
    }
    if allow_faults:
        for leaf in graph.leaves:
            twins |= _twins_of_leaf(leaf)
        twins |= {name: body for each in graph.composites for name, body in _twin_of_chain(each)}
        routes[faults.NAME] = _hosts(faults.routes(), (_fault_host(leaf) for leaf in graph.leaves))
    gates = {leaf.member: _gate(leaf) for leaf in graph.leaves if leaf.limits}
    copied = {(node.node, version) for node in graph.nodes for version in node.shadows}
    shadows = {
        shadow_cluster(leaf.node, leaf.version): _shadow(leaf)
        for leaf in graph.leaves
        if (leaf.node, leaf.version) in copied
    }
    return Snapshot(
        clusters=leaves | twins | gates | composites | shadows,
        endpoints={leaf.name: _assignment(leaf) for leaf in graph.leaves},
        routes=routes,
        to_nodes=frozenset(name for name in leaves | twins if faults.leaf_of(name) in leaves)
        | shadows.keys(),
        revisions={node.node: node.revision for node in graph.nodes},
    )


def _routes(nodes: Iterable[NodeGraph], *, allow_faults: bool) -> bytes:
    """The route configuration, put together from the nodes' parts.

    Serialized messages are merged by writing one after the other (protobuf encoding, "Last One Wins"), and
    repeated fields then follow each other.
    """
    parts = [xds.encode(xds.VIRTUAL_HOST, route.host())]
    if not allow_faults:
        parts.append(xds.encode(xds.VIRTUAL_HOST, {"routes": [faults.refused()]}))
    for node in nodes:
        parts += [_fault_entries(node), _entries(node)] if allow_faults else [_entries(node)]
    parts.append(xds.encode(xds.VIRTUAL_HOST, {"routes": [route.last()]}))
    configuration: Any = xds.message_class(xds.ROUTE).FromString(xds.encode(xds.ROUTE, route.frame()))
    configuration.virtual_hosts.add().ParseFromString(b"".join(parts))
    return bytes(configuration.SerializeToString(deterministic=True))


@lru_cache(_CACHED)
def _entries(of: NodeGraph) -> bytes:
    return xds.encode(xds.VIRTUAL_HOST, {"routes": route.entries(of)})


def _hosts(frame: dict[str, Any], hosts: Iterable[bytes]) -> bytes:
    """A route configuration of these virtual hosts."""
    configuration: Any = xds.message_class(xds.ROUTE).FromString(xds.encode(xds.ROUTE, frame))
    for host in hosts:
        configuration.virtual_hosts.add().ParseFromString(host)
    return bytes(configuration.SerializeToString(deterministic=True))


@lru_cache(_CACHED)
def _fault_entries(of: NodeGraph) -> bytes:
    return xds.encode(xds.VIRTUAL_HOST, {"routes": faults.entries(of)})


@lru_cache(_CACHED)
def _fault_host(of: Leaf) -> bytes:
    return xds.encode(xds.VIRTUAL_HOST, faults.host(of))


@lru_cache(_CACHED)
def _gate(of: Leaf) -> bytes:
    return xds.encode(xds.CLUSTER, gate.cluster(of))


@lru_cache(_CACHED)
def _gate_host(of: Leaf) -> bytes:
    return xds.encode(xds.VIRTUAL_HOST, gate.host(of))


@lru_cache(_CACHED)
def _twins_of_leaf(of: Leaf) -> dict[str, bytes]:
    return {each["name"]: xds.encode(xds.CLUSTER, each) for each in faults.leaves(of)}


@lru_cache(_CACHED)
def _twin_of_chain(of: Composite) -> tuple[tuple[str, bytes]]:
    twin = faults.chain(of)
    return ((twin["name"], xds.encode(xds.CLUSTER, twin)),)


@lru_cache(_CACHED)
def _leaf(of: Leaf) -> bytes:
    return xds.encode(xds.CLUSTER, cluster.leaf(of))


@lru_cache(_CACHED)
def _composite(of: Composite) -> bytes:
    return xds.encode(xds.CLUSTER, cluster.composite(of))


@lru_cache(_CACHED)
def _shadow(of: Leaf) -> bytes:
    return xds.encode(xds.CLUSTER, shadow.cluster(of))


@lru_cache(_CACHED)
def _assignment(of: Leaf) -> bytes:
    return xds.encode(xds.ENDPOINT, endpoint.assignment(of))


def version(resources: Resources) -> str:
    """Content hash, equal for equal resources."""
    digest = hashlib.sha256()
    for name in sorted(resources):
        digest.update(len(resources[name]).to_bytes(4) + resources[name])
    return digest.hexdigest()[:16]
