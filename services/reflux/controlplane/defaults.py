"""First routes: what a node's traffic does before anybody has said anything about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from reflux.controlplane import document
from reflux.controlplane.routes import Route, everything_to

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class FirstRoute:
    """A route and why it is so."""

    route: Route
    note: str


def first_route(node: str, first_version: str) -> FirstRoute:
    """The shipped route of `node`, or everything to the version that was registered first."""
    shipped = _shipped().get(node)
    return shipped or FirstRoute(everything_to(node, first_version), "the first version registered")


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
