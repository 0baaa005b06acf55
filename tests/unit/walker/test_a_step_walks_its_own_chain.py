"""A step with a fallback, tries or a limit of its own is pinned, so who comes next is decided here."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from reflux.core.effect import EffectClass
from reflux.core.event import StepState
from reflux.core.resolving import Abilities
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, node, not_sent

if TYPE_CHECKING:
    from tests.support.walk import Answer

CHAIN = Abilities(successors=("9.0.0",), chain=("2.0.0", "3.0.0"))
OWN = {"fallback": ["2.0.0", "3.0.0"]}


def ill(version: str, code: str = "UNAVAILABLE") -> Answer:
    """A version failed."""
    return replace(failed(code), chosen=version)


def walked(
    *answers: Answer, effect: EffectClass = EffectClass.PURE, abilities: Abilities = CHAIN, **keys: object
) -> Walk:
    keys.setdefault("route", OWN)
    flow = flow_of(node("a", **keys))
    walk = Walk(flow, {"a": answers}, effects={"a": effect}, abilities=abilities)
    return walk.run()


def asked(walk: Walk) -> list[str | None]:
    """Whom its attempts were pinned to; None: the draw chooses."""
    return [each.version for each in walk.started]


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED"]
)
def test_the_next_version_is_asked_at_once(code: str) -> None:
    """For what the mesh would hand on itself; of the step's attempts none is used up, and no time passes."""
    walk = walked(ill("1.0.0", code), ill("2.0.0", code), done())
    assert asked(walk) == [None, "2.0.0", "3.0.0"]
    assert [each.fallback for each in walk.started] == [False, True, True]
    assert walk.state.steps["a"].state is StepState.SUCCEEDED
    assert [each.counted for each in walk.state.steps["a"].finished] == [False, False, True]
    assert walk.timed[-1][0] == 0
    assert walk.replayed().steps["a"].finished == walk.state.steps["a"].finished


def test_a_version_that_was_not_reached_is_passed_over() -> None:
    """None of its endpoints was healthy: nothing was sent."""
    walk = walked(replace(not_sent(), chosen="1.0.0"), done())
    assert asked(walk) == [None, "2.0.0"]


def test_a_round_ends_with_the_last_version() -> None:
    """Its failure is the attempt's, and the step's own retry draws anew."""
    retry = {"attempts": 2, "delay": "1s", "jitter": "none"}
    walk = walked(ill("1.0.0"), ill("2.0.0"), ill("3.0.0"), ill("2.0.0"), ill("3.0.0"), retry=retry)
    assert asked(walk) == [None, "2.0.0", "3.0.0", None, "3.0.0"]
    assert walk.state.steps["a"].state is StepState.FAILED
    assert walk.state.steps["a"].used == 2


@pytest.mark.parametrize("answer", [ill("1.0.0", "INVALID_ARGUMENT"), ill("1.0.0", "UNKNOWN"), failed()])
def test_what_is_nobodys_illness_is_handed_to_nobody(answer: Answer) -> None:
    """A refused input stays refused, and without a reply nobody knows who was asked."""
    assert asked(walked(answer)) == [None]


def test_a_pin_may_have_a_fallback() -> None:
    """Without one it is that version or none."""
    route = {"pin": "1.0.0", **OWN}
    assert asked(walked(ill("1.0.0"), done(), route=route)) == ["1.0.0", "2.0.0"]
    alone = replace(CHAIN, chain=())
    assert asked(walked(ill("1.0.0"), route={"pin": "1.0.0", "tries": 2}, abilities=alone)) == ["1.0.0"]


@pytest.mark.parametrize("route", [None, {"sticky": "ada"}])
def test_every_other_step_leaves_it_to_the_mesh(route: object) -> None:
    """Whatever its node's chain is: the mesh has been through it within the attempt."""
    assert asked(walked(ill("1.0.0"), route=route) if route else walked(ill("1.0.0"), route={})) == [None]


def test_an_effect_goes_on_only_when_surely_nothing_happened() -> None:
    """An outage of which the node says so goes to the step's own chain; a decline and a doubt go nowhere."""
    once = EffectClass.AT_MOST_ONCE
    sure = replace(ill("1.0.0"), outage=True)
    assert asked(walked(sure, done(), effect=once)) == [None, "2.0.0"]
    assert asked(walked(ill("1.0.0"), effect=once)) == [None]
    doubt = walked(ambiguous("x@1.0.0"), effect=once)
    assert asked(doubt) == [None]
    assert doubt.state.steps["a"].state is StepState.PARKED
    none = walked(sure, effect=once, route={"fallback": []}, abilities=replace(CHAIN, chain=()))
    assert asked(none) == [None]
    pinned = walked(sure, done(), effect=once, route={"pin": "1.0.0", **OWN})
    assert asked(pinned) == ["1.0.0", "2.0.0"]


def test_nobody_is_asked_after_the_total_time() -> None:
    """The limit of a try is shorter, and the step's time is over all the same."""
    slow = replace(ill("1.0.0"), after=2.0)
    walk = walked(slow, timeout={"total": "2s"}, route={**OWN, "try_timeout": "1s"})
    assert asked(walk) == [None]


def test_each_version_is_tried_as_the_step_says() -> None:
    """Those of the chain too."""
    walk = walked(ill("1.0.0"), done(), route={**OWN, "tries": 3, "try_timeout": "1s500ms"})
    said = [(each.drawn, each.tries, each.try_timeout) for each in walk.started]
    assert said == [(True, 3, timedelta(seconds=1.5))] * 2
