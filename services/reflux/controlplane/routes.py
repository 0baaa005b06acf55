"""Routes: what people say about a node's traffic, as values.

A Route is a list of Targets in a fixed order. Weights are basis points and sum to 10,000; a target of weight
0 is reached by pin or by fallback only. A target's chain is its own version, then its `fallback` versions,
each listed once and tried as often as that version's own target says. That is all of it: the chain of a
version in it is not followed, so two targets may fall back to each other and no call goes round in a circle.

The limit of a try belongs to the choice, not to the version: Envoy keeps one limit per call, so a fallback is
tried under the limit of the target that was chosen, whatever its own target says.

Order is meaning: Envoy maps a draw (0 to 9,999) to the targets cumulatively, in this order. New targets are
appended, so a growing canary keeps the users it has. What the others lose moves between them when it is taken
from any but the last of them: give a canary its share from the target before it.

A sticky value (`sticky`, over the input of a call) makes the draw, in place of run, step and attempt: see
`reflux.core.route`. Orchestrators draw; Envoy and the control plane only pass on by what.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

TOTAL_WEIGHT: Final = 10_000
"""Basis points of all targets of a route."""


@dataclass(frozen=True, slots=True, order=True)
class Ejection:
    """When an endpoint of a version gets no calls for a while; the defaults are those of every version."""

    threshold_percent: int = 50
    """Of the calls in an interval that failed."""
    consecutive: int = 5
    """Node faults in a row, however few calls there are."""
    interval_ms: int = 1_000
    base_time_ms: int = 30_000
    """How long; then it gets calls until it is ejected again."""
    min_requests: int = 10
    """Calls that an interval must have for its share to count."""


USUAL: Final = Ejection()
"""Of a version that nobody has said anything about."""


@dataclass(frozen=True, slots=True, order=True)
class Limits:
    """How many calls of a version a proxy has under way; one more goes on to the next of its chain."""

    max_requests: int | None = None
    """None: no limit but the node's own."""
    max_pending: int | None = None
    """Of them, how many may wait for a connection; None: no limit."""


@dataclass(frozen=True, slots=True)
class Target:
    """A version's part in a route."""

    version: str
    weight: int
    """Basis points, 0 to 10,000."""
    fallback: tuple[str, ...] = ()
    """Versions tried after this one, in order; each once, never this one."""
    tries: int = 1
    """Tries of this version before the next one in a chain; at least 1."""
    try_timeout_ms: int | None = None
    """Limit of each try of a call given to this target, in milliseconds; None: the attempt's own deadline."""
    ejection: Ejection | None = None
    """Of the version, whoever chose it; None: the defaults."""
    shadow: int = 0
    """Basis points of the node's pure calls of which it gets a copy; only without weight."""
    limits: Limits | None = None
    """Of the version, whoever chose it; None: no limits but the node's own."""


@dataclass(frozen=True, slots=True)
class Route:
    """The traffic policy of a node, in one revision."""

    node: str
    revision: int
    """From 1; rises with every update."""
    targets: tuple[Target, ...]
    sticky: str = ""
    """Expression over `input`: calls that it gives the same value draw the same. Empty: each attempt draws
    for itself."""
    salt: str | None = ""
    """Part of every sticky draw; fixed when the node gets its first route, unless a person wants all values
    dealt anew. None: that of the route before."""

    def chain(self, target: Target) -> tuple[str, ...]:
        """The versions that one call to `target` is tried on, in order, repeated as their tries say."""
        tries = {each.version: each.tries for each in self.targets}
        versions = (target.version, *target.fallback)
        return tuple(version for version in versions for _ in range(tries.get(version, 1)))

    def ejection(self, version: str) -> Ejection:
        """When endpoints of this version are ejected: a version has one upstream, whoever names it."""
        return next((each.ejection for each in self.targets if each.version == version), None) or USUAL

    def limits(self, version: str) -> Limits | None:
        """How many calls this version may have under way, whoever chose it."""
        return next((each.limits for each in self.targets if each.version == version), None)

    def weight(self, version: str) -> int:
        """Basis points of a version; 0 for one that is no target."""
        return next((each.weight for each in self.targets if each.version == version), 0)

    def reachable(self) -> tuple[str, ...]:
        """Versions that a call can meet without a pin: targets with weight, and their chains."""
        drawn = [target for target in self.targets if target.weight]
        return tuple(dict.fromkeys(name for target in drawn for name in (target.version, *target.fallback)))

    def versions(self) -> frozenset[str]:
        """Every version that the route can reach."""
        return frozenset(version for target in self.targets for version in (target.version, *target.fallback))


def new_salt() -> str:
    """The salt of a node that had no route before."""
    return secrets.token_hex(8)


def everything_to(node: str, version: str) -> Route:
    """The first route of a node that nobody has said anything about."""
    return Route(node, 1, (Target(version, TOTAL_WEIGHT),))
