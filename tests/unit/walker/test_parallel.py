"""`parallel`: all branches at once, and one output by branch."""

from __future__ import annotations

from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, node


def both(left: list[dict[str, object]], right: list[dict[str, object]]) -> dict[str, object]:
    """Two branches."""
    return {"id": "p", "parallel": {"branches": {"l": left, "r": right}}}


def test_branches_run_side_by_side_and_are_waited_for():
    """The step after starts when the slowest branch is through."""
    flow = flow_of(both([node("l1"), node("l2")], [node("r1")]), node("z"))
    walk = Walk(
        flow, {"l1": [done(after=1)], "l2": [done({"n": 1}, after=1)], "r1": [done({"n": 2}, after=5)]}
    )
    assert walk.run().timed == [
        (0, "enter p [0, 1]"),
        (0, "start l1 1"),
        (0, "start r1 1"),
        (1, "l1 DONE SUCCEEDED"),
        (1, "start l2 1"),
        (2, "l2 DONE SUCCEEDED"),
        (5, "r1 DONE SUCCEEDED"),
        (5, "p SUCCEEDED"),
        (5, "start z 1"),
        (5, "z DONE SUCCEEDED"),
        (5, "run SUCCEEDED"),
    ]
    assert walk.output("p") == {"l": {"n": 1}, "r": {"n": 2}}


def test_an_empty_branch_gives_null():
    """It has nothing to wait for."""
    walk = Walk(flow_of(both([node("a")], [])), {"a": [done({"n": 1})]}).run()
    assert walk.trace == [
        "enter p [0, 1]",
        "start a 1",
        "a DONE SUCCEEDED",
        "p SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("p") == {"l": {"n": 1}, "r": None}


def test_parallel_of_empty_branches_settles_at_once():
    """Nothing to do is done."""
    walk = Walk(flow_of(both([], []))).run()
    assert walk.trace == ["enter p [0, 1]", "p SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("p") == {"l": None, "r": None}


def test_parallel_nests():
    """Outputs nest as the branches do."""
    inner = {"id": "q", "parallel": {"branches": {"x": [{"id": "qx", "set": {"n": 1}}], "y": [node("qy")]}}}
    walk = Walk(flow_of(both([inner], [node("r")])), {"qy": [done({"n": 2})], "r": [done({"n": 3})]}).run()
    assert walk.trace == [
        "enter p [0, 1]",
        "enter q [0, 1]",
        "start r 1",
        "qx SUCCEEDED",
        "start qy 1",
        "r DONE SUCCEEDED",
        "qy DONE SUCCEEDED",
        "q SUCCEEDED",
        "p SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("p") == {"l": {"x": {"n": 1}, "y": {"n": 2}}, "r": {"n": 3}}


def race(join: object, **branches: list[dict[str, object]]) -> dict[str, object]:
    """Branches of which `join` must succeed."""
    return {"id": "p", "parallel": {"branches": branches, "join": join}}


def test_any_is_over_with_the_first_branch_that_succeeds():
    """The losers are cancelled, and give null."""
    walk = Walk(flow_of(race("any", l=[node("a"), node("b")], r=[node("c")]), node("z")))
    walk.answers = {"a": [done(after=9)], "c": [done({"n": 1}, after=1)]}
    assert walk.run().timed == [
        (0, "enter p [0, 1]"),
        (0, "start a 1"),
        (0, "start c 1"),
        (1, "c DONE SUCCEEDED"),
        (1, "p SUCCEEDED"),
        (1, "start z 1"),
        (1, "z DONE SUCCEEDED"),
        (1, "run SUCCEEDED"),
    ]
    assert walk.output("p") == {"l": None, "r": {"n": 1}}
    assert walk.states("a", "b") == {"a": "CANCELED", "b": "CANCELED"}


def test_a_failed_branch_does_not_end_a_race_that_others_may_win():
    """It is one that cannot win any more."""
    walk = Walk(flow_of(race("any", l=[node("a")], r=[node("c")])))
    walk.answers = {"a": [failed()], "c": [done(after=5)]}
    assert walk.run().trace[-2:] == ["p SUCCEEDED", "run SUCCEEDED"]


def test_a_race_that_nobody_can_win_has_failed():
    """With the failure that decided it; who is still running is cancelled."""
    walk = Walk(flow_of(race(2, l=[node("a")], m=[node("b")], r=[node("c")])))
    walk.answers = {
        "a": [failed("NOT_FOUND", after=1)],
        "b": [failed("ABORTED", after=2)],
        "c": [done(after=9)],
    }
    assert walk.run().timed[-2:] == [(2, "p FAILED NODE_FAULT"), (2, "run FAILED")]
    assert walk.finished.failure is not None
    assert walk.finished.failure.code == "ABORTED"


def test_a_race_is_not_over_while_a_loser_may_be_acting():
    """An effect in flight is waited for; one that nobody knows is left to a person."""
    flow = flow_of(race("any", l=[node("a")], r=[node("c")]))
    effects = {"a": EffectClass.AT_MOST_ONCE}
    walk = Walk(flow, {"a": [done(after=9, claimed_by="x@1")], "c": [done(after=1)]}, effects=effects)
    assert walk.run().timed[-2:] == [(9, "p SUCCEEDED"), (9, "run SUCCEEDED")]
    walk = Walk(flow, {"a": [ambiguous("x@1", after=9)], "c": [done(after=1)]}, effects=effects).run()
    assert walk.state.phase is RunPhase.PARKED


def test_a_loser_gives_null_also_when_its_last_step_was_done():
    """Only a branch that succeeded has a say."""
    loser = [{**node("y1"), "needs": []}, {**node("y2"), "needs": []}]
    walk = Walk(flow_of(race("any", l=[node("x")], r=loser)))
    walk.answers = {"x": [done({"w": 1}, after=2)], "y1": [done(after=9)], "y2": [done({"l": 1})]}
    assert walk.run().output("p") == {"l": {"w": 1}, "r": None}
