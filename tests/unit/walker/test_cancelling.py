"""Cancel: no new attempt starts, what has no effect ends at once, what may have one is waited for."""

from __future__ import annotations

import pytest

from reflux.core import event as ev
from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node

ONCE = {"pay": EffectClass.AT_MOST_ONCE}


def test_a_run_with_nothing_outside_ends_at_once():
    """Pure attempts are dropped, waits for retries ended, what is pending never starts."""
    flow = flow_of(node("a"), node("b", needs=[], retry={"attempts": 2, "delay": "9s"}), node("c"))
    walk = Walk(flow, {"a": [never()], "b": [failed("UNAVAILABLE")]}).run(until=1).cancel()
    assert walk.timed == [
        (0, "start a 1"),
        (0, "start b 1"),
        (0, "b NO_EFFECT RETRYING +9s"),
        (1, "cancel"),
        (1, "run CANCELED"),
    ]
    assert set(walk.states().values()) == {"CANCELED"}
    assert walk.finished.unresolved_effects == ()
    assert walk.finished.failure is None


def test_what_is_inside_containers_ends_with_them():
    """At every depth, entered or not."""
    inner = {"id": "i", "if": {"when": "{{ true }}", "then": [node("a"), node("b")]}}
    later = {"id": "q", "parallel": {"branches": {"x": [node("c")]}}}
    flow = flow_of({"id": "p", "parallel": {"branches": {"l": [inner], "r": [node("d"), later]}}})
    walk = Walk(flow, {"a": [never()], "d": [never()]}).run(until=1).cancel()
    assert walk.trace[-2:] == ["cancel", "run CANCELED"]
    assert set(walk.states().values()) <= {"CANCELED", "SKIPPED"}
    assert walk.state.phase is RunPhase.CANCELED


@pytest.mark.parametrize(
    ("answer", "outcome", "state", "unresolved"),
    [
        (done(after=5), "DONE SUCCEEDED", "SUCCEEDED", ()),
        (done(after=5, claimed_by="pay@1"), "DONE SUCCEEDED", "SUCCEEDED", ()),
        (failed("UNAVAILABLE", after=5), "NO_EFFECT CANCELED", "CANCELED", ()),
        (ambiguous(after=5), "NOT_SENT CANCELED", "CANCELED", ()),
        (ambiguous("pay@1", after=5), "AMBIGUOUS PARKED", "PARKED", ("pay",)),
    ],
    ids=["done", "claimed and done", "refused", "lost unclaimed", "lost claimed"],
)
def test_an_attempt_that_may_act_is_waited_for(answer, outcome, state, unresolved):
    """CANCELING until its outcome is known, which the run then tells; no retry follows."""
    flow = flow_of(node("pay", retry={"attempts": 9}), node("z"))
    walk = Walk(flow, {"pay": [answer]}, effects=ONCE).run(until=1).cancel()
    assert walk.state.phase is RunPhase.CANCELING
    walk.run()
    expected = [(1, "cancel"), (5, f"pay {outcome}"), (5, " ".join(["run CANCELED", *unresolved]))]
    assert walk.timed[-3:] == expected
    assert walk.states() == {"pay": state, "z": "CANCELED"}
    assert walk.finished.unresolved_effects == unresolved


def test_an_idempotent_effect_is_not_asked_for_again():
    """No new attempt after a cancel, so what is unknown stays unknown, and is listed."""
    answers = {"pay": [ambiguous("pay@1", after=5)]}
    walk = Walk(flow_of(node("pay")), answers, effects={"pay": EffectClass.IDEMPOTENT})
    walk.run(until=1).cancel().run()
    assert walk.trace[-1] == "run CANCELED pay"


def test_a_wait_to_ask_again_ends_and_is_listed():
    """Cancelled between two attempts to find out."""
    answers = {"pay": [ambiguous("pay@1")]}
    walk = Walk(flow_of(node("pay")), answers, effects={"pay": EffectClass.IDEMPOTENT})
    walk.run(until=0.5).cancel()
    assert walk.trace[-2:] == ["cancel", "run CANCELED pay"]
    assert walk.states() == {"pay": "PARKED"}


def test_a_parked_run_ends_with_its_unresolved_effects():
    """Cancel is the one thing that ends a run over a PARKED step."""
    walk = Walk(flow_of(node("pay"), node("z")), {"pay": [ambiguous("pay@1")]}, effects=ONCE).run()
    walk.cancel()
    assert walk.trace[-2:] == ["cancel", "run CANCELED pay"]
    assert walk.states() == {"pay": "PARKED", "z": "CANCELED"}
    assert walk.state.unresolved_effects == ("pay",)


def test_a_second_cancel_changes_nothing():
    """The first one stands, with who asked and why."""
    walk = Walk(flow_of(node("pay")), {"pay": [done(after=5)]}, effects=ONCE).run(until=1).cancel()
    walk.tell(ev.CancelRequested("you", "me too", walk.now)).run()
    assert walk.state.cancel.actor == "me"
    assert walk.trace[1:] == ["cancel", "cancel", "pay DONE SUCCEEDED", "run CANCELED"]


def test_cancel_goes_over_a_failure_and_a_return():
    """A run that was ending otherwise, and waited for an attempt, ends CANCELED."""
    for last in ({"fail": {"message": "no"}}, {"return": {"n": 1}}):
        flow = flow_of(node("pay"), {"id": "end", "needs": [], **last})
        walk = Walk(flow, {"pay": [done(after=5)]}, effects=ONCE).run(until=1).cancel().run()
        assert walk.finished.state is RunPhase.CANCELED
        assert (walk.finished.output, walk.finished.failure) == (None, None)


def test_a_cancel_after_the_end_changes_nothing():
    """What is over is over."""
    walk = Walk(flow_of(node("a"))).run()
    walk.cancel()
    assert walk.state.phase is RunPhase.SUCCEEDED
    assert walk.trace[-2:] == ["run SUCCEEDED", "cancel"]
