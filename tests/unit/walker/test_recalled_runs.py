"""A recall ends a run, but for what waits for a person: only a cancel decides about an unknown effect."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.core import event as ev
from reflux.core.effect import EffectClass
from reflux.core.event import Choice, RunPhase
from reflux.core.reasons import Reason
from reflux.core.walker import decide, next_wake
from reflux.core.word import Cancel, Overrule, Recall, Resume, WordId
from reflux.orchestrator.children import tells
from tests.support.walk import Walk, ambiguous, flow_of, never, node

W = WordId("w")
ONCE = {"pay": EffectClass.AT_MOST_ONCE}
RECALL, CANCEL = Recall(WordId(""), "me", "its time is over"), Cancel(WordId(""), "me", "enough")


def parked(*beside: dict[str, Any], **answers: Any) -> Walk:
    """A run whose step `pay` is PARKED."""
    flow = flow_of(node("pay"), *beside, node("z", needs=["pay"]))
    return Walk(flow, {"pay": [ambiguous("pay@1")]}, effects=ONCE, **answers).run(until=1)


def test_a_recalled_run_ends():
    """Where nothing waits for a person it is a cancel like any other."""
    walk = Walk(flow_of(node("a")), {"a": [never()]}).run(until=1).say(RECALL).run()
    assert walk.trace[-2:] == ["cancel", "run CANCELED"]
    assert walk.say(RECALL).trace[-1] == "run CANCELED"


def test_a_parked_step_is_not_ended_by_a_recall():
    """All else of the run is; it says PARKED, since a person is what it waits for."""
    walk = parked(node("nap", needs=[])).say(RECALL).run()
    assert walk.states() == {"pay": "PARKED", "nap": "SUCCEEDED", "z": "CANCELED"}
    assert walk.state.phase is RunPhase.PARKED
    assert (decide(walk.state, walk.now), next_wake(walk.state)) == (None, None)
    assert walk.replayed().phase is RunPhase.PARKED


def test_while_something_ends_the_run_is_canceling():
    """An attempt with an outside effect is in flight: its outcome is waited for first."""
    flow = flow_of(node("pay"), node("mail", needs=[]))
    effects = {**ONCE, "mail": EffectClass.AT_MOST_ONCE}
    answers = {"pay": [ambiguous("pay@1")], "mail": [ambiguous("mail@1", after=9)]}
    walk = Walk(flow, answers, effects=effects).run(until=1).say(RECALL)
    assert walk.state.phase is RunPhase.CANCELING
    walk.run()
    assert (walk.state.phase, walk.state.unresolved_effects) == (RunPhase.PARKED, ("pay", "mail"))


@pytest.mark.parametrize(("choice", "state"), [(Choice.CONFIRM, "SUCCEEDED"), (Choice.FAIL, "FAILED")])
def test_a_person_decides_and_then_it_ends(choice, state):
    """With nothing unresolved; nothing of the run goes on."""
    walk = parked().say(RECALL).say(Overrule(W, "me", "pay", choice, "seen")).run()
    assert walk.states() == {"pay": state, "z": "CANCELED"}
    assert walk.finished.state is RunPhase.CANCELED
    assert walk.finished.unresolved_effects == ()


def test_a_cancel_goes_over_a_recall():
    """It is a second request, and ends the run with the effect unresolved; a recall after it says nothing."""
    walk = parked().say(RECALL).say(CANCEL)
    assert walk.trace[-3:] == ["cancel", "cancel", "run CANCELED pay"]
    assert walk.finished.unresolved_effects == ("pay",)


def test_a_quarantined_run_is_not_ended_by_a_recall():
    """It waits for a person too; once that one lets it go on, it ends."""
    walk = Walk(flow_of(node("a")), {"a": [never()]}).run(until=1)
    walk.tell(ev.RunParked(ev.Failure("INTERNAL", Reason.QUARANTINED, "again and again"), walk.now))
    walk.say(RECALL).run()
    assert (walk.state.phase, next_wake(walk.state)) == (RunPhase.PARKED, None)
    walk.say(Resume(W, "me", "looked at it")).run()
    assert walk.trace[-1] == "run CANCELED"


@pytest.mark.parametrize(("word", "kind"), [(RECALL, "recall"), (CANCEL, "cancel")])
def test_what_a_run_was_told_it_tells_its_children(word, kind):
    """A recall stays one all the way down."""
    walk = Walk(flow_of({"id": "sub", "flow": "other"}), runs={"sub": never()}).run(until=1)
    before = len(walk.journal)
    walk.say(word)
    (told,) = tells(walk.state, walk.journal[before:])
    assert told.kind == kind


def test_a_time_that_is_over_recalls_and_a_cancel_then_cancels():
    """The step waits for its child, which may wait for a person; a cancel reaches it all the same."""
    walk = Walk(flow_of({"id": "sub", "flow": "other", "timeout": {"total": "3s"}}), runs={"sub": never()})
    walk.run(until=1)
    walk.tell(ev.TimedOut("sub", walk.now))
    (told,) = tells(walk.state, walk.journal[-2:])
    assert told.kind == "recall"
    walk._queue.clear()  # it has not ended: a person is asked
    before = len(walk.journal)
    walk.say(CANCEL)
    assert [each.kind for each in tells(walk.state, walk.journal[before:])] == ["cancel"]
