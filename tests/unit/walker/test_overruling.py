"""A person decides what becomes of a step, or ends the run at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reflux.core.attempt import total_deadline
from reflux.core.document import NULL, Json
from reflux.core.effect import EffectClass
from reflux.core.errors import InvalidArgument, NotFound, Refused
from reflux.core.event import Choice, RunPhase, SkipReason
from reflux.core.reasons import Reason
from reflux.core.word import Answer, Overrule, Terminate
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node, not_sent

ONCE = {"pay": EffectClass.AT_MOST_ONCE}
LOST = ambiguous("pay@1")


def decide(choice: str, step: str = "pay", number: str = "d1", **more: object) -> Overrule:
    return Overrule(number, "ada", step, Choice(choice), "I asked them", **more)


def parked(*rest: dict, more: tuple = (), **keys: object) -> Walk:
    walk = Walk(flow_of(node("pay"), *(rest or (node("b"),))), {"pay": [LOST, *more]}, effects=ONCE, **keys)
    return walk.run()


def refused(walk: Walk, word: Overrule) -> Reason:
    with pytest.raises((Refused, NotFound, InvalidArgument)) as refusal:
        walk.say(word)
    return refusal.value.reason


def test_a_confirmed_effect_is_the_steps_output():
    """It is not asked for again, and what waited for it goes on."""
    walk = parked({"id": "r", "return": "{{ steps.pay.output.id }}"})
    walk.say(decide("confirm", output=Json.of({"id": "ch_1"}))).run()
    assert walk.trace[-4:] == ["pay confirm", "pay SUCCEEDED", "r SUCCEEDED", "run SUCCEEDED"]
    assert walk.finished.output.value == "ch_1"
    assert walk.finished.unresolved_effects == ()


def test_an_output_of_which_the_step_makes_nothing_is_refused_as_such():
    """It does not fit the step's `result`: that is not its size, and another one may be given."""
    walk = Walk(flow_of(node("pay", result="{{ self.output.id }}")), {"pay": [LOST]}, effects=ONCE).run()
    assert refused(walk, decide("confirm")) is Reason.EXPRESSION_FAILED
    walk.say(decide("confirm", output=Json.of({"id": "ch_1"})))
    assert walk.output("pay") == "ch_1"


