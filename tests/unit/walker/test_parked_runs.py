"""A run is PARKED when a step is and nothing else can proceed."""

from __future__ import annotations

from datetime import timedelta

from reflux.core import event as ev
from reflux.core.command import StartAttempt
from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase
from reflux.core.reasons import Reason
from reflux.core.run import evolve
from reflux.core.walker import decide, next_wake
from reflux.core.word import Resume, WordId
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node

ONCE = {"pay": EffectClass.AT_MOST_ONCE}
LOST = ambiguous("pay@1")


def test_the_rest_of_the_run_goes_on_first():
    """RUNNING while anything moves: an attempt, a wait for a retry. PARKED when all of it is through."""
    retry = {"attempts": 2, "delay": "5s", "jitter": "none"}
    flow = flow_of(node("pay"), node("b", needs=[], retry=retry), node("c"))
    walk = Walk(flow, {"pay": [LOST], "b": [failed("UNAVAILABLE", after=1), done()]}, effects=ONCE)
    assert walk.run(until=0.5).state.phase is RunPhase.RUNNING
    assert walk.run(until=3).state.phase is RunPhase.RUNNING
    assert walk.run().state.phase is RunPhase.PARKED
    assert walk.states() == {"pay": "PARKED", "b": "SUCCEEDED", "c": "SUCCEEDED"}
    assert decide(walk.state, walk.now) is None
    assert next_wake(walk.state) is None


def test_what_depends_on_a_parked_step_waits():
    """With any join: it has not settled."""
    flow = flow_of(node("pay"), node("b", needs=["pay"], join="all_done"))
    walk = Walk(flow, {"pay": [LOST]}, effects=ONCE).run()
    assert walk.states() == {"pay": "PARKED", "b": "PENDING"}


def test_a_container_does_not_settle_over_a_parked_step():
    """Even if a failure beside it is ending the container, and `on_error` would let that pass."""
    par = {
        "id": "p",
        "on_error": "continue",
        "parallel": {"branches": {"l": [node("pay")], "r": [node("b")]}},
    }
    walk = Walk(flow_of(par, node("z")), {"pay": [LOST], "b": [failed(after=1)]}, effects=ONCE).run()
    assert walk.trace[-1] == "b NO_EFFECT FAILED"
    assert walk.states() == {"p": "RUNNING", "pay": "PARKED", "b": "FAILED", "z": "PENDING"}
    assert walk.state.phase is RunPhase.PARKED


def test_a_failed_run_is_parked_until_the_effect_is_known():
    """Also when a container beside it was emptied by the failure: nothing is left that could move."""
    par = {"id": "p", "needs": [], "parallel": {"branches": {"l": [node("slow")]}}}
    flow = flow_of(node("pay"), par, node("b", needs=[]))
    answers = {"pay": [LOST], "slow": [never()], "b": [failed(after=1)]}
    walk = Walk(flow, answers, effects=ONCE).run()
    assert walk.trace[-1] == "b NO_EFFECT FAILED"
    assert walk.states("pay", "slow", "b") == {"pay": "PARKED", "slow": "CANCELED", "b": "FAILED"}
    assert walk.state.phase is RunPhase.PARKED


def test_two_parked_steps_are_both_listed():
    """In the order in which they were parked."""
    flow = flow_of(node("one"), node("two", needs=[]))
    walk = Walk(
        flow,
        {"one": [ambiguous("x@1", after=2)], "two": [ambiguous("x@1", after=1)]},
        effects=dict.fromkeys(("one", "two"), EffectClass.AT_MOST_ONCE),
    ).run()
    assert walk.state.unresolved_effects == ("two", "one")


def test_quarantine_parks_whatever_the_steps_say():
    """No command and no timer: the run waits for a person."""
    walk = Walk(flow_of(node("a"), policies={"timeout": "1m"}))
    evolve(walk.state, ev.RunParked(ev.Failure("INTERNAL", "QUARANTINED", "again and again"), walk.now))
    assert walk.state.phase is RunPhase.PARKED
    assert decide(walk.state, walk.now) is None
    assert next_wake(walk.state) is None


def test_a_quarantined_run_can_be_cancelled():
    """A person may always end it."""
    walk = Walk(flow_of(node("a")))
    walk.tell(ev.RunParked(ev.Failure("INTERNAL", "QUARANTINED", "again and again"), walk.now))
    walk.cancel()
    assert walk.trace == ["quarantine QUARANTINED", "cancel", "run CANCELED"]


def test_a_run_in_quarantine_undoes_nothing_until_somebody_cancels_it():
    """Its owners may die of just that: it rests in the middle of its compensations, and goes on there."""
    undo = {"node": "x", "with": {}}
    flow = flow_of(
        node("a", compensate=undo), node("b", compensate=undo), {"id": "c", "fail": {"message": ""}}
    )
    answers = {"a": [done()], "b": [done()], "b~compensate": [failed("UNAVAILABLE")]}
    walk = Walk(flow, answers).run(until=0.1)
    [(path, due)] = walk.state.due.items()
    assert path == "b~compensate"
    evolve(walk.state, ev.RunParked(ev.Failure("INTERNAL", Reason.QUARANTINED, "again and again"), walk.now))
    assert decide(walk.state, due) is None
    evolve(walk.state, ev.CancelRequested("me", "", walk.now))
    again = decide(walk.state, due)
    assert isinstance(again, StartAttempt)
    assert (again.step, again.attempt) == ("b~compensate", 2)


def test_a_run_cancelled_in_quarantine_has_a_time_to_undo_again():
    """Its compensation is tried again when it is due, so somebody must be told when that is."""
    undo = {"node": "x", "with": {}}
    flow = flow_of(node("a", compensate=undo), {"id": "b", "fail": {"message": "no"}})
    walk = Walk(flow, {"a": [done()], "a~compensate": [failed("UNAVAILABLE"), done()]}).run(until=0.1)
    assert walk.state.due
    parked = ev.Failure("INTERNAL", Reason.RUN_BROKEN, "the database refused a write")
    evolve(walk.state, ev.RunParked(parked, walk.now))
    assert next_wake(walk.state) is None
    evolve(walk.state, ev.CancelRequested("me", "", walk.now))
    assert next_wake(walk.state) == min(walk.state.due.values())


def test_a_run_in_quarantine_undoes_nothing_by_itself():
    """Whatever brings it into memory, a person comes first; then it goes on undoing."""
    undo = {"node": "x", "with": {}}
    flow = flow_of(node("a", compensate=undo), {"id": "b", "fail": {"message": "no"}})
    walk = Walk(flow, {"a": [done()], "a~compensate": [failed("UNAVAILABLE"), done()]}).run(until=0.1)
    assert walk.state.due
    evolve(walk.state, ev.RunParked(ev.Failure("INTERNAL", Reason.RUN_BROKEN, "no"), walk.now))
    late = walk.now + timedelta(hours=1)
    assert decide(walk.state, late) is None
    walk.say(Resume(WordId("r"), "me", "")).run()
    assert walk.finished.state == "FAILED"
    assert walk.finished.uncompensated == ()
