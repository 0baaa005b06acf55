"""A paused run begins nothing; what is in flight ends, and everything else goes on when it is resumed."""

from __future__ import annotations

import pytest

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.errors import Refused
from reflux.core.event import RunPhase
from reflux.core.reasons import Reason
from reflux.core.walker import decide, next_wake
from reflux.core.word import Pause, Resume, Signal
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, node

PAUSE = Pause("p1", "ada", "wait a bit")
RESUME = Resume("r1", "bob", "on we go")


def test_attempts_in_flight_end_and_nothing_begins():
    """Their outcomes are recorded; the next step waits for the resume."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [done(after=1)]}).run(until=0.5)
    walk.say(PAUSE).run(until=100)
    assert walk.state.phase is RunPhase.PAUSED
    assert walk.states() == {"a": "SUCCEEDED", "b": "PENDING"}
    assert (decide(walk.state, walk.now), next_wake(walk.state)) == (None, None)
    walk.say(RESUME).run()
    assert walk.trace[-4:] == ["resumed", "start b 1", "b DONE SUCCEEDED", "run SUCCEEDED"]


def test_a_timer_that_comes_due_fires_after_the_resume():
    """Neither a wait nor a retry is lost, and none comes early."""
    retry = {"attempts": 2, "delay": "5s", "jitter": "none"}
    flow = flow_of(node("a", retry=retry), {"id": "w", "needs": [], "wait": {"for": "10s"}})
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), done()]}).run(until=1).say(PAUSE).run(until=60)
    assert walk.states() == {"a": "RETRYING", "w": "RUNNING"}
    walk.say(RESUME).run()
    assert walk.states() == {"a": "SUCCEEDED", "w": "SUCCEEDED"}
    assert walk.timed[-1][0] == 60


def test_a_run_in_quarantine_is_not_paused():
    """Nothing of it begins anyway; heard late, the pause would stop the run that was resumed."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [done(after=1)]}).run(until=0.5)
    walk.tell(ev.RunParked(ev.Failure("INTERNAL", Reason.QUARANTINED, "it kills"), walk.now))
    with pytest.raises(Refused) as refused:
        walk.say(PAUSE)
    assert refused.value.reason is Reason.QUARANTINED
    walk.say(RESUME).say(PAUSE)
    assert walk.state.phase is RunPhase.PAUSED


def test_no_clock_stops():
    """The total time of the flow goes on, and is over as soon as the run is resumed."""
    flow = flow_of({"id": "w", "wait": {"for": "40s"}}, policies={"timeout": "30s"})
    walk = Walk(flow).run(until=1).say(PAUSE).run(until=60)
    assert walk.state.finished is None
    walk.say(RESUME)
    assert walk.finished.failure.reason is Reason.TIMEOUT


def test_a_failure_meanwhile_is_seen_after_the_resume():
    """The run does not end behind the back of whoever paused it."""
    walk = Walk(flow_of(node("a")), {"a": [failed(after=1)]}).run(until=0.5).say(PAUSE).run(until=5)
    assert (walk.state.phase, walk.states()) == (RunPhase.PAUSED, {"a": "FAILED"})
    walk.say(RESUME)
    assert walk.finished.state is RunPhase.FAILED


def test_a_signal_is_kept_until_the_resume():
    """It came in time, so it is taken even when the wait's timeout has passed meanwhile."""
    walk = Walk(flow_of({"id": "w", "wait": {"signal": "go", "timeout": "30s"}})).run(until=1).say(PAUSE)
    walk.say(Signal("s1", "ada", "go", "", Json.of(1))).run(until=60)
    assert walk.states() == {"w": "RUNNING"}
    walk.say(RESUME)
    assert (walk.states(), walk.output("w")) == ({"w": "SUCCEEDED"}, 1)


def test_a_cancel_goes_over_a_pause():
    """Nobody need resume it first."""
    walk = Walk(flow_of({"id": "w", "wait": {"for": "1h"}})).run(until=1).say(PAUSE).cancel()
    assert walk.finished.state is RunPhase.CANCELED


def test_a_paused_run_is_not_paused_again():
    """And one that is not paused is not resumed; the same word again changes nothing."""
    walk = Walk(flow_of({"id": "w", "wait": {"for": "1h"}})).run(until=1)
    with pytest.raises(Refused) as refused:
        walk.say(RESUME)
    assert refused.value.reason is Reason.RUN_NOT_PAUSED
    walk.say(PAUSE).say(PAUSE)
    with pytest.raises(Refused, match="ada has paused") as refused:
        walk.say(Pause("p2", "bob", ""))
    assert refused.value.reason is Reason.RUN_PAUSED
    assert walk.trace.count("paused") == 1


def test_a_run_that_is_being_cancelled_cannot_be_paused():
    """It begins nothing anyway."""
    effects = {"a": EffectClass.AT_MOST_ONCE}
    walk = Walk(flow_of(node("a")), {"a": [done(after=9)]}, effects=effects).run(until=1).cancel()
    with pytest.raises(Refused) as refused:
        walk.say(PAUSE)
    assert refused.value.reason is Reason.RUN_FINISHED


def test_a_resume_gives_a_run_in_quarantine_another_chance():
    """It goes on where it stood."""
    walk = Walk(flow_of(node("a"))).tell(
        ev.RunParked(ev.Failure("INTERNAL", "QUARANTINED", "again and again"), Walk(flow_of(node("a"))).now)
    )
    assert walk.state.phase is RunPhase.PARKED
    walk.say(RESUME).run()
    assert walk.finished.state is RunPhase.SUCCEEDED


def test_a_takeover_leaves_a_paused_run_paused():
    """The attempt that was lost with its orchestrator is sent again after the resume."""
    effects = {"a": EffectClass.IDEMPOTENT}
    walk = (
        Walk(flow_of(node("a")), {"a": [ambiguous(after=9), done()]}, effects=effects).run(until=1).say(PAUSE)
    )
    heir = walk.crashed(after=1).run(until=100)
    assert (heir.state.phase, heir.states()) == (RunPhase.PAUSED, {"a": "RETRYING"})
    assert heir.say(RESUME).run().finished.state is RunPhase.SUCCEEDED
