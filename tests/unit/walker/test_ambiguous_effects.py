"""Claimed and no answer: asked for again in the same scope with the same key, or left to a person."""

from __future__ import annotations

import pytest

from reflux.core.attempt import NOT_SENT_PATIENCE, RESOLVE_ATTEMPTS
from reflux.core.effect import EffectClass
from reflux.core.event import Outcome, RunPhase
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, node, not_sent

LOST = ambiguous("pay@2")
REPEATABLE = [EffectClass.IDEMPOTENT, EffectClass.COMPENSATABLE]


def walk_of(answers: list, effect: EffectClass = EffectClass.IDEMPOTENT, **keys) -> Walk:
    return Walk(flow_of(node("a", **keys)), {"a": answers}, effects={"a": effect}).run()


def test_at_most_once_is_parked_at_once():
    """Neither the step's retry nor its `on_error` ever sees it."""
    walk = walk_of([LOST], EffectClass.AT_MOST_ONCE, retry={"attempts": 9}, on_error="continue")
    assert walk.trace == ["start a 1", "a claimed by pay@2", "a AMBIGUOUS PARKED"]
    assert walk.state.phase is RunPhase.PARKED
    failure = walk.state.steps["a"].failure
    assert (failure.code, failure.reason, failure.step) == ("UNAVAILABLE", "EFFECT_AMBIGUOUS", "a")


@pytest.mark.parametrize("effect", REPEATABLE)
def test_an_effect_with_a_key_is_asked_for_again_where_it_was_claimed(effect):
    """Same generation, pinned to the version that claimed, though the step has no retry of its own."""
    walk = walk_of([LOST, done(claimed_by="pay@2")], effect)
    assert walk.timed == [
        (0, "start a 1"),
        (0, "a claimed by pay@2"),
        (0, "a AMBIGUOUS RETRYING +1s"),
        (1, "start a 2 at 2"),
        (1, "a claimed by pay@2"),
        (1, "a DONE SUCCEEDED"),
        (1, "run SUCCEEDED"),
    ]
    assert [command.generation for command in walk.started] == [0, 0]


@pytest.mark.parametrize("effect", REPEATABLE)
def test_after_a_few_attempts_a_person_is_asked(effect):
    """With doubled pauses; then the step is PARKED and nothing more happens."""
    walk = walk_of([LOST] * RESOLVE_ATTEMPTS, effect)
    assert [line for line in walk.timed if "AMBIGUOUS" in line[1]] == [
        (0, "a AMBIGUOUS RETRYING +1s"),
        (1, "a AMBIGUOUS RETRYING +2s"),
        (3, "a AMBIGUOUS RETRYING +4s"),
        (7, "a AMBIGUOUS RETRYING +8s"),
        (15, "a AMBIGUOUS PARKED"),
    ]
    assert walk.state.phase is RunPhase.PARKED
    assert [command.version for command in walk.started] == [None, "2", "2", "2", "2"]


@pytest.mark.parametrize(
    ("answer", "third"),
    [
        (not_sent(), 1),
        (failed("NOT_FOUND"), 3),
        (failed("UNAVAILABLE", claimed_by="pay@2"), 3),
        (ambiguous(), 3),
    ],
    ids=["not sent", "refused before its claim", "refused after its claim", "lost before its claim"],
)
def test_only_done_makes_an_ambiguous_effect_certain(answer, third):
    """That a later attempt did nothing says nothing of a request that may still arrive: pin and key stay."""
    walk = walk_of([LOST, answer, done(claimed_by="pay@2")], retry={"attempts": 9, "on": ["NOT_FOUND"]})
    starts = [(int(at), line) for at, line in walk.timed if line.startswith("start")]
    assert starts == [(0, "start a 1"), (1, "start a 2 at 2"), (third, "start a 3 at 2")]
    assert [event.outcome for event in walk.state.steps["a"].finished] == [
        Outcome.AMBIGUOUS,
        Outcome.AMBIGUOUS,
        Outcome.DONE,
    ]
    assert walk.trace[-1] == "run SUCCEEDED"


def test_a_mesh_that_stays_silent_leaves_it_to_a_person():
    """It is never FAILED for want of patience: the effect may have happened."""
    walk = walk_of([LOST, *[not_sent()] * 40])
    assert walk.trace[-1] == "a AMBIGUOUS PARKED"
    assert walk.timed[-1][0] > NOT_SENT_PATIENCE.total_seconds() - 5


def test_a_version_that_is_away_for_a_while_uses_no_attempt_up():
    """While it restarts nobody is asked; when it is back it is, however often that was in vain."""
    walk = walk_of([LOST, *[not_sent()] * (RESOLVE_ATTEMPTS + 3), done(claimed_by="pay@2")])
    assert walk.trace[-1] == "run SUCCEEDED"


def test_on_error_continue_does_not_pass_over_it():
    """What comes after the step never starts."""
    flow = flow_of(node("a", on_error="continue"), node("b"))
    walk = Walk(flow, {"a": [LOST]}, effects={"a": EffectClass.AT_MOST_ONCE}).run()
    assert walk.states() == {"a": "PARKED", "b": "PENDING"}
    assert walk.state.phase is RunPhase.PARKED


def test_the_total_time_of_the_step_does_not_fail_it():
    """Past it nothing is sent any more, and the step ends PARKED."""
    walk = walk_of([LOST], timeout={"total": "500ms"})
    assert walk.trace[-1] == "a AMBIGUOUS PARKED"
    assert [command.attempt for command in walk.started] == [1, 2, 3, 4, 5]


def test_what_a_failure_beside_it_ends_is_parked_not_cancelled():
    """A step that was about to ask again for its effect still has one of which nobody knows."""
    flow = flow_of(node("a"), node("b", needs=[]), node("z"))
    walk = Walk(flow, {"a": [LOST], "b": [failed(after=0.5)]}, effects={"a": EffectClass.IDEMPOTENT}).run()
    assert walk.timed == [
        (0, "start a 1"),
        (0, "a claimed by pay@2"),
        (0, "start b 1"),
        (0, "a AMBIGUOUS RETRYING +1s"),
        (0.5, "b NO_EFFECT FAILED"),
    ]
    assert walk.states() == {"a": "PARKED", "b": "FAILED", "z": "CANCELED"}
    assert walk.state.phase is RunPhase.PARKED
    assert walk.state.steps["a"].failure.reason == "EFFECT_AMBIGUOUS"


def test_an_attempt_to_find_out_that_learns_nothing_is_parked_when_the_run_is_ending():
    """Its own outcome (not sent) does not wipe out the former one."""
    flow = flow_of(node("a"), node("b", needs=[]))
    answers = {"a": [LOST, ambiguous(after=2)], "b": [failed(after=1.5)]}
    walk = Walk(flow, answers, effects={"a": EffectClass.IDEMPOTENT}).run()
    assert walk.timed[-2:] == [(1.5, "b NO_EFFECT FAILED"), (3, "a AMBIGUOUS PARKED")]
    assert walk.state.unresolved_effects == ("a",)


def test_what_may_be_asked_again_is_a_matter_of_the_effect_not_of_the_moment():
    """A version that is gone for a while makes a call look like the worst class; the effect keeps its own."""
    walk = Walk(flow_of(node("a")), {"a": [LOST, not_sent(), done()]}, effects={"a": EffectClass.IDEMPOTENT})
    walk.run(until=0.5)
    walk.effects = {"a": EffectClass.AT_MOST_ONCE}
    assert walk.run().trace[-3:] == ["start a 3 at 2", "a DONE SUCCEEDED", "run SUCCEEDED"]
