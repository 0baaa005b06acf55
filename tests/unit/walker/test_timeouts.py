"""Total times: of a container, and of the whole run. (A node step's own limits go with its attempts.)"""

from __future__ import annotations

from datetime import timedelta

import pytest

from reflux.core import event as ev
from reflux.core.effect import EffectClass
from reflux.core.event import Choice, RunPhase
from reflux.core.reasons import Reason
from reflux.core.run import evolve
from reflux.core.walker import next_wake
from reflux.core.word import Overrule, Resume
from tests.support.walk import START, Walk, ambiguous, done, failed, flow_of, never, node


def limited(seconds: str, branches: dict, **keys) -> dict:
    return {"id": "p", "timeout": {"total": seconds}, "parallel": {"branches": branches}, **keys}


def test_a_container_fails_when_its_time_is_over():
    """Not before, and no later than the walker is asked; pure attempts inside are dropped."""
    flow = flow_of(node("a"), limited("3s", {"l": [node("b"), node("c")]}), node("z"))
    walk = Walk(flow, {"a": [done(after=2)], "b": [never()]}).run()
    assert walk.timed == [
        (0, "start a 1"),
        (2, "a DONE SUCCEEDED"),
        (2, "enter p [0]"),
        (2, "start b 1"),
        (5, "timeout p"),
        (5, "p FAILED TIMEOUT"),
        (5, "run FAILED"),
    ]
    assert walk.states() == {
        "a": "SUCCEEDED",
        "p": "FAILED",
        "b": "CANCELED",
        "c": "CANCELED",
        "z": "CANCELED",
    }
    failure = walk.finished.failure
    assert (failure.code, failure.reason, failure.step) == ("DEADLINE_EXCEEDED", "TIMEOUT", "p")


def test_a_timeout_is_a_failure_like_any_other():
    """`on_error: continue` lets it pass."""
    flow = flow_of(limited("3s", {"l": [node("b")]}, on_error="continue"), node("z"))
    walk = Walk(flow, {"b": [never()]}).run()
    assert walk.trace[-4:] == ["p FAILED TIMEOUT", "start z 1", "z DONE SUCCEEDED", "run SUCCEEDED"]


def test_a_container_that_is_in_time_hears_nothing_of_it():
    """Its timer goes with it."""
    walk = Walk(flow_of(limited("3s", {"l": [node("b")]}), node("z")), {"z": [done(after=60)]}).run()
    assert "timeout p" not in walk.trace
    assert walk.finished.state is RunPhase.SUCCEEDED


def test_an_attempt_that_may_act_is_waited_for():
    """The container fails once its outcome is known; its answer stands."""
    flow = flow_of(limited("3s", {"l": [node("pay")], "r": [node("b")]}))
    answers = {"pay": [done(after=9)], "b": [never()]}
    walk = Walk(flow, answers, effects={"pay": EffectClass.AT_MOST_ONCE}).run()
    assert walk.timed[3:] == [
        (3, "timeout p"),
        (9, "pay DONE SUCCEEDED"),
        (9, "p FAILED TIMEOUT"),
        (9, "run FAILED"),
    ]


def test_a_wait_for_a_retry_does_not_outlive_the_container():
    """The retry never starts."""
    retry = {"attempts": 2, "delay": "9s", "jitter": "none"}
    walk = Walk(flow_of(limited("3s", {"l": [node("b", retry=retry)]})), {"b": [failed("UNAVAILABLE")]}).run()
    assert walk.timed[-3:] == [(3, "timeout p"), (3, "p FAILED TIMEOUT"), (3, "run FAILED")]


def test_a_retry_due_at_the_very_moment_does_not_start():
    """The limit is over when it is reached."""
    retry = {"attempts": 2, "delay": "3s", "jitter": "none"}
    walk = Walk(flow_of(limited("3s", {"l": [node("b", retry=retry)]})), {"b": [failed("UNAVAILABLE")]}).run()
    assert walk.trace[-3:] == ["timeout p", "p FAILED TIMEOUT", "run FAILED"]


def test_the_run_fails_when_its_time_is_over():
    """Counted from its acceptance; everything in it ends."""
    flow = flow_of(node("a"), limited("1h", {"l": [node("b")]}), node("z"), policies={"timeout": "10s"})
    walk = Walk(flow, {"a": [done(after=4)], "b": [never()]}).run()
    assert walk.timed[-2:] == [(10, "timeout"), (10, "run FAILED")]
    assert walk.states() == {"a": "SUCCEEDED", "p": "CANCELED", "b": "CANCELED", "z": "CANCELED"}
    failure = walk.finished.failure
    assert (failure.reason, failure.step) == ("TIMEOUT", "")
    assert failure.message == "the total time of the flow is over"


def test_the_outer_limit_goes_first():
    """Both are over when the walker is asked: the run ends, the container is not asked."""
    flow = flow_of(limited("3s", {"l": [node("b")]}), policies={"timeout": "3s"})
    assert Walk(flow, {"b": [never()]}).run().trace[-2:] == ["timeout", "run FAILED"]


