"""Events that come too late change nothing; the outcome recorded first stands."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Outcome, StepState
from reflux.core.run import begin, evolve, fold
from tests.support.walk import RUN, START, Walk, created, done, failed, flow_of, never, node

if TYPE_CHECKING:
    from reflux.core.state import RunState

PURE = ev.Assignment(EffectClass.PURE, Lane.BROAD)
LATER = START + timedelta(hours=1)


def known(state: RunState) -> dict[str, object]:
    """All of a state that could differ."""
    names = (
        "steps",
        "values",
        "pending",
        "ready",
        "due",
        "timers",
        "frames",
        "closable",
        "closing",
        "parked",
    )
    return {name: repr(getattr(state, name)) for name in (*names, "flights", "finished")}


def finished(outcome: Outcome = Outcome.DONE, state: StepState = StepState.SUCCEEDED) -> ev.AttemptFinished:
    return ev.AttemptFinished(
        "a", 1, 0, outcome, state, PURE, START, LATER, output=Json(b'"late"'), retry_at=LATER
    )


@pytest.mark.parametrize(
    "late",
    [
        finished(),
        finished(Outcome.NO_EFFECT, StepState.RETRYING),
        finished(Outcome.AMBIGUOUS, StepState.PARKED),
        ev.AttemptStarted("a", 1, 0, PURE, LATER),
        ev.AttemptStarted("a", 2, 0, PURE, LATER),
        ev.EffectClaimed("a", 1, "e", "account", "x@1"),
        ev.StepSettled("a", StepState.FAILED, LATER),
        ev.StepEntered("a", (), LATER),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("first", [done({"n": 1}), failed()], ids=["succeeded", "failed"])
def test_an_event_about_a_settled_step_changes_nothing(first, late):
    """Not its state, not its output, not what others wait for."""
    walk = Walk(flow_of(node("a", on_error="continue"), node("b")), {"a": [first], "b": [never()]}).run(
        until=1
    )
    before = known(walk.state)
    evolve(walk.state, late)
    assert known(walk.state) == before


def test_an_event_about_a_cancelled_step_changes_nothing():
    """An answer that crosses a failure on its way: dropped is dropped."""
    flow = flow_of(
        {
            "id": "p",
            "on_error": "continue",
            "parallel": {"branches": {"l": [node("a")], "r": [node("b")]}},
        },
        node("z"),
    )
    walk = Walk(flow, {"a": [never()], "b": [failed(after=1)], "z": [never()]}).run(until=2)
    before = known(walk.state)
    evolve(walk.state, finished())
    assert known(walk.state) == before
    assert walk.states("a") == {"a": "CANCELED"}


def test_the_late_start_of_a_slow_pure_attempt_folds_as_if_it_came_in_time():
    """It is journaled after what happened meanwhile; the state is the one memory had."""
    flow = flow_of(node("a"), node("b", needs=[]), node("c", needs=["b"]))
    walk = Walk(flow, {"a": [done(after=9)], "b": [done(after=0.1)], "c": [done(after=0.1)]}).run(until=1)
    kinds = [(type(event).__name__, getattr(event, "step", "")) for event in walk.journal]
    assert kinds[1:] == [("AttemptFinished", "b"), ("AttemptFinished", "c"), ("AttemptStarted", "a")]
    assert known(walk.replayed()) == known(walk.state)
    walk.run()
    assert known(walk.replayed()) == known(walk.state)


def test_a_late_start_after_the_step_was_dropped_folds_to_nothing():
    """It crossed the failure beside it on the way to the journal."""
    walk = Walk(flow_of(node("a"), node("b", needs=[])), {"a": [failed()], "b": [never()]}).run()
    before = known(walk.replayed())
    walk.journal.insert(-1, ev.AttemptStarted("b", 1, 0, PURE, START))
    assert known(walk.replayed()) == before


def test_a_claim_of_an_attempt_that_is_not_in_flight_binds_nothing():
    """Only the attempt in flight can be claimed."""
    walk = Walk(flow_of(node("a")), {"a": [never()]}, effects={"a": EffectClass.AT_MOST_ONCE}).run(until=1)
    evolve(walk.state, ev.EffectClaimed("a", 7, "e", "account", "x@1"))
    assert walk.state.steps["a"].flight.claim is None
    assert walk.state.steps["a"].claims == {}


def test_a_journal_begins_with_run_created_and_only_once():
    """Anything else is no journal."""
    flow = flow_of(node("a"))
    with pytest.raises(ValueError, match="does not begin with RunCreated"):
        fold(RUN, flow, [ev.CancelRequested("me", "", START)])
    with pytest.raises(ValueError, match="does not begin with RunCreated"):
        fold(RUN, flow, [])
    with pytest.raises(ValueError, match="begins twice"):
        evolve(begin(RUN, flow, created(flow)), created(flow))


def test_a_recovery_is_history_only():
    """Folding it changes nothing: what follows from it stands in the events after it."""
    walk = Walk(flow_of(node("a")), {"a": [never()]}).run(until=1)
    before = known(walk.state)
    evolve(walk.state, ev.RunRecovered("heir", 2, LATER))
    assert known(walk.state) == before


def test_a_start_that_is_known_already_is_one_attempt():
    """Folded a second time it changes nothing, so that the run is not waiting for two answers."""
    walk = Walk(flow_of(node("a")), {"a": [never()]}).run(until=0.1)
    before = known(walk.state)
    evolve(walk.state, ev.AttemptStarted("a", 1, 0, PURE, LATER))
    assert known(walk.state) == before
