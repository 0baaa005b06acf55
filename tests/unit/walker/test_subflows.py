"""Sub-flows: a step begins a run once, waits for it, and takes its end as its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reflux.core import children
from reflux.core import event as ev
from reflux.core.children import MAX_DEPTH, child_id
from reflux.core.effect import EffectClass
from reflux.core.errors import Refused
from reflux.core.event import Choice, RunPhase
from reflux.core.flow.subflows import FAILURE_INPUT
from reflux.core.reasons import Reason
from reflux.core.run import begin
from reflux.core.walker import decide
from reflux.core.word import Overrule, Terminate, WordId, hear
from reflux.orchestrator.resting import rests
from tests.support.walk import RUN, START, Walk, created, done, failed, flow_of, never, node, not_sent

CHILD = child_id(RUN, "sub", 0, START)
BAD = {"id": "bad", "fail": {"message": "no"}}


def sub(**keys):
    """A step that begins a run of `other`."""
    return {"id": "sub", "flow": "other", **keys}


def test_a_step_waits_for_its_child_and_gives_what_that_gave():
    """Asked for, begun, finished; in between the run is RUNNING and has nothing to do."""
    flow = flow_of(sub(**{"with": {"n": "{{ input.n }}"}, "result": "{{ self.output.m + 1 }}"}), node("z"))
    walk = Walk(flow, input={"n": 1}, runs={"sub": done({"m": 2}, after=5)}).run(until=1)
    assert walk.trace == ["ask for other sub", "began other sub"]
    assert (walk.state.phase, rests(walk.state, walk.now)) == (RunPhase.RUNNING, True)
    assert walk.asked[0].input.value == {"n": 1}
    walk.run()
    assert walk.timed[2] == (5, "sub SUCCEEDED")
    assert walk.output("sub") == 3
    assert walk.state.steps["sub"].child == CHILD


def test_a_step_that_waits_for_its_child_is_not_skipped_and_says_what_to_do_instead():
    """The child would go on, and nobody would hear of it."""
    walk = Walk(flow_of(sub()), runs={"sub": done(after=5)}).run(until=1)
    with pytest.raises(Refused) as refused:
        walk.say(Overrule(WordId("o"), "ada", "sub", Choice.SKIP, "enough"))
    assert refused.value.reason is Reason.STEP_NOT_WAITING
    wanted = f"step sub is RUNNING: it waits for run {CHILD}; cancel that run, or this one"
    assert refused.value.message == wanted


def test_a_detached_child_is_not_waited_for():
    """The step gives its id as soon as it is durable."""
    walk = Walk(flow_of(sub(wait="detached")), runs={"sub": never()}).run()
    assert walk.trace == ["ask for other sub", "began other sub", "sub SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("sub") == {"run_id": CHILD}


def test_the_id_of_a_child_follows_from_who_asks():
    """Asked again after a crash it is the same run; of another step, generation or run it is another."""
    assert child_id(RUN, "sub", 0, START) == CHILD
    others = {child_id(RUN, "sub", 1, START), child_id(RUN, "sub2", 0, START), child_id("r", "sub", 0, START)}
    assert len({CHILD, *others}) == 4
    assert CHILD[:8] == "019b76da"
    assert CHILD[14] == "7"


@pytest.mark.parametrize("keep", [2, 3])
def test_whoever_takes_over_asks_for_the_same_child_with_the_same_input(keep):
    """Before it is known to have begun, it is asked for again; after that it is only waited for."""
    flow = flow_of(sub(**{"with": {"n": "{{ input.n }}"}}))
    walk = Walk(flow, input={"n": 1}, runs={"sub": done({"m": 2}, after=5)}).run()
    heir = walk.crashed(keep).run()
    assert heir.output("sub") == {"m": 2}
    asked = [event for event in heir.journal if isinstance(event, ev.ChildRequested)]
    assert [event.run_id for event in asked] == [CHILD]


def test_a_failure_comes_up_with_where_it_arose():
    """Typed as it was; `catch` and `on_error` take it like any other. Its attempts stand in the other run."""
    failure = ev.Failure("UNAVAILABLE", Reason.NODE_FAULT, "no answer", retryable=True, step="lines[3]/price")
    answer = replace(failed(), failure=failure)
    step = {
        "id": "t",
        "try": {"steps": [sub()], "catch": [{"steps": [{"id": "c", "set": {"e": "{{ error }}"}}]}]},
    }
    walk = Walk(flow_of(step), runs={"sub": answer}).run()
    assert walk.output("c")["e"] == {
        "code": "UNAVAILABLE",
        "reason": "NODE_FAULT",
        "message": "no answer",
        "retryable": True,
        "step": "sub/lines[3]/price",
        "outcome": None,
        "attempts": 0,
    }


def test_a_child_that_somebody_cancelled_fails_its_step():
    """The parent was not asked."""
    walk = Walk(flow_of(sub()), runs={"sub": never()}).run()
    walk.child_ends("sub", RunPhase.CANCELED, never())
    walk.run()
    assert walk.finished.failure.reason == Reason.CHILD_CANCELED


def test_a_child_that_cannot_begin_fails_its_step():
    """No such flow, an input that does not fit: the reason is that of the refusal."""
    walk = Walk(flow_of(sub()), runs={"sub": not_sent()}).run()
    assert walk.trace == ["ask for other sub", "sub FAILED MESH_UNREACHABLE", "run FAILED"]


def test_a_cancel_goes_down_and_is_waited_for():
    """The child is cancelled; the run is CANCELING until the word comes that it has ended."""
    walk = Walk(flow_of(sub(), node("z")), runs={"sub": never()}).run(until=1).cancel()
    assert walk.state.phase is RunPhase.CANCELING
    walk.run()
    assert walk.trace[-4:] == ["cancel", "recall sub", "sub CANCELED", "run CANCELED"]


def test_a_child_that_had_succeeded_when_the_cancel_came_is_undone():
    """What was done is done, and so it is undone."""
    undo = {"node": "undo", "with": {"m": "{{ self.output.m }}"}}
    walk = Walk(flow_of(sub(compensate=undo), node("z")), runs={"sub": never()}).run(until=1)
    walk.tell(ev.CancelRequested("me", "enough", walk.now))
    walk._queue.clear()
    walk.child_ends("sub", RunPhase.SUCCEEDED, done({"m": 2}))
    walk.run()
    assert walk.trace[-4:] == [
        "undo 1",
        "start sub~compensate 1",
        "sub~compensate DONE SUCCEEDED",
        "run CANCELED",
    ]
    assert walk.started[-1].input.value == {"m": 2}


def test_a_cancel_before_the_child_has_begun_begins_none():
    """It is asked for and not begun: nobody wants it any more."""
    walk = Walk(flow_of(sub()))
    walk._decide()
    walk.cancel().run()
    assert walk.trace == ["ask for other sub", "cancel", "sub CANCELED", "run CANCELED"]


def test_the_time_of_a_step_recalls_its_child():
    """And the step fails with TIMEOUT once the child has ended."""
    walk = Walk(flow_of(sub(timeout={"total": "3s"})), runs={"sub": never()}).run()
    assert walk.timed[2:] == [
        (3, "timeout sub"),
        (3, "recall sub"),
        (3, "sub FAILED TIMEOUT"),
        (3, "run FAILED"),
    ]


def test_a_failure_beside_it_recalls_the_child():
    """The list ends early, and so the run below it; the failure that came first is the run's."""
    slow = sub(timeout={"total": "9s"})
    flow = flow_of(slow, {"id": "nap", "needs": [], "wait": {"for": "2s"}}, {**BAD, "needs": ["nap"]})
    walk = Walk(flow, runs={"sub": never()}).run()
    assert walk.trace[-4:] == ["bad FAILED FAIL_STEP", "recall sub", "sub CANCELED", "run FAILED"]


