"""What a fork has kept stands in the fork of the fork too, wherever it stood."""

from __future__ import annotations

from reflux.core.effect import EffectClass
from reflux.core.fork import plan_fork
from reflux.core.names import StepPath
from tests.support.walk import Walk, done, failed, flow_of, node
from tests.unit.fork.forks import calls, forked, retried


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
    effects = {"pay": EffectClass.AT_MOST_ONCE}
    fork = forked(Walk(flow, effects=effects).run(), "z")
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
