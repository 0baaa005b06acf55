"""`foreach`: the body once for each item, so many at a time, and one list of results in the items' order."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.core import containers, state
from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase, StepState
from reflux.core.reasons import Reason
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, node


def each(items: Any, *steps: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A foreach over `items`; keys of its action first, those of the step last."""
    action = {name: keys.pop(name) for name in ("parallel", "on_item_error") if name in keys}
    return {"id": "l", "foreach": {"in": items, "as": "it", **action}, "steps": list(steps), **keys}


def test_iterations_follow_each_other_and_see_their_item():
    """One at a time unless the flow says otherwise; the output is a list with a value per item."""
    body = node("a", **{"with": {"given": "{{ it }}", "at": "{{ index }}"}})
    walk = Walk(flow_of(each(["x", "y"], body, result="{{ steps.a.output.n + index }}"), node("z")))
    walk.answers = {"l[0]/a": [done({"n": 10})], "l[1]/a": [done({"n": 20})]}
    assert walk.run().trace == [
        "enter l []",
        "start l[0]/a 1",
        "l[0]/a DONE SUCCEEDED",
        "start l[1]/a 1",
        "l[1]/a DONE SUCCEEDED",
        "l SUCCEEDED",
        "start z 1",
        "z DONE SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert [command.input.value for command in walk.started[:2]] == [
        {"given": "x", "at": 0},
        {"given": "y", "at": 1},
    ]
    assert walk.output("l") == [10, 21]


def test_so_many_run_at_once_and_results_keep_the_order():
    """The second place is taken as soon as one is free; who is last to end is not last in the list."""
    walk = Walk(flow_of(each("{{ input.n }}", node("a"), parallel=2)), input={"n": [1, 2, 3]})
    slow, quick, last = done("slow", after=5), done("quick", after=1), done("last", after=1)
    walk.answers = {"l[0]/a": [slow], "l[1]/a": [quick], "l[2]/a": [last]}
    assert walk.run().timed == [
        (0, "enter l []"),
        (0, "start l[0]/a 1"),
        (0, "start l[1]/a 1"),
        (1, "l[1]/a DONE SUCCEEDED"),
        (1, "start l[2]/a 1"),
        (2, "l[2]/a DONE SUCCEEDED"),
        (5, "l[0]/a DONE SUCCEEDED"),
        (5, "l SUCCEEDED"),
        (5, "run SUCCEEDED"),
    ]
    assert walk.output("l") == ["slow", "quick", "last"]


def test_a_failed_item_fails_the_foreach_and_cancels_the_others():
    """What was not begun never begins."""
    walk = Walk(flow_of(each([1, 2, 3], node("a"), node("b"), parallel=2)))
    walk.answers = {"l[0]/a": [failed(after=1)], "l[1]/a": [done(after=9)]}
    assert walk.run().trace == [
        "enter l []",
        "start l[0]/a 1",
        "start l[1]/a 1",
        "l[0]/a NO_EFFECT FAILED",
        "l FAILED NODE_FAULT",
        "run FAILED",
    ]
    assert walk.states("l[0]/b", "l[1]/a", "l[1]/b") == dict.fromkeys(
        ("l[0]/b", "l[1]/a", "l[1]/b"), StepState.CANCELED
    )


def test_errors_of_items_can_be_collected():
    """The place of a failed item in the list holds its error, and the foreach has SUCCEEDED."""
    walk = Walk(flow_of(each([1, 2], node("a"), on_item_error="collect")))
    walk.answers = {"l[0]/a": [failed("NOT_FOUND")], "l[1]/a": [done({"n": 2})]}
    walk.run()
    assert walk.finished.state is RunPhase.SUCCEEDED
    assert walk.output("l") == [
        {
            "error": {
                "code": "NOT_FOUND",
                "reason": "NODE_FAULT",
                "message": "it says no",
                "retryable": False,
                "step": "l[0]/a",
                "outcome": "NO_EFFECT",
                "attempts": 1,
            }
        },
        {"n": 2},
    ]