def test_a_retry_is_a_new_effect():
    """Another generation, so another key; no old claim binds it, and the retry policy begins anew."""
    walk = Walk(
        flow_of(node("pay", retry={"attempts": 2, "delay": "1s", "jitter": "none"})),
        {"pay": [LOST, failed("UNAVAILABLE"), done()]},
        effects=ONCE,
    ).run()
    walk.say(decide("retry")).run()
    assert walk.trace[-6:] == [
        "pay retry",
        "start pay 2 generation 1",
        "pay NO_EFFECT RETRYING +1s",
        "start pay 3 generation 2",
        "pay DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_a_retry_that_ends_ambiguous_is_parked_again():
    """As the first one was, with its own count of attempts."""
    effects = {"pay": EffectClass.IDEMPOTENT}
    answers = [LOST] * 10
    walk = Walk(flow_of(node("pay")), {"pay": answers}, effects=effects).run()
    assert len(walk.started) == 5
    walk.say(decide("retry")).run()
    assert len(walk.started) == 10
    assert {command.generation for command in walk.started[5:]} == {1}
    assert [command.version for command in walk.started[5:7]] == [None, "1"]
    assert walk.state.phase is RunPhase.PARKED


def test_a_fallback_asks_the_version_that_is_named():
    """Not the one that claimed the effect, and not the one of the route."""
    walk = parked(more=(done(),)).say(decide("fall_back", version="paypal")).run()
    assert "start pay 2 generation 1 at paypal" in walk.trace
    assert walk.finished.state is RunPhase.SUCCEEDED


def test_a_step_can_be_failed_by_hand():
    """What `on_error` says holds then; the reason is the person's."""
    walk = parked().say(decide("fail"))
    failure = walk.finished.failure
    assert (failure.reason, failure.message, failure.step) == (Reason.FAILED_BY_HAND, "I asked them", "pay")


@pytest.mark.parametrize("choice", ["confirm", "retry", "fall_back", "fail"])
def test_only_a_parked_step_is_completed(choice):
    """One that is being done, waits, or is over has its own end."""
    walk = Walk(flow_of(node("pay"), node("b")), {"pay": [never()]}).run(until=0.1)
    assert refused(walk, decide(choice)) is Reason.STEP_NOT_WAITING
    assert refused(walk, decide(choice, "b")) is Reason.STEP_NOT_WAITING
    assert refused(walk, decide(choice, "zz")) is Reason.STEP_NOT_FOUND


def test_an_output_that_is_too_large_is_refused():
    """And the step stays PARKED."""
    walk = parked()
    output = Json.of("x" * (1 << 20))
    assert refused(walk, decide("confirm", output=output)) is Reason.OUTPUT_TOO_LARGE
    assert walk.states("pay") == {"pay": "PARKED"}


def test_nothing_is_retried_where_a_failure_is_ending_everything():
    """Only what settles the step is possible there; then the run ends as it would have."""
    flow = flow_of(node("pay"), node("b", needs=[]))
    walk = Walk(flow, {"pay": [LOST], "b": [failed(after=1)]}, effects=ONCE).run()
    assert refused(walk, decide("retry")) is Reason.STEP_NOT_WAITING
    walk.say(decide("confirm"))
    assert walk.finished.state is RunPhase.FAILED


@pytest.mark.parametrize(
    "step",
    [
        {"id": "s", "wait": {"for": "1h"}},
        {"id": "s", "wait": {"signal": "go"}},
        {"id": "s", "approve": {}},
        node("s", retry={"attempts": 2, "delay": "1h", "jitter": "none"}),
    ],
)
def test_a_step_that_waits_is_skipped(step):
    """What follows takes it as not wanted, and goes on."""
    walk = Walk(flow_of(step, node("b", needs=["s"])), {"s": [failed("UNAVAILABLE")]}).run(until=1)
    walk.say(decide("skip", "s")).run()
    assert walk.states() == {"s": "SKIPPED", "b": "SUCCEEDED"}
    assert walk.state.steps["s"].skip_reason is SkipReason.HAND


def test_a_step_that_has_not_begun_is_skipped():
    """It is left out when its turn comes; a container with all that is in it."""
    box = {"id": "p", "parallel": {"branches": {"l": [node("c")]}}}
    walk = Walk(flow_of(node("a"), box, node("z")), {"a": [done(after=5)]}).run(until=1)
    walk.say(decide("skip", "p")).run()
    assert walk.states() == {"a": "SUCCEEDED", "p": "SKIPPED", "c": "SKIPPED", "z": "SUCCEEDED"}


def test_what_follows_a_step_skipped_before_its_turn_overtakes_nothing():
    """It waits for what the skipped steps had waited for themselves, and can read that."""
    ok = {"id": "ok", "approve": {}}
    pay = node("pay", **{"with": {"by": "{{ steps.ok.output.by }}"}})
    walk = Walk(flow_of(ok, node("a"), node("b"), pay)).run(until=1)
    for step in ("b", "a"):
        walk.say(decide("skip", step, number=step)).run(until=2)
    assert walk.states() == {"ok": "RUNNING", "a": "SKIPPED", "b": "SKIPPED", "pay": "PENDING"}
    assert walk.state.waits_for("pay") == ["ok"]
    walk.say(Answer("a1", "ada", "ok", approved=True, form=NULL, comment="")).run()
    assert [(call.step, call.input.value) for call in walk.started] == [("pay", {"by": "ada"})]


def test_any_number_of_steps_may_be_skipped_before_their_turn():
    """Whoever waits for the last of them is found without a call for each."""
    steps = [node(f"s{number}") for number in range(998)]
    walk = Walk(flow_of({"id": "w", "wait": {"for": "1h"}}, *steps, node("z"))).run(until=1)
    for step in steps:
        walk.say(decide("skip", step["id"], number=step["id"]))
    assert walk.run().states()["z"] == "SUCCEEDED"


def test_a_parked_step_is_skipped():
    """Nothing is held up by it then."""
    walk = parked().say(decide("skip")).run()
    assert walk.states() == {"pay": "SKIPPED", "b": "SUCCEEDED"}
    assert walk.state.parked_in == set()


def test_what_is_being_done_or_over_is_not_skipped():
    """Nor what stands in a list that has not begun."""
    box = {"id": "p", "parallel": {"branches": {"l": [node("c")]}}}
    walk = Walk(flow_of(node("a"), node("b"), box), {"b": [never()]}).run(until=1)
    assert {step: refused(walk, decide("skip", step)) for step in ("a", "b", "c")} == dict.fromkeys(
        "abc", Reason.STEP_NOT_WAITING
    )


def test_the_journal_alone_gives_the_same_decisions():
    """Retried, pinned, and by whom."""
    walk = parked(more=(done(after=9), done())).say(decide("fall_back", version="paypal")).run(until=1)
    again, now = walk.replayed().steps["pay"], walk.state.steps["pay"]
    assert (again.generation, again.pinned, again.used) == (now.generation, now.pinned, now.used)
    assert walk.crashed(after=1).run().states() == {"pay": "SUCCEEDED", "b": "SUCCEEDED"}


def test_a_terminated_run_ends_at_once_and_lists_what_may_have_happened():
    """What was claimed, is parked or about to be asked for again; what had not claimed can act no more."""
    effects = dict.fromkeys(("claimed", "unclaimed", "parked", "again"), EffectClass.AT_MOST_ONCE)
    effects["again"] = EffectClass.IDEMPOTENT
    names = ("claimed", "unclaimed", "parked", "again", "pure")
    answers = {
        "claimed": [never("x@1")],
        "unclaimed": [never()],
        "parked": [ambiguous("x@1")],
        "again": [ambiguous("x@1")],
        "pure": [never()],
    }
    walk = Walk(flow_of(*(node(name, needs=[]) for name in names)), answers, effects=effects).run(until=0.5)
    walk.say(Terminate("t1", "ada", "now"))
    assert walk.trace[-2:] == ["terminated", "run CANCELED claimed parked again"]
    assert walk.state.unresolved_effects == ("claimed", "parked", "again")
    assert walk.replayed().unresolved_effects == walk.state.unresolved_effects
    walk.say(Terminate("t1", "ada", "now"))
    with pytest.raises(Refused) as over:
        walk.say(Terminate("t2", "ada", "now"))
    assert over.value.reason is Reason.RUN_FINISHED


def test_what_a_person_begins_anew_has_its_patience_anew():
    """A mesh that takes no call just then does not fail it for what was tried long before."""
    effects = {"pay": EffectClass.AT_MOST_ONCE}
    walk = Walk(flow_of(node("pay")), {"pay": [never("pay@1")]}, effects=effects).run(until=1)
    heir = walk.crashed(after=1).run()
    assert heir.states() == {"pay": "PARKED"}
    heir.answers = {"pay": [not_sent(), done()]}
    heir.now = heir.now.replace(hour=9)
    heir.say(decide("retry")).run()
    assert [line for line in heir.trace if "NOT_SENT" in line] == ["pay NOT_SENT RETRYING +0.2s"]
    assert heir.finished.state is RunPhase.SUCCEEDED


def test_what_is_done_again_has_all_of_its_time_again():
    """Its total time was over long before a person decided; it is not over at once when it begins anew."""
    step = node("pay", timeout={"total": "10s"})
    walk = Walk(flow_of(step), {"pay": [LOST, never()]}, effects=ONCE).run()
    walk.now += timedelta(hours=1)
    walk.say(decide("retry"))
    assert [command.attempt for command in walk.started] == [1, 2]
    assert walk.started[-1].total_deadline == walk.now + timedelta(seconds=10)
    assert walk.states("pay") == {"pay": "RUNNING"}
    assert total_deadline(walk.replayed().steps["pay"]) == walk.now + timedelta(seconds=10)
