"""`if` and `switch`: one branch is taken, the others are skipped, the branch's last output is the step's."""

from __future__ import annotations

import pytest

from reflux.core.event import SkipReason
from tests.support.walk import Walk, done, flow_of, node

FORK = {
    "id": "fork",
    "if": {"when": "{{ input.yes }}", "then": [node("t1"), node("t2")], "else": [node("e")]},
}
ROADS = {
    "id": "roads",
    "switch": [
        {"when": "{{ input.n > 10 }}", "steps": [node("many")]},
        {"when": "{{ input.n > 5 }}", "steps": [node("some")]},
        {"else": [node("few")]},
    ],
}


def test_if_takes_then_when_its_condition_holds():
    """The steps of `else` are skipped as steps of a branch not taken."""
    walk = Walk(flow_of(FORK), {"t2": [done({"by": "t2"})]}, {"yes": True}).run()
    assert walk.trace == [
        "enter fork [0]",
        "start t1 1",
        "t1 DONE SUCCEEDED",
        "start t2 1",
        "t2 DONE SUCCEEDED",
        "fork SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("fork") == {"by": "t2"}
    assert walk.states("e") == {"e": "SKIPPED"}
    assert walk.state.steps["e"].skip_reason is SkipReason.BRANCH


def test_if_takes_else_when_its_condition_does_not_hold():
    """And then it skips `then`."""
    walk = Walk(flow_of(FORK), {"e": [done({"by": "e"})]}, {"yes": False}).run()
    assert walk.trace == [
        "enter fork [1]",
        "start e 1",
        "e DONE SUCCEEDED",
        "fork SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("fork") == {"by": "e"}
    assert walk.states("t1", "t2") == {"t1": "SKIPPED", "t2": "SKIPPED"}


def test_if_without_else_gives_null_when_nothing_is_to_be_done():
    """An empty branch settles at once."""
    walk = Walk(flow_of({"id": "fork", "if": {"when": "{{ false }}", "then": [node("t")]}})).run()
    assert walk.trace == ["enter fork [1]", "fork SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("fork") is None


@pytest.mark.parametrize(("n", "taken", "branch"), [(11, "many", 0), (6, "some", 1), (5, "few", 2)])
def test_switch_takes_the_first_case_that_holds(n, taken, branch):
    """Later cases are not even asked; `else` holds when nothing else did."""
    walk = Walk(flow_of(ROADS), {taken: [done({"by": taken})]}, {"n": n}).run()
    assert walk.trace == [
        f"enter roads [{branch}]",
        f"start {taken} 1",
        f"{taken} DONE SUCCEEDED",
        "roads SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("roads") == {"by": taken}
    others = {"many", "some", "few"} - {taken}
    assert set(walk.states(*others).values()) == {"SKIPPED"}


def test_switch_without_a_case_that_holds_enters_no_branch():
    """It succeeds with null, and everything inside is skipped."""
    flow = flow_of({"id": "roads", "switch": [{"when": "{{ false }}", "steps": [node("a")]}]})
    walk = Walk(flow).run()
    assert walk.trace == ["enter roads []", "roads SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("roads") is None
    assert walk.states("a") == {"a": "SKIPPED"}


def test_a_case_after_the_one_that_holds_is_not_evaluated():
    """A condition that could not be evaluated does no harm behind one that holds."""
    flow = flow_of(
        {
            "id": "roads",
            "switch": [
                {"when": "{{ true }}", "steps": []},
                {"when": "{{ input.missing > 1 }}", "steps": [node("a")]},
            ],
        }
    )
    assert Walk(flow).run().trace == ["enter roads [0]", "roads SUCCEEDED", "run SUCCEEDED"]


def test_branches_nest():
    """The innermost output comes out through every level; skipped branches are skipped at every depth."""
    inner = {
        "id": "inner",
        "switch": [{"when": "{{ true }}", "steps": [node("deep")]}, {"else": [node("no")]}],
    }
    flow = flow_of(
        {"id": "outer", "if": {"when": "{{ true }}", "then": [inner], "else": [dict(FORK)]}},
        {"id": "after", "set": {"got": "{{ steps.outer.output }}", "e": "{{ steps.e.state }}"}},
    )
    walk = Walk(flow, {"deep": [done({"n": 1})]}).run()
    assert walk.trace == [
        "enter outer [0]",
        "enter inner [0]",
        "start deep 1",
        "deep DONE SUCCEEDED",
        "inner SUCCEEDED",
        "outer SUCCEEDED",
        "after SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("after") == {"got": {"n": 1}, "e": "SKIPPED"}


def test_a_branch_whose_last_step_was_skipped_gives_null():
    """The output is the last step's in list order, not the last there was."""
    flow = flow_of(
        {"id": "fork", "if": {"when": "{{ true }}", "then": [node("a"), node("b", when="{{ false }}")]}}
    )
    walk = Walk(flow, {"a": [done({"n": 1})]}).run()
    assert walk.output("fork") is None
