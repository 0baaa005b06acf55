"""First routes: what a node's traffic does before anybody has said anything about it.

A route names only versions that are registered, a shipped one too: it starts with one version and grows as
the others come (`growth`). Who is named before it is there would be called without being asked about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import yaml

from reflux.controlplane import document
from reflux.controlplane.routes import TOTAL_WEIGHT, Route, everything_to

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

AUTHOR: Final = "reflux"
"""Who gives a node its first route."""


@dataclass(frozen=True, slots=True)
class FirstRoute:
    """A route and why it is so."""

    route: Route
    note: str

    def versions(self) -> tuple[str, ...]:
        """What it names, in its order."""
        return tuple(target.version for target in self.route.targets)

    def among(self, versions: Collection[str]) -> FirstRoute:
        """The same with these versions only, of which it names one at least.

        What the others would take goes to the first that has a share, or to the first of all when none has.
        """
        present = [target for target in self.route.targets if target.version in versions]
        rest = TOTAL_WEIGHT - sum(target.weight for target in present)
        heir = next((target.version for target in present if target.weight), present[0].version)
        targets = tuple(
            replace(
                target,
                weight=target.weight + (rest if target.version == heir else 0),
                fallback=tuple(each for each in target.fallback if each in versions),
            )
            for target in present
        )
        return FirstRoute(replace(self.route, targets=targets), self.note)


def first_route(node: str, versions: Sequence[str]) -> FirstRoute:
    """Where all calls go when the first of these versions (the first registered first) are there: to the
    first one of the shipped route, or of them when it names none of them.
    """
    whole = shipped_route(node)
    named = [each for each in whole.versions() if each in versions] if whole else []
    if whole is None or not named:
        return FirstRoute(everything_to(node, versions[0]), "the first version registered")
    drawn = [each for each in named if whole.route.weight(each)]
    return whole.among((drawn or named)[:1])


def shipped_route(node: str) -> FirstRoute | None:
    """The whole route that comes with REFLUX, whoever is there; None: none does."""
    return _shipped().get(node)


@cache
def _shipped() -> Mapping[str, FirstRoute]:
    text = files("reflux.controlplane").joinpath("defaults.yaml").read_text(encoding="utf-8")
    return {node: _read(node, value) for node, value in yaml.safe_load(text).items()}


def _read(node: str, value: dict[str, Any]) -> FirstRoute:
    """A shipped route; the versions it names exist by definition, registered yet or not."""
    known = {each["version"] for each in value["targets"]}
    read = document.read(node, value, known)
    assert not read.violations, f"defaults.yaml: {node}: {read.violations}"
    return FirstRoute(Route(node, 1, read.targets, read.sticky), read.note)
