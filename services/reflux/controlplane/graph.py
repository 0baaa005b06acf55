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
- A version with limits is reached through its gate (`envoy.gate`), by pins as well; its leaf keeps them.
- A version has one leaf, whoever reaches it: as a target, a fallback or a pin, of this step or that one. So
  its ejection is one too, and is read from the target of its own name in the node's route.
- Everything is sorted, so the same catalog and routes give the same graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from reflux.controlplane.routes import TOTAL_WEIGHT, USUAL, Target
from reflux.core.effect import Lane
from reflux.core.route import MAX_TRIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.controlplane.routes import Ejection, Limits, Route


GATE: Final = "!gate"
"""Behind the name of a leaf, the name of its gate (`envoy.gate`)."""

_CACHED: Final = 4_096
"""Nodes of which the part is kept, so that a change costs what has changed."""


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
    limits: Limits | None = None

    @property
    def name(self) -> str:
        """Name of its cluster."""
        return leaf_name(self.node, self.version)

    @property
    def member(self) -> str:
        """Name of what stands for it in chains."""
        return member_name(self.node, self.version, self.limits)


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
    once: tuple[str, str] | None = None
    """Broad and safe, with each version of the chain once; None: none of them is repeated."""

    def cluster(self, lane: Lane) -> str:
        """The composite of a lane."""
        return self.broad if lane is Lane.BROAD else self.safe

    def thin(self, lane: Lane) -> str:
        """That composite, or the one without repetitions where there is another."""
        if self.once is None:
            return self.cluster(lane)
        return self.once[0] if lane is Lane.BROAD else self.once[1]


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
    gated: bool = False
    """A version has limits."""


@dataclass(frozen=True, slots=True)
class Graph:
    """All nodes. Equal graphs give equal configurations."""

    leaves: tuple[Leaf, ...] = ()
    composites: tuple[Composite, ...] = ()
    nodes: tuple[NodeGraph, ...] = ()


def leaf_name(node: str, version: str) -> str:
    """`http.request@1.0.0`."""
    return f"{node}@{version}"


def member_name(node: str, version: str, limits: Limits | None) -> str:
    """What stands for a version in chains: its leaf, or the gate before it when it has limits."""
    return leaf_name(node, version) + (GATE if limits else "")


def build(versions: Iterable[Version], routes: Iterable[Route]) -> Graph:
    """Join what is registered with what is wanted."""
    routes_by_node = {route.node: route for route in routes}
    known = {(each.node, each.version): tuple(sorted(each.endpoints)) for each in versions}
    for one in routes_by_node.values():
        for version in one.versions():
            known.setdefault((one.node, version), ())
    names: dict[str, list[str]] = {}
    for node, version in sorted(known):
        names.setdefault(node, []).append(version)
    parts = [_node(node, tuple(own), routes_by_node.get(node)) for node, own in names.items()]
    composites = {each.name: each for _, chains in parts for each in chains}
    return Graph(
        leaves=tuple(
            Leaf(node, version, endpoints, *_own(routes_by_node.get(node), version))
            for (node, version), endpoints in sorted(known.items())
        ),
        composites=tuple(composites[name] for name in sorted(composites)),
        nodes=tuple(node for node, _ in parts),
    )


def _own(route: Route | None, version: str) -> tuple[Ejection, Limits | None]:
    return (USUAL, None) if route is None else (route.ejection(version), route.limits(version))


@lru_cache(_CACHED)
def _node(
    node: str, versions: tuple[str, ...], route: Route | None
) -> tuple[NodeGraph, tuple[Composite, ...]]:
    """A node's part, and the chains that it needs."""
    composites: list[Composite] = []
    targets = {target.version: target for target in route.targets} if route else {}

    def both(members: tuple[str, ...]) -> tuple[str, str]:
        broad, safe = (_composite(node, lane, members) for lane in (Lane.BROAD, Lane.SAFE))
        composites.extend((broad, safe))
        return broad.name, safe.name

    def choice(version: str, chain: Iterable[str], weight: int, timeout: int | None) -> Choice:
        members = tuple(member_name(node, each, route.limits(each) if route else None) for each in chain)
        each_once = tuple(dict.fromkeys(members))
        once = both(each_once) if len(each_once) < len(members) else None
        return Choice(version, *both(members), weight, timeout, once)

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
    gated = any(target.limits for target in targets.values())
    revision = route.revision if route else 0
    return NodeGraph(node, revision, tuple(shares), tuple(pins), shadows, gated), tuple(composites)


def _composite(node: str, lane: Lane, chain: tuple[str, ...]) -> Composite:
    digest = hashlib.sha256("\n".join((lane, *chain)).encode()).hexdigest()[:12]
    members = chain[:1] * MAX_TRIES if len(set(chain)) == 1 else chain
    return Composite(f"{node}~{lane}~{digest}", lane, members, len(chain) - 1)
