"""Who joins a shipped route: those that fit, without those that do not, and nobody at another one's cost."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from reflux.controlplane.contracts import change
from reflux.controlplane.defaults import AUTHOR, shipped_route
from reflux.controlplane.growth import Growth, left_out
from reflux.controlplane.store import State

NODE = "ai.chat"
WHOLE = ("openai", "anthropic", "local")


class World:
    """Orchestrator and database as a test says."""

    def __init__(self, *misfits: str) -> None:
        self.misfits = set(misfits)
        self.made: list[tuple[str, ...]] = []

    async def held(self, route: Any, before: Any, known: Any, *, patient: bool) -> list[tuple[str, None]]:
        """As `Contracts.held`: asked about who enters or grows only."""
        assert patient
        asked = change(route, before)
        return [(each, None) for each in (*asked.entering, *asked.growing) if each in self.misfits]

    async def make(self, route: Any, *, author: str, note: str) -> int:
        """As `Updates.make`."""
        assert (author, bool(note)) == (AUTHOR, True)
        self.made.append(tuple(target.version for target in route.targets))
        return route.revision + 1


def part(*versions: str) -> Any:
    """The shipped route among these."""
    shipped = shipped_route(NODE)
    assert shipped is not None
    return replace(shipped.among(versions).route, salt="s")


async def grown(world: World, there: tuple[str, ...], registered: tuple[str, ...]) -> tuple[str, ...]:
    """Who stays out after a look at a route of `there`."""
    anything: Any = world
    growth = Growth(anything, anything, anything)
    shipped = shipped_route(NODE)
    assert shipped is not None
    return tuple(await growth._grow(part(*there), shipped, registered))


@pytest.mark.parametrize(
    ("there", "registered", "misfits", "made", "out"),
    [
        (("openai",), WHOLE, (), WHOLE, ()),
        (("openai",), WHOLE, ("local",), ("openai", "anthropic"), ("local",)),
        (("openai",), WHOLE, ("local", "anthropic"), None, ("anthropic", "local")),
        (("local",), WHOLE, ("openai",), ("anthropic", "local"), ("openai",)),
        (("anthropic",), ("anthropic", "mine"), (), None, ()),
        (WHOLE, ("openai", "anthropic"), (), ("openai", "anthropic"), ()),
        (WHOLE, ("anthropic", "local"), ("anthropic",), None, ()),
        (("openai",), (), (), None, ()),
        (("openai",), ("local",), ("local",), None, ("local",)),
    ],
    ids=[
        "all fit",
        "without one",
        "nobody",
        "the one with the share does not fit",
        "a version of somebody's own",
        "one that never came leaves",
        "it would leave more than it fits to another one",
        "the registry has forgotten the node",
        "nobody is left who is registered",
    ],
)
async def test_who_fits_joins(
    there: tuple[str, ...],
    registered: tuple[str, ...],
    misfits: tuple[str, ...],
    made: tuple[str, ...] | None,
    out: tuple[str, ...],
) -> None:
    """One revision with everyone who fits, or none."""
    world = World(*misfits)
    assert await grown(world, there, registered) == out
    assert world.made == ([made] if made else [])


def test_only_a_route_of_ours_leaves_anybody_out() -> None:
    """Not one that a person made, whose last revision was refused, or that is no part of the shipped one."""
    stored: Any = SimpleNamespace(route=part("openai"), author=AUTHOR, newest_state=State.APPLIED)
    assert left_out(stored, ("openai", "local", "mine")) == ("local",)
    stored.author = "ada"
    assert not left_out(stored, WHOLE)
    stored.author, stored.newest_state = AUTHOR, State.REJECTED
    assert not left_out(stored, WHOLE)
    stored.newest_state = State.PENDING
    stored.route = replace(part("openai", "anthropic"), targets=part(*WHOLE).targets[:2])
    assert not left_out(stored, WHOLE)
    stored.route = replace(part("openai"), node="my.node")
    assert not left_out(stored, WHOLE)
