"""What each step waits for, with which join: list order, `needs`, and containers."""

from __future__ import annotations

import pytest

from reflux.core.flow import IfAction, Join, ParallelAction, SwitchAction, branches_of, compile_flow


def flow_of(*steps):
    result = compile_flow({"name": "order", "spec": {"steps": list(steps)}})
    assert result.problems == ()
    return result.flow


def node(step_id, **keys):
    return {"id": step_id, "node": "x", **keys}


def test_a_step_without_needs_waits_for_the_one_before_it_in_order_only():
    """List order is `all_done`: it says when, not whether."""
    flow = flow_of(node("a"), node("b"), node("c"))
    assert {path: step.after for path, step in flow.steps.items()} == {"a": (), "b": ("a",), "c": ("b",)}
    assert {step.join for step in flow.steps.values()} == {Join.ALL_DONE}
    assert flow.steps["a"].dependants == ("b",)


def test_needs_replace_list_order_and_ask_for_success():
    """Steps may be named before or after in the list; `needs: []` waits for nothing."""
    flow = flow_of(
        node("a", needs=["c"]), node("b", needs=[]), node("c", needs=["b"]), node("d", needs=["a", "b"])
    )
    assert {path: step.after for path, step in flow.steps.items()} == {
        "a": ("c",),
        "b": (),
        "c": ("b",),
        "d": ("a", "b"),
    }
    assert {step.join for step in flow.steps.values()} == {Join.ALL_SUCCESS}
    assert flow.steps["b"].dependants == ("c", "d")


@pytest.mark.parametrize("join", list(Join))
def test_a_join_that_is_written_counts_in_either_order(join):
    """`join` speaks about whatever the step waits for."""
    flow = flow_of(node("a"), node("b", join=join.value), node("c", needs=["a"], join=join.value))
    assert flow.steps["b"].join is flow.steps["c"].join is join


def test_containers_hold_scopes_and_order_runs_around_them():
    """Steps of a branch wait for each other; what follows the container waits for the container."""
    flow = flow_of(
        node("a"),
        {"id": "i", "if": {"when": "{{ input.x }}", "then": [node("t1"), node("t2")]}},
        {"id": "s", "switch": [{"when": "{{ input.y }}", "steps": [node("y")]}, {"else": [node("e")]}]},
        {"id": "p", "parallel": {"branches": {"l": [node("l1")], "r": []}, "join": "all"}},
        node("z"),
    )
    assert list(flow.steps) == ["a", "i", "t1", "t2", "s", "y", "e", "p", "l1", "z"]
    assert list(flow.scopes) == ["", "i/0", "i/1", "s/0", "s/1", "p/0", "p/1"]
    assert flow.root.steps == ("a", "i", "s", "p", "z")
    assert flow.root.last == "z"
    assert flow.steps["t2"].after == ("t1",)
    assert flow.steps["t1"].after == ()
    assert flow.steps["z"].after == ("p",)
    assert (flow.steps["e"].parent, flow.steps["e"].branch, flow.steps["e"].scope) == ("s", 1, "s/1")
    actions = [flow.steps[path].action for path in ("i", "s", "p")]
    assert [type(action) for action in actions] == [IfAction, SwitchAction, ParallelAction]
    assert [tuple(scope.steps for scope in branches_of(action)) for action in actions] == [
        (("t1", "t2"), ()),
        (("y",), ("e",)),
        (("l1",), ()),
    ]
    assert actions[1].conditions[1] is None
    assert actions[2].names == ("l", "r")
    assert all(flow.scopes[scope.id] is scope for action in actions for scope in branches_of(action))


def test_pointers_lead_into_the_document():
    """A step knows where it stands in what the author wrote."""
    flow = flow_of({"id": "p", "parallel": {"branches": {"l": [node("a")]}}})
    assert flow.steps["a"].pointer == "/spec/steps/0/parallel/branches/l/0"
