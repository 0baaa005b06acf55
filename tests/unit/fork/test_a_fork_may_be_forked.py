"""What a fork has kept stands in the fork of the fork too, wherever it stood."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reflux.core.effect import EffectClass
from reflux.core.event import Choice
from reflux.core.fork import Why, plan_fork, plan_retry
from reflux.core.names import StepPath
from reflux.core.word import Overrule, WordId
from tests.support.walk import Answer, Walk, ambiguous, done, failed, flow_of, never, node
from tests.unit.fork.forks import begun, calls, forked, retried

if TYPE_CHECKING:
    from reflux.core.command import StartAttempt
    from reflux.core.flow import Flow

ACTING = {"pay": EffectClass.AT_MOST_ONCE}


def box(name: str, *steps: dict[str, object]) -> dict[str, object]:
    """A container that is always entered, in its first branch."""
    return {"id": name, "if": {"when": "{{ true }}", "then": list(steps), "else": [node(f"{name}_else")]}}


def test_steps_deep_inside_of_kept_containers_are_read_in_every_fork():
    """Also when it is the retry of a retry that reads them."""
    flow = flow_of(
        box("outer", box("inner", node("x"))),
        node("z", **{"with": {"n": "{{ steps.x.?output.?n ?? 'LOST' }}"}}),
    )
    origin = Walk(flow, {"x": [done({"n": 1})], "z": [failed()]}).run()
    for last in (forked(forked(origin, "z"), "z"), retried(retried(origin, {"z": [failed()]}))):
        assert calls(last) == ["z"]
        assert last.started[0].input.value == {"n": 1}
        assert last.states("x", "inner_else") == {"x": "SUCCEEDED", "inner_else": "SKIPPED"}


def test_an_effect_deep_inside_of_kept_containers_is_not_repeated():
    """A fork from a step beside it finds it; the plan names all that comes after."""
    flow = flow_of(box("outer", box("inner", node("pay"), node("tell"))), node("z"))
    fork = forked(Walk(flow, effects=ACTING).run(), "z")
    plan = plan_fork(fork.state, flow, StepPath("tell"))
    assert [each.step for each in plan.kept] == ["pay"]
    assert [each.step for each in plan.anew] == ["tell", "z"]
    assert calls(forked(fork, "tell")) == ["tell", "z"]


def test_a_step_of_a_kept_container_in_a_loop_stands_for_its_item():
    """The items around it are those around the container with which it came."""
    loop = {"in": "{{ input }}", "as": "item"}
    flow = flow_of({"id": "lines", "foreach": loop, "steps": [box("sale", node("pay"), node("tell"))]})
    fork = forked(Walk(flow, {}, ["x", "y"]).run(), "lines[1]/tell")
    assert calls(forked(fork, "lines[0]/tell")) == ["lines[0]/tell"]


def test_a_failure_that_no_handler_caught_is_not_kept_as_caught():
    """Of a kept `try` only those handlers were entered that had something to do, unless it ended well."""
    body = [node("bad", needs=[]), node("good", needs=[])]
    nothing = {"try": {"steps": body, "catch": [{"steps": []}], "finally": [node("close")]}}
    flow = flow_of({"id": "t", **nothing}, node("end"))
    fork = forked(Walk(flow, {"bad": [failed(after=1.0)]}).run(), "end")
    assert fork.state.steps[StepPath("t")].branches == (0, 2)
    assert calls(forked(fork, "close")) == ["close", "end"]

    passed = {"try": {"steps": body, "catch": [{"when": "{{ false }}", "steps": [node("h")]}]}}
    flow = flow_of({"id": "t", "on_error": "continue", **passed}, node("end"))
    fork = forked(Walk(flow, {"bad": [failed(after=1.0)]}).run(), "end")
    assert calls(forked(fork, "good")) == ["bad", "good", "end"]


def test_what_a_retry_had_not_come_to_is_handed_on():
    """It was cancelled before its first step: what the first run did stands in the next retry."""
    flow = flow_of(node("pay"), node("late"))
    origin = Walk(flow, {"late": [failed()]}, effects=ACTING).run()
    retry = begun(plan_retry(origin.state, flow), flow).cancel().run()
    assert calls(retry) == []
    plan = plan_retry(retry.state, flow)
    assert [(each.step, each.run_id) for each in plan.kept] == [("pay", origin.state.id)]
    assert plan.anew == ()
    assert calls(retried(retry)) == ["late"]


def test_iterations_that_a_retry_had_not_come_to_are_handed_on():
    """It failed at the first item again, before it entered the others."""

    def loop(parallel: int) -> Flow:
        each = {"in": ["a", "b", "c"], "as": "item", "parallel": parallel}
        return flow_of({"id": "lines", "foreach": each, "steps": [node("pay")]}, node("end"))

    def first_fails(command: StartAttempt) -> Answer:
        return failed(after=1.0) if command.step == "lines[0]/pay" else done()

    origin = Walk(loop(3), first_fails, effects=ACTING).run()
    again = retried(origin, first_fails, flow=loop(1))
    assert calls(again) == ["lines[0]/pay"]
    assert calls(retried(again, flow=loop(1))) == ["lines[0]/pay", "end"]


def test_what_comes_after_the_step_is_not_handed_on():
    """A fork of a retry that had not come to anything does it again, and says what may act twice."""
    flow = flow_of(node("a"), box("sale", node("pay")), node("look"), node("late"))
    origin = Walk(flow, {"late": [failed()]}, effects=ACTING).run()
    retry = begun(plan_retry(origin.state, flow), flow, {"a": [never()]})
    del retry.state.kept[StepPath("a")]  # it begins with a step that was not kept
    plan = plan_fork(retry.run(until=1).state, flow, StepPath("a"))
    assert plan.kept == ()
    assert {each.step: (each.why, each.acted) for each in plan.anew} == {
        "a": (Why.FROM, False),
        "sale": (Why.AFTER, False),
        "pay": (Why.AFTER, True),
        "look": (Why.AFTER, False),
    }


def test_the_plan_says_which_kept_effects_are_repeated():
    """Whether a step acted stands with its outcome; an older journal does not say so, and it may have."""
    flow = flow_of(node("a"), box("sale", node("pay")), node("look"), node("late"))
    fork = forked(Walk(flow, effects=ACTING).run(), "late")
    again = {each.step: each.acted for each in plan_fork(fork.state, flow, StepPath("sale")).anew}
    assert again == {"sale": False, "pay": True, "look": False, "late": False}
    for name, run in fork.state.steps.items():
        run.kept = None if name == "late" or run.kept is None else replace(run.kept, acted=None)
    again = {each.step: each.acted for each in plan_fork(fork.state, flow, StepPath("sale")).anew}
    assert again == {"sale": False, "pay": True, "look": True, "late": False}


def test_a_loop_that_was_kept_says_whether_its_iterations_acted():
    """They are left behind with it, and would be done again with it."""
    loop = {"in": ["x", "y"], "as": "item"}
    flow = flow_of(
        node("a"), {"id": "lines", "foreach": loop, "steps": [box("sale", node("pay"))]}, node("z")
    )
    fork = forked(Walk(flow, effects=ACTING).run(), "z")
    plan = plan_fork(fork.state, flow, StepPath("a"))
    assert {each.step: each.acted for each in plan.anew} == {"a": False, "lines": True, "z": False}


def test_what_a_person_skipped_may_have_acted():
    """After an attempt of which nobody knows: whoever goes on from before it is told so, in any fork."""
    flow = flow_of(node("a"), node("pay"), node("late"))
    origin = Walk(flow, {"pay": [ambiguous("x@1")]}, effects=ACTING).run()
    origin.say(Overrule(WordId("w"), "me", StepPath("pay"), Choice.SKIP, "")).run()
    assert origin.states("pay", "late") == {"pay": "SKIPPED", "late": "SUCCEEDED"}
    for walk in (origin, forked(origin, "late")):
        again = {each.step: each.acted for each in plan_fork(walk.state, flow, StepPath("a")).anew}
        assert again == {"a": False, "pay": True, "late": False}
        assert calls(forked(walk, "pay")) == ["pay", "late"]
