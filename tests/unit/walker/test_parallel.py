"""`parallel`: all branches at once, and one output by branch."""

from __future__ import annotations

from tests.support.walk import Walk, done, flow_of, node


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