def test_no_timeout_fires_over_a_parked_step():
    """Neither its container's nor the run's: only a person ends that."""
    flow = flow_of(limited("3s", {"l": [node("pay")]}), policies={"timeout": "10s"})
    answers = {"pay": [ambiguous("pay@1", after=1)]}
    walk = Walk(flow, answers, effects={"pay": EffectClass.AT_MOST_ONCE}).run()
    assert walk.trace[-1] == "pay AMBIGUOUS PARKED"
    assert walk.state.phase is RunPhase.PARKED


def decided(walk: Walk, choice: str) -> Walk:
    return walk.say(Overrule("d1", "ada", "pay", Choice(choice), "I asked them")).run()


@pytest.mark.parametrize("choice", ["confirm", "skip", "retry"])
def test_the_clock_stands_while_a_step_is_parked(choice):
    """After the decision its container and the run have the time that they had left, and not less."""
    branch = [node("pay"), node("b")]
    flow = flow_of(limited("3s", {"l": branch}, on_error="continue"), node("z"), policies={"timeout": "10s"})
    answers = {"pay": [ambiguous("pay@1", after=1), done()], "b": [never()], "z": [never()]}
    walk = Walk(flow, answers, effects={"pay": EffectClass.AT_MOST_ONCE}).run()
    walk.now = START + timedelta(hours=1)
    assert next_wake(walk.state) is None
    decided(walk, choice)
    late = [(at - 3600, line) for at, line in walk.timed if "timeout" in line or line == "start z 1"]
    assert late == [(2, "timeout p"), (2, "start z 1"), (9, "timeout")]
    again = walk.replayed()
    assert (again.deadlines, again.stopped) == (walk.state.deadlines, walk.state.stopped)


def test_the_clock_goes_on_with_the_last_of_several_decisions():
    """As long as one step inside is PARKED no time passes for what is around it; none is given twice."""
    flow = flow_of(node("a", needs=[]), node("pay", needs=[]), policies={"timeout": "10s"})
    answers = {"a": [ambiguous("a@1", after=1), never()], "pay": [ambiguous("pay@1", after=3)]}
    effects = dict.fromkeys(("a", "pay"), EffectClass.AT_MOST_ONCE)
    walk = Walk(flow, answers, effects=effects).run()
    walk.now = START + timedelta(seconds=100)
    walk.say(Overrule("d2", "ada", "a", Choice.RETRY, ""))
    assert next_wake(walk.state) is None
    walk.now = START + timedelta(seconds=200)
    decided(walk, "confirm")
    assert (209, "timeout") in walk.timed


def test_the_clock_stands_while_a_run_is_in_quarantine():
    """It is PARKED for another reason: who gives it another chance gives it the time that was left."""
    flow = flow_of(node("a"), limited("20s", {"l": [node("b")]}, needs=[]), policies={"timeout": "10s"})
    walk = Walk(flow, {"a": [never()], "b": [never()]}).run(until=4)
    failure = ev.Failure("INTERNAL", Reason.QUARANTINED, "it kills")
    evolve(walk.state, ev.RunParked(failure, walk.now))
    walk.now = START + timedelta(hours=1)
    assert next_wake(walk.state) is None
    walk.say(Resume("r1", "ada", ""))
    assert next_wake(walk.state) == walk.now + timedelta(seconds=6)
    assert walk.state.deadlines["p"] == walk.now + timedelta(seconds=16)


def test_a_parked_step_elsewhere_stops_no_timeout():
    """Only the containers around it, and the run, wait with it."""
    flow = flow_of(node("pay"), limited("3s", {"l": [node("b")]}, needs=[], on_error="continue"))
    answers = {"pay": [ambiguous("pay@1")], "b": [never()]}
    walk = Walk(flow, answers, effects={"pay": EffectClass.AT_MOST_ONCE}).run()
    assert walk.timed[-2:] == [(3, "timeout p"), (3, "p FAILED TIMEOUT")]
    assert walk.state.phase is RunPhase.PARKED


def test_the_next_wake_is_the_earliest_timer():
    """Of retries and limits; the walker has nothing to say before it."""
    retry = {"attempts": 2, "delay": "5s", "jitter": "none"}
    flow = flow_of(limited("1m", {"l": [node("b", retry=retry)]}), policies={"timeout": "1h"})
    walk = Walk(flow, {"b": [failed("UNAVAILABLE"), never()]})
    walk.run(until=1)
    assert (next_wake(walk.state) - START).total_seconds() == 5
    walk.run(until=6)
    assert (next_wake(walk.state) - START).total_seconds() == 60


def test_what_was_done_in_time_is_not_undone_by_who_finds_it_late():
    """The outcome was recorded before the deadline; the orchestrator died before it drew the conclusion."""
    flow = flow_of(node("a"), policies={"timeout": "5s"})
    walk = Walk(flow, {"a": [done(after=1)]}).run()
    heir = walk.crashed(keep=3, after=10).run()
    assert heir.trace == ["recovered", "run SUCCEEDED"]
