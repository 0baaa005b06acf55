"""What a step asks of those it waited for: each join over success, failure and every kind of skip."""

from __future__ import annotations

import pytest

from tests.support.walk import Walk, failed, flow_of, node

ENDS = {
    "succeeded": node("a"),
    "failed": node("a", on_error="continue"),
    "when": node("a", when="{{ false }}"),
    "disabled": node("a", disabled=True),
    "join": node("a", needs=["seed"], join="one_failed"),
}
"""A step `a` for every way in which a step can end."""


def walk_to(end: str, join: str | None) -> Walk:
    """`seed` succeeds, `a` ends as named, `b` needs `a`."""
    first = dict(ENDS[end])
    first.setdefault("needs", [])
    last = node("b", needs=["a"], **({} if join is None else {"join": join}))
    answers = {"a": [failed()]} if end == "failed" else {}
    return Walk(flow_of(node("seed"), first, last), answers).run()


@pytest.mark.parametrize(
    ("join", "runs_after"),
    [
        (None, {"succeeded", "when", "disabled"}),
        ("all_success", {"succeeded", "when", "disabled"}),
        ("all_done", set(ENDS)),
        ("any_success", {"succeeded"}),
        ("one_failed", {"failed"}),
    ],
)
@pytest.mark.parametrize("end", ENDS)
def test_a_join_decides_by_how_the_step_before_ended(end, join, runs_after):
    """A skip that the author meant counts as success; one by a join passes the failure on."""
    walk = walk_to(end, join)
    expected = ["start b 1", "b DONE SUCCEEDED"] if end in runs_after else ["b SKIPPED join"]
    assert [line for line in walk.trace if " b " in f" {line} "] == expected
    assert walk.trace[-1] == "run SUCCEEDED"


@pytest.mark.parametrize(
    ("join", "runs"),
    [("all_success", False), ("all_done", True), ("any_success", True), ("one_failed", True)],
)
def test_a_join_looks_at_all_it_waited_for(join, runs):
    """One success and one failure: which joins let the step run."""
    flow = flow_of(
        node("a"), node("b", needs=[], on_error="continue"), node("c", needs=["a", "b"], join=join)
    )
    walk = Walk(flow, {"b": [failed()]}).run()
    assert walk.states("c") == {"c": "SUCCEEDED" if runs else "SKIPPED"}


def test_a_failure_travels_down_the_graph_by_joins():
    """What needs a step that was skipped by its join is skipped by its join, too, however far down."""
    flow = flow_of(
        node("a", on_error="continue"),
        node("b", needs=["a"]),
        node("c", needs=["b"]),
        node("rescue", needs=["a"], join="one_failed"),
    )
    walk = Walk(flow, {"a": [failed()]}).run()
    assert walk.trace == [
        "start a 1",
        "a NO_EFFECT FAILED",
        "b SKIPPED join",
        "start rescue 1",
        "c SKIPPED join",
        "rescue DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_list_order_asks_for_nothing_but_the_end():
    """The step after a failure that was let pass runs: list order is `all_done`."""
    walk = Walk(flow_of(node("a", on_error="continue"), node("b")), {"a": [failed()]}).run()
    assert walk.states() == {"a": "FAILED", "b": "SUCCEEDED"}


def test_a_join_is_asked_once_all_have_settled():
    """`any_success` does not run ahead of the slower step: joins say whether, never when."""
    flow = flow_of(node("a"), node("b", needs=[]), node("c", needs=["a", "b"], join="any_success"))
    walk = Walk(flow).run()
    assert walk.trace.index("start c 1") > walk.trace.index("b DONE SUCCEEDED")
