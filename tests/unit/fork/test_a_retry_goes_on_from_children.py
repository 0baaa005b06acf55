"""A retry hands on the runs that its steps had begun, where what they did stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from reflux.core.children import finished
from reflux.core.errors import Refused
from reflux.core.event import RunPhase
from reflux.core.fork import ForkPlan, Why, plan_fork, plan_retry
from reflux.core.left import Left
from reflux.core.names import StepPath
from reflux.core.origin import Operation
from reflux.core.reasons import Reason
from reflux.core.run import begin
from reflux.core.word import Terminate, WordId
from tests.support.walk import RUN, Answer, Walk, created, done, failed, flow_of, never, node, not_sent

if TYPE_CHECKING:
    from reflux.core.flow import Flow

UNDO = {"compensate": {"node": "undo", "with": {}}}
C = StepPath("c")


def sub(name: str = "c", given: Any = None) -> dict[str, Any]:
    """A step that begins a run."""
    return {"id": name, "flow": "inner", "with": {"n": 1} if given is None else given}


def retry_of(origin: Walk, **runs: Any) -> Walk:
    """The retry, begun an hour later with all that its journal says."""
    flow, plan = origin.flow, plan_retry(origin.state, origin.flow)
    walk = Walk(flow, {}, origin.input, runs=runs, now=origin.now + timedelta(hours=1))
    first = replace(created(flow, origin.input), origin=plan.begins(Operation.RETRY, origin.state))
    walk.state, walk.journal = begin(RUN, flow, first), [first]
    for event in plan.kept:
        walk.tell(event)
    return walk


def anew(plan: ForkPlan) -> dict[str, tuple[Why, bool]]:
    """What the plan says of each step that is done anew."""
    return {each.step: (each.why, each.acted) for each in plan.anew}


def test_a_step_goes_on_from_the_run_it_had_begun():
    """The journal of the retry names it; a fork from the step does all of it again."""
    flow = flow_of(sub(), node("z"))
    origin = Walk(flow, runs={"c": failed()}).run()
    plan = plan_retry(origin.state, flow)
    assert plan.children[C].run_id == origin.state.steps[C].child
    assert plan.begins(Operation.RETRY, origin.state).children == plan.children
    assert plan_fork(origin.state, flow, C).children == {}


def test_the_run_is_handed_on_until_there_is_another_one():
    """Over a retry whose child was refused, and one that was cancelled before it came to the step."""
    flow = flow_of(sub(), node("z"))
    origin = Walk(flow, runs={"c": failed()}).run()
    former = plan_retry(origin.state, flow).children
    refused = retry_of(origin, c=not_sent()).run()
    plan = plan_retry(refused.state, flow)
    assert (plan.children, anew(plan)) == (former, {"c": (Why.FROM, True)})
    assert anew(plan_fork(refused.state, flow, C)) == {"c": (Why.FROM, True)}

    before = retry_of(refused).cancel().run()
    plan = plan_retry(before.state, flow)
    assert (plan.children, anew(plan)) == (former, {"c": (Why.FROM, True)})

    begun = retry_of(before, c=failed()).run()
    plan = plan_retry(begun.state, flow)
    assert plan.children[C].run_id == begun.state.steps[C].child != former[C].run_id
    well = retry_of(begun, c=done()).run()
    assert plan_fork(well.state, flow, StepPath("z")).children == {}


def test_a_step_that_stands_on_what_is_done_anew_begins_from_nothing():
    """After a step that was undone, or another one that failed: it is no point to go on from."""
    flow = flow_of(node("reserve", **UNDO), sub())
    plan = plan_retry(Walk(flow, runs={"c": failed()}).run().state, flow)
    assert (plan.points, plan.children) == (("reserve",), {})
    assert anew(plan) == {"reserve": (Why.UNDONE, False), "c": (Why.AFTER, True)}

    flow = flow_of({"id": "t", "try": {"steps": [node("a")], "finally": [sub()]}})
    plan = plan_retry(Walk(flow, {"a": [failed()]}, runs={"c": failed()}).run().state, flow)
    assert (plan.points, plan.children) == (("a",), {})
    assert anew(plan) == {"a": (Why.FROM, False), "c": (Why.AFTER, True)}


def test_a_step_that_is_given_something_else_begins_from_nothing():
    """By another version of the flow: another input, another item, a step that begins no run any more."""

    def flow(items: list[str], step: dict[str, Any]) -> Flow:
        return flow_of({"id": "lines", "foreach": {"in": items, "as": "it"}, "steps": [step]})

    asked = {"n": "{{ it }}", "who": "{{ run.id }}", "try": "{{ run.attempt }}", "v": "{{ flow.version }}"}
    origin = Walk(flow(["a", "b"], sub("c", asked)), runs={"lines[0]/c": failed()}).run()
    for target, same in (
        (origin.flow, True),
        (flow(["a", "c"], sub("c", asked)), True),
        (flow(["z", "a", "b"], sub("c", asked)), False),
        (flow([], sub("c", asked)), False),
        (flow(["a", "b"], sub("c", {**asked, "more": 1})), False),
        (flow(["a", "b"], sub("c", {"n": "{{ it.no }}"})), False),
        (flow(["a", "b"], node("c")), False),
    ):
        plan = plan_retry(origin.state, target)
        assert list(plan.children) == (["lines[0]/c"] if same else [])
        assert anew(plan) == {"lines[0]/c": (Why.FROM, True)}


def test_what_nobody_knows_below_a_step_is_not_repeated_unasked():
    """Where its run is begun from nothing, that would do so."""
    flow = flow_of(node("reserve", **UNDO), sub())
    origin = Walk(flow, {"reserve": [done()]}, runs={"c": never()}).run(until=1)
    child, left = origin.state.child_runs[C], Left((StepPath("pay"),))
    for event in finished(origin.state, C, child, RunPhase.FAILED, origin.now, left=left):
        origin.tell(event)
    origin.run()
    assert origin.finished.unresolved_effects == ("c/pay",)
    with pytest.raises(Refused) as refused:
        plan_retry(origin.state, flow)
    assert refused.value.reason is Reason.STEP_UNRESOLVED


def test_what_a_step_was_about_to_begin_may_be_there():
    """The retry was ended before it knew: going on from the run of the first may do its work twice."""
    flow = flow_of(sub(), node("z"))
    again = retry_of(Walk(flow, runs={"c": failed()}).run(), c=never())
    again.tell().say(Terminate(WordId("w"), "me", ""))
    assert again.finished.unresolved_effects == ("c",)
    with pytest.raises(Refused) as refused:
        plan_retry(again.state, flow)
    assert refused.value.reason is Reason.STEP_UNRESOLVED
    assert anew(plan_fork(again.state, flow, C)) == {"c": (Why.FROM, True)}


def left_unknown(end: Answer) -> tuple[Flow, Walk]:
    """A run whose step had begun one that left an effect of which nobody knows; its failure was caught."""
    body = [sub(), node("beside", needs=[])]
    flow = flow_of({"id": "t", "try": {"steps": body, "catch": [{"steps": [node("h")]}]}}, node("z"))
    origin = Walk(flow, {"z": [end]}, runs={"c": never()}).run(until=1)
    child, left = origin.state.child_runs[C], Left((StepPath("pay"),))
    for event in finished(origin.state, C, child, RunPhase.CANCELED, origin.now, left=left):
        origin.tell(event)
    return flow, origin.run()


def test_what_nobody_knows_below_a_step_stands_with_the_container_around_it():
    """Nothing of it is repeated, so nobody is refused; whoever would begin it again is told from where."""
    flow, origin = left_unknown(failed())
    assert origin.finished.unresolved_effects == ("c/pay",)
    assert anew(plan_retry(origin.state, flow)) == {"z": (Why.FROM, False)}
    assert anew(plan_fork(origin.state, flow, StepPath("z"))) == {"z": (Why.FROM, False)}
    with pytest.raises(Refused, match=r"step c/pay .* fork from c if"):
        plan_fork(origin.state, flow, StepPath("beside"))
    assert anew(plan_fork(origin.state, flow, C))["c"] == (Why.FROM, True)


def test_what_nobody_knows_below_a_step_stands_with_a_run_that_succeeded_too():
    """The failure was caught: a fork that would begin the run again unasked is refused."""
    flow, origin = left_unknown(done())
    assert (origin.finished.state, origin.finished.unresolved_effects) == ("SUCCEEDED", ("c/pay",))
    with pytest.raises(Refused, match=r"step c/pay .* fork from c if") as refused:
        plan_fork(origin.state, flow, StepPath("beside"))
    assert refused.value.reason is Reason.STEP_UNRESOLVED
    assert anew(plan_fork(origin.state, flow, C))["c"] == (Why.FROM, True)
