"""The graph: catalog and routes as what Envoy will need, still in our own words.

    NodeGraph  http.request, revision 3
      ├─ shares   1.0.0 7000 ─► chain [1.0.0, 2.0.0]     weighted choice, one composite per lane
      │           2.0.0 3000 ─► chain [2.0.0]
      └─ pins     1.0.0 ─► chain [1.0.0]                  every version that is known
    Leaf       http.request@1.0.0 ─► its live endpoints

Rules:
- Every version that the catalog or a route names has a leaf, with or without endpoints: no cluster that is
  pointed at is ever missing.
- A composite is named by the digest of its chain and lane, so equal chains share one and a changed chain
  never changes a cluster that is in use: it is another cluster.
- A pin reaches that version alone: who pins wants an answer from it or none. It may say itself how often it
  is tried, so a chain of one version is as long as that can be, whatever its target says.
- A version has one leaf, whoever reaches it: as a target, a fallback or a pin, of this step or that one. So
  its ejection is one too, and is read from the target of its own name in the node's route.
- Everything is sorted, so the same catalog and routes give the same graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.controlplane.routes import TOTAL_WEIGHT, USUAL, Target
from reflux.core.effect import Lane
from reflux.core.route import MAX_TRIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.controlplane.routes import Ejection, Route


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A live process of a node version."""

    host: str
    """An IP address: Envoy takes no names here."""
    port: int


@dataclass(frozen=True, slots=True)
class Version:
    """A node version as the registry knows it."""

    node: str
    version: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, order=True)
class Leaf:
    """A node version as an upstream with its own ejection and limits."""

    node: str
    version: str
    endpoints: tuple[Endpoint, ...]
    ejection: Ejection = USUAL

    @property
    def name(self) -> str:
        """Name of its cluster."""
        return leaf_name(self.node, self.version)


@dataclass(frozen=True, slots=True, order=True)
class Composite:
    """A chain of leaves under one lane's retry policy: try number n goes to the n-th member."""

    name: str
    lane: Lane
    members: tuple[str, ...]
    retries: int
    """Tries after the first. There are more members where a call may say that it wants more."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A version that a call can be sent to, and the composites that do it."""

    version: str
    broad: str
    safe: str
    weight: int
    """Basis points; 10,000 for a pin."""
    try_timeout_ms: int | None = None

    def cluster(self, lane: Lane) -> str:
        """The composite of a lane."""
        return self.broad if lane is Lane.BROAD else self.safe


@dataclass(frozen=True, slots=True)
class NodeGraph:
    """How calls to one node find a version."""

    node: str
    revision: int
    """Of the route; 0 when there is none yet."""
    shares: tuple[Choice, ...]
    """Targets with weight, in the route's order; empty when there is no route yet."""
    pins: tuple[Choice, ...]
    shadows: tuple[str, ...] = ()
    """Versions that get copies of pure calls."""


@dataclass(frozen=True, slots=True)
class Graph:
    """All nodes. Equal graphs give equal configurations."""

    leaves: tuple[Leaf, ...] = ()
    composites: tuple[Composite, ...] = ()
    nodes: tuple[NodeGraph, ...] = ()


def leaf_name(node: str, version: str) -> str:
    """`http.request@1.0.0`."""
    return f"{node}@{version}"


def build(versions: Iterable[Version], routes: Iterable[Route]) -> Graph:
    """Join what is registered with what is wanted."""
    routes_by_node = {route.node: route for route in routes}
    known = {(each.node, each.version): tuple(sorted(each.endpoints)) for each in versions}
    for one in routes_by_node.values():
        for version in one.versions():
            known.setdefault((one.node, version), ())
    composites: dict[str, Composite] = {}
    nodes = []
    for node in sorted({node for node, _ in known}):
        route = routes_by_node.get(node)
        names = sorted(version for owner, version in known if owner == node)
        nodes.append(_node(node, names, route, composites))
    return Graph(
        leaves=tuple(
            Leaf(node, version, endpoints, _ejection(routes_by_node.get(node), version))
            for (node, version), endpoints in sorted(known.items())
        ),
        composites=tuple(composites[name] for name in sorted(composites)),
        nodes=tuple(nodes),
    )


def _ejection(route: Route | None, version: str) -> Ejection:
    return USUAL if route is None else route.ejection(version)


def _node(
    node: str, versions: Iterable[str], route: Route | None, composites: dict[str, Composite]
) -> NodeGraph:
    targets = {target.version: target for target in route.targets} if route else {}

    def choice(version: str, chain: Iterable[str], weight: int, timeout: int | None) -> Choice:
        members = tuple(leaf_name(node, each) for each in chain)
        broad, safe = (_composite(node, lane, members) for lane in (Lane.BROAD, Lane.SAFE))
        composites.update({broad.name: broad, safe.name: safe})
        return Choice(version, broad.name, safe.name, weight, timeout)

    pins = []
    for version in versions:
        target = targets.get(version, Target(version, 0))
        pins.append(choice(version, (version,) * target.tries, TOTAL_WEIGHT, target.try_timeout_ms))
    shares = [
        choice(target.version, route.chain(target), target.weight, target.try_timeout_ms)
        for target in (route.targets if route else ())
        if route and target.weight
    ]
    shadows = tuple(target.version for target in (route.targets if route else ()) if target.shadow)
    return NodeGraph(node, route.revision if route else 0, tuple(shares), tuple(pins), shadows)


def _composite(node: str, lane: Lane, chain: tuple[str, ...]) -> Composite:
    digest = hashlib.sha256("\n".join((lane, *chain)).encode()).hexdigest()[:12]
    members = chain[:1] * MAX_TRIES if len(set(chain)) == 1 else chain
    return Composite(f"{node}~{lane}~{digest}", lane, members, len(chain) - 1)
