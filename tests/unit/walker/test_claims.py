"""Who may act: each rule of `judge`, on a run with one attempt in flight."""

from __future__ import annotations

import pytest

from reflux.core.claim import Verdict, judge
from reflux.core.effect import EffectClass
from reflux.core.event import EffectClaimed
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node

KEYED = [EffectClass.IDEMPOTENT, EffectClass.COMPENSATABLE]
ONCE = EffectClass.AT_MOST_ONCE


def in_flight(effect: EffectClass, claimed_by: str = "") -> Walk:
    return Walk(flow_of(node("a"), node("b")), {"a": [never(claimed_by)]}, effects={"a": effect}).run(until=1)


def claim(
    execution: str = "e1", scope: str = "account", *, step: str = "a", attempt: int = 1
) -> EffectClaimed:
    return EffectClaimed(step, attempt, execution, scope, "pay@1")


@pytest.mark.parametrize("effect", [*KEYED, ONCE])
def test_the_first_claim_is_recorded_then_granted(effect):
    """RECORD: whoever grants must journal it first."""
    assert judge(in_flight(effect).state, claim()) == (Verdict.RECORD, "")


@pytest.mark.parametrize("effect", [*KEYED, ONCE])
def test_the_same_execution_gets_the_same_answer(effect):
    """A claim whose grant was lost on the way may be repeated."""
    walk = in_flight(effect).tell(claim())
    assert judge(walk.state, claim()) == (Verdict.GRANTED, "")


def test_another_execution_of_at_most_once_is_refused():
    """Two tries of one attempt never both act."""
    walk = in_flight(ONCE).tell(claim("e1"))
    verdict, why = judge(walk.state, claim("e2"))
    assert verdict is Verdict.REFUSED
    assert why == "another execution has claimed attempt 1 of step a"


@pytest.mark.parametrize("effect", KEYED)
def test_a_key_lets_any_execution_act_in_its_scope_and_none_outside(effect):
    """Within a scope the key makes the effect one; in another it would be a second one."""
    walk = in_flight(effect).tell(claim("e1", "stripe"))
    assert judge(walk.state, claim("e2", "stripe")) == (Verdict.GRANTED, "")
    assert judge(walk.state, claim("e2", "paypal")) == (
        Verdict.REFUSED,
        "the attempt is bound to scope 'stripe'",
    )


def test_a_pure_call_claims_nothing():
    """It was sent as one that may be repeated: acting for it would be a second effect some day."""
    verdict, why = judge(in_flight(EffectClass.PURE).state, claim())
    assert (verdict, why) == (Verdict.REFUSED, "step a was started as a pure call")


@pytest.mark.parametrize(
    "late",
    [claim(attempt=2), claim(attempt=0), claim(step="b"), claim(step="nobody")],
    ids=["a later attempt", "an earlier attempt", "a step that has not started", "an unknown step"],
)
def test_only_the_attempt_in_flight_may_claim(late):
    """Anything else belongs to another time or another run."""
    verdict, why = judge(in_flight(ONCE).state, late)
    assert verdict is Verdict.REFUSED
    assert "not in flight" in why


def test_an_attempt_that_is_over_may_not_claim():
    """Its outcome is recorded."""
    walk = Walk(flow_of(node("a")), {"a": [done()]}, effects={"a": ONCE}).run()
    assert judge(walk.state, claim())[0] is Verdict.REFUSED


def test_nobody_may_act_for_a_cancelled_run():
    """After a cancel no effect begins."""
    verdict, why = judge(in_flight(ONCE).cancel().state, claim())
    assert (verdict, why) == (Verdict.REFUSED, "step a is being given up")


def test_nobody_may_act_beside_a_failure():
    """In the list that is ending, and in lists inside it; elsewhere all goes on."""
    inner = {"id": "i", "if": {"when": "{{ true }}", "then": [node("a")]}}
    par = {"id": "p", "on_error": "continue", "parallel": {"branches": {"l": [inner], "r": [node("b")]}}}
    flow = flow_of(par, node("c", needs=[]))
    effects = dict.fromkeys(("a", "c"), ONCE)
    walk = Walk(flow, {"a": [never()], "b": [failed(after=1)], "c": [never()]}, effects=effects)
    walk.run(until=0.5)
    assert judge(walk.state, claim())[0] is Verdict.RECORD
    walk.run(until=2)
    assert judge(walk.state, claim()) == (Verdict.REFUSED, "step a is being given up")
    assert judge(walk.state, claim(step="c"))[0] is Verdict.RECORD


@pytest.mark.parametrize("effect", KEYED)
def test_asking_again_for_an_ambiguous_effect_is_bound_to_the_scope_that_claimed_it(effect):
    """The version may have been set up with another account since: that would be a second effect."""
    answers = {"a": [ambiguous("pay@1"), never()]}
    walk = Walk(flow_of(node("a")), answers, effects={"a": effect}).run(until=2)
    assert judge(walk.state, claim("e2", "other", attempt=2)) == (
        Verdict.REFUSED,
        "the effect is ambiguous in scope 'account', and bound to it",
    )
    assert judge(walk.state, claim("e2", "account", attempt=2)) == (Verdict.RECORD, "")


def test_a_new_effect_after_a_refusal_may_go_elsewhere():
    """NO_EFFECT frees the step: another key, any scope."""
    flow = flow_of(node("a", retry={"attempts": 2, "on": ["UNAVAILABLE"]}))
    answers = {"a": [failed("UNAVAILABLE", claimed_by="pay@1"), never()]}
    walk = Walk(flow, answers, effects={"a": EffectClass.IDEMPOTENT}).run(until=2)
    assert judge(walk.state, claim("e2", "other", attempt=2)) == (Verdict.RECORD, "")