def test_a_run_whose_time_is_over_rests_while_its_child_has_not_ended(monkeypatch):
    """Also when a container in it has nothing left to wait for: it ends with the run, and not before."""
    pay = {"id": "l", "foreach": {"in": [1], "as": "it"}, "steps": [node("pay")]}
    branches = {"a": [sub()], "b": [pay]}
    flow = flow_of({"id": "p", "parallel": {"branches": branches}}, policies={"timeout": "2s"})
    effects = {"pay": EffectClass.AT_MOST_ONCE}
    walk = Walk(flow, {"l[0]/pay": [done(after=3)]}, effects=effects, runs={"sub": never()})
    with monkeypatch.context() as patched:
        patched.setattr(Walk, "child_ends", lambda *_: None)  # it waits for a person
        walk.run()
    assert walk.timed[-3:] == [(2, "timeout"), (2, "recall sub"), (3, "l[0]/pay DONE SUCCEEDED")]
    assert walk.state.closable
    assert (walk.state.phase, rests(walk.state, walk.now)) == (RunPhase.RUNNING, True)
    walk.child_ends("sub", RunPhase.CANCELED, never())
    assert walk.run().trace[-2:] == ["sub CANCELED", "run FAILED"]


def test_a_run_that_was_ended_over_its_child_hears_nothing_of_it():
    """Nothing comes after the end, also if the word was on its way."""
    walk = Walk(flow_of(sub()), runs={"sub": never()}).run(until=1)
    walk.tell(*hear(walk.state, Terminate(WordId("w"), "me", "now"), walk.now))
    assert walk.state.child_runs == {"sub": CHILD}
    assert children.finished(walk.state, "sub", CHILD, RunPhase.SUCCEEDED, walk.now) == []