def test_an_empty_list_gives_an_empty_list():
    """Nothing to do is done."""
    walk = Walk(flow_of(each([], node("a")))).run()
    assert walk.trace == ["enter l []", "l SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("l") == []


def test_loops_nest_and_each_iteration_sees_what_is_around_it():
    """Inner items shadow nothing: both names are there; a path says which iteration of which."""
    inner = {
        "id": "m",
        "foreach": {"in": "{{ it }}", "as": "sub"},
        "steps": [node("a", **{"with": {"s": "{{ [it[0], sub] }}"}})],
    }
    walk = Walk(flow_of(each([[1, 2], [3]], inner, result="{{ size(steps.m.output) }}"))).run()
    assert [command.step for command in walk.started] == ["l[0]/m[0]/a", "l[0]/m[1]/a", "l[1]/m[0]/a"]
    assert [command.input.value for command in walk.started] == [{"s": [1, 1]}, {"s": [1, 2]}, {"s": [3, 3]}]
    assert walk.output("l") == [2, 1]


@pytest.mark.parametrize(
    ("value", "kind"), [("text", "a string"), ({"a": 1}, "a map"), (None, "null"), (3, "an int")]
)
def test_what_is_no_list_fails_the_step_and_says_so(value, kind):
    """Nothing is begun."""
    walk = Walk(flow_of(each("{{ input.n }}", node("a"))), input={"n": value}).run()
    assert walk.started == []
    failure = walk.finished.failure
    assert failure is not None
    assert failure.reason is Reason.EXPRESSION_FAILED
    assert f"foreach goes through a list, not {kind}" in failure.message


def test_a_list_that_would_make_too_many_steps_is_refused_before_it_begins():
    """A run has a bound; the message names it, and what else counts: the loop itself is a step too."""
    walk = Walk(flow_of(each("{{ input.n }}", node("a"))), input={"n": [0] * 100_000}).run()
    assert walk.started == []
    failure = walk.finished.failure
    assert failure is not None
    assert failure.reason is Reason.LOOP_LIMIT
    message = "100000 items make 100000 steps, and the run has 1 besides; it may have at most 100000 in all"
    assert failure.message == message


def test_ten_thousand_items_are_walked_in_order():
    """The size that is promised; the journal alone gives the same run."""
    walk = Walk(
        flow_of(each("{{ input.n }}", {"id": "a", "set": {"n": "{{ it }}"}}, result="{{ steps.a.output.n }}"))
    )
    walk = Walk(walk.flow, input={"n": [*range(10_000)]}).run()
    assert walk.output("l") == [*range(10_000)]
    assert walk.replayed().steps["l"].output == walk.state.steps["l"].output


def test_a_cancel_ends_every_iteration_and_begins_none():
    """Pure calls are given up at once."""
    walk = Walk(flow_of(each([1, 2, 3], node("a"), parallel=2)), lambda _: done(after=9)).run(until=1)
    walk.cancel()
    assert [command.step for command in walk.started] == ["l[0]/a", "l[1]/a"]
    assert walk.finished.state is RunPhase.CANCELED


def test_an_item_whose_effect_nobody_knows_is_not_collected():
    """The run waits for a person, whatever `on_item_error` says."""
    walk = Walk(
        flow_of(each([1, 2], node("a"), on_item_error="collect")),
        {"l[0]/a": [ambiguous("pay@1")]},
        effects={"a": EffectClass.AT_MOST_ONCE},
    ).run()
    assert walk.state.phase is RunPhase.PARKED
    assert walk.state.unresolved_effects == ("l[0]/a",)


def test_an_iteration_is_given_what_it_reads_and_no_more():
    """A loop behind many steps costs what it uses, not a copy of all of them."""
    steps = [{"id": f"s{n}", "set": {"n": n}} for n in range(20)]
    loop = each(
        [1, 2], node("a", **{"with": {"n": "{{ steps.s7.output.n }}"}}), result="{{ steps.s3.output.n }}"
    )
    walk = Walk(flow_of(*steps, loop)).run()
    assert [command.input.value for command in walk.started] == [{"n": 7}, {"n": 7}]
    assert walk.output("l") == [3, 3]
    assert set(walk.state.shown["l[0]/"]) == {"s7", "s3", "a"}


def test_steps_in_branches_of_the_body_count_and_so_do_loops_beside(monkeypatch):
    """What a run may have is promised once, not to each loop again."""
    for module in (state, containers):
        monkeypatch.setattr(module, "MAX_STEP_RUNS", 100)
    branch = {"id": "i", "if": {"when": "{{ true }}", "then": [node("a")], "else": [node("b"), node("c")]}}
    walk = Walk(flow_of(each("{{ input.n }}", branch)), input={"n": [0] * 30}).run()
    assert walk.trace[0] == "l FAILED LOOP_LIMIT"
    beside = {"id": "m", "needs": [], "foreach": {"in": "{{ input.n }}", "as": "it"}, "steps": [node("x")]}
    walk = Walk(
        flow_of({**each("{{ input.n }}", node("a")), "needs": []}, beside), input={"n": [0] * 60}
    ).run()
    assert "m FAILED LOOP_LIMIT" in walk.trace
