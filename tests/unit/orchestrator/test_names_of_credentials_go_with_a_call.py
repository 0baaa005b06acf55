"""A step's credentials are named in its calls and in questions about them; names are all there is here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import tests.support.walk
from reflux.core import walker
from reflux.core.command import AskEffect, StartAttempt
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.names import FlowId, RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.resolving import Abilities
from reflux.orchestrator.dispatch import entry_of, prepare
from reflux.orchestrator.fairness import NOBODY
from reflux.orchestrator.mesh_view import MeshView, Reach, RouteView, TargetView, VersionView
from reflux.runtime.settings import Address
from tests.support.walk import Walk, ambiguous, done, flow_of, node

if TYPE_CHECKING:
    from reflux.core.command import Command
    from reflux.core.event import Failure
    from reflux.core.state import RunState
    from reflux.orchestrator.caller import Order

NAMED = (("", "shop-api"),)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOWHERE = Address("127.0.0.1", 1)


def command(*named: tuple[str, str], **more: Any) -> StartAttempt:
    return StartAttempt(
        step=StepPath("fetch"),
        attempt=1,
        generation=0,
        node="http.request",
        version=None,
        input=Json(b"{}"),
        attempt_timeout=None,
        total_deadline=None,
        credentials=named,
        **more,
    )


def prepared(*named: tuple[str, str], slots: tuple[str, ...] = ("authorization", "")) -> tuple[Order, Any]:
    """The order of a call with these credentials, and what keeps it from being sent."""
    mesh = MeshView(NOWHERE, NOWHERE)
    view = VersionView("http.request", "1", "d1", EffectClass.PURE, None, 1, batch=64, slots=slots)
    other = VersionView("http.request", "2", "d2", EffectClass.PURE, None, 1, batch=64, slots=("spare",))
    mesh._versions = {"http.request": {"1": view, "2": other}}
    mesh._routes = {"http.request": RouteView("http.request", 1, (TargetView("1", 10_000, ()),))}
    _, order, obstacle = prepare(mesh, RunId("r"), 1, command(*named), NOW, turn=NOBODY)
    return order, obstacle


def test_a_call_with_credentials_travels_alone() -> None:
    """The calls of a batch have one envelope, and others' have none of it."""
    order, obstacle = prepared(*NAMED)
    assert (order.credentials, order.group, obstacle) == (NAMED, None, None)
    order, obstacle = prepared()
    assert order.credentials == ()
    assert order.group is not None
    assert obstacle is None


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            (("authorizaton", "shop-api"),),
            "no slot authorizaton for a credential: it has authorization, spare",
        ),
        ((("authorization", "shop-api"), ("key", "k")), "no slot key"),
    ],
)
def test_a_slot_that_no_version_has_is_not_sent(named: tuple[tuple[str, str], ...], said: str) -> None:
    """Else the call would be made without the credential that its author counts on."""
    obstacle: Failure
    _, obstacle = prepared(*named)
    assert (obstacle.code, obstacle.reason) == ("INVALID_ARGUMENT", Reason.CREDENTIAL_UNFIT)
    assert said in obstacle.message


def test_a_slot_of_a_version_that_is_not_called_is_no_mistake() -> None:
    """A step names one for each that could answer, also after the route has changed."""
    assert prepared(("spare", "shop-api"), *NAMED)[1] is None


def test_a_node_that_takes_none_is_not_called_with_one() -> None:
    """Not even by a name without a slot."""
    _, obstacle = prepared(*NAMED, slots=())
    assert "no default slot for a credential: it has spare" in obstacle.message


def test_answers_to_one_account_are_not_another_ones() -> None:
    """What is kept for a while is found by the same credentials only."""
    more: dict[str, Any] = {"cache_key": Json(b"1"), "cache_ttl": timedelta(minutes=1)}
    reach = Reach((), None)
    entries = [
        entry_of(FlowId("f"), command(*named, **more), reach)
        for named in ((), NAMED, (("", "other"),), (("authorization", "shop-api"),))
    ]
    assert len({entry.key for entry in entries if entry is not None}) == 4
    again = entry_of(FlowId("f"), command(*NAMED, **more), reach)
    assert again == entries[1]


def test_a_question_about_an_effect_is_asked_with_the_same_credentials() -> None:
    """Another account knows nothing of it; a compensation has its own."""
    undo = {"node": "undo", "credentials": {"bank": "team-b"}}
    pay = node("pay", credentials={"bank": "team-a"}, compensate=undo)
    flow = flow_of(pay, {"id": "no", "fail": {"message": "no"}})
    answers = {"pay": [ambiguous("x@1")] * 5, "pay~compensate": [done(claimed_by="u@1")]}
    effects = {"pay": EffectClass.IDEMPOTENT, "pay~compensate": EffectClass.IDEMPOTENT}
    walk = Walk(flow, answers, effects=effects)
    walk.abilities = Abilities(verifiable=True)
    asked = _asks(walk)
    assert {each.credentials for each in walk.started if each.step == "pay"} == {(("bank", "team-a"),)}
    assert {each.credentials for each in asked} == {(("bank", "team-a"),)}
    compensation = flow.steps[StepPath("pay")].compensation
    assert compensation is not None
    assert compensation.credentials == (("bank", "team-b"),)


def _asks(walk: Walk) -> list[AskEffect]:
    """The questions that the walk comes to."""
    asked: list[AskEffect] = []

    def decide(state: RunState, now: datetime) -> Command | None:
        found = walker.decide(state, now)
        if isinstance(found, AskEffect):
            asked.append(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.support.walk, "decide", decide)
        walk.run(until=60)
    return asked