def test_a_word_is_heard_once():
    """The second time, or from a run that is not the child, nothing follows."""
    walk = Walk(flow_of(sub(), node("z")), {"z": [never()]}, runs={"sub": never()}).run(until=1)
    assert children.finished(walk.state, "sub", RUN, RunPhase.SUCCEEDED, START) == []
    walk.child_ends("sub", RunPhase.SUCCEEDED, done({"m": 2}))
    assert children.finished(walk.state, "sub", CHILD, RunPhase.FAILED, START) == []


def test_runs_are_only_so_deep():
    """The step fails that would begin one more."""
    flow = flow_of(sub())
    state = begin(RUN, flow, replace(created(flow), depth=MAX_DEPTH))
    assert decide(state, START).event.failure.reason == Reason.FLOW_DEPTH
    state = begin(RUN, flow, replace(created(flow), depth=MAX_DEPTH - 1))
    assert decide(state, START).requested.run_id == CHILD


def test_children_of_a_loop_are_many():
    """Each iteration has its own."""
    loop = {"id": "l", "foreach": {"in": [1, 2, 3], "as": "it", "parallel": 2}, "steps": [sub()]}
    walk = Walk(flow_of(loop), runs={f"l[{n}]/sub": done({"n": n}) for n in range(3)}).run()
    assert walk.output("l") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert len({command.requested.run_id for command in walk.asked}) == 3


TOLD = {"policies": {"on_failure": {"flow": "tell"}}}


def test_a_failed_run_tells_a_flow_of_it_and_then_ends():
    """Once, with the run, the flow, the error and the input; before that nobody sees FAILED."""
    walk = Walk(flow_of(node("a"), BAD, **TOLD), input={"n": 1}).run()
    assert walk.trace[-4:] == ["bad FAILED FAIL_STEP", "ask for tell", "began tell", "run FAILED"]
    told = walk.asked[0].input.value
    assert (told["run_id"], told["flow"], told["input"]) == (RUN, {"name": "walked", "version": 1}, {"n": 1})
    assert (told["error"]["reason"], told["error"]["step"]) == ("FAIL_STEP", "bad")


def test_what_is_told_of_a_failure_has_the_shape_that_a_plan_judges():
    """Member for member, so that a flow that takes the one takes the other."""
    told = Walk(flow_of(BAD, **TOLD), input={"n": 1}).run().asked[0].input.value

    def shape(value):
        return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    assert shape({**told, "input": None}) == shape(FAILURE_INPUT)


def test_who_cannot_be_told_keeps_no_run_from_ending():
    """Its name may be wrong: the journal says so."""
    walk = Walk(flow_of(BAD, **TOLD), runs={"": not_sent()}).run()
    assert walk.trace[-2:] == ["began tell MESH_UNREACHABLE", "run FAILED"]
    assert walk.state.error_flow_refused is not None


def test_a_failure_is_told_after_it_was_undone():
    """The flow that hears of it finds the world as it will stay."""
    flow = flow_of(node("a", compensate={"node": "undo"}), BAD, **TOLD)
    walk = Walk(flow).run()
    assert walk.trace[-5:] == [
        "start a~compensate 1",
        "a~compensate DONE SUCCEEDED",
        "ask for tell",
        "began tell",
        "run FAILED",
    ]


@pytest.mark.parametrize("end", [{"id": "r", "return": {}}, {"id": "w", "wait": {"for": "9s"}}])
def test_only_a_failure_is_told(end):
    """A run that ends well or is cancelled tells nobody."""
    walk = Walk(flow_of(end, **TOLD)).run(until=1)
    if not walk.state.finished:
        walk.cancel().run()
    assert not walk.asked


def test_a_failure_is_told_once_and_never_by_who_hears_of_one():
    """Nor by a run below that one."""
    flow = flow_of(BAD, **TOLD)
    walk = Walk(flow)
    walk.state = begin(RUN, flow, replace(created(flow), failure_of="another", parent_run="another"))
    assert walk.run().trace == ["bad FAILED FAIL_STEP", "run FAILED"]


def test_an_output_that_cannot_be_made_is_told_too():
    """Also by whoever takes the run over before it was."""
    flow = flow_of(node("a"), output="{{ steps.a.output.x }}", **TOLD)
    walk = Walk(flow).run()
    assert walk.trace[-3:] == ["ask for tell", "began tell", "run FAILED"]
    asked = next(n for n, event in enumerate(walk.journal, 1) if isinstance(event, ev.ChildRequested))
    heir = walk.crashed(asked).run()
    assert heir.finished.failure.reason == Reason.EXPRESSION_FAILED
    assert heir.trace[-2:] == ["began tell", "run FAILED"]
