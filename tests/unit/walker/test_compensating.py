"""Compensation: what a run has done is undone when it ends badly, the last step first, each by itself."""

from __future__ import annotations

import pytest

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import Choice, Knowledge, RunPhase, StepState
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.resolving import Abilities, Answer
from reflux.core.word import Overrule, Terminate, WordId, hear
from tests.support.walk import START, Walk, ambiguous, done, failed, flow_of, never, node, not_sent

ONCE = EffectClass.AT_MOST_ONCE


def undoable(step, **keys):
    """A step that calls a node, and what undoes it."""
    return node(step, **{"compensate": {"node": "undo", "with": {"id": "{{ self.output.id }}"}}, **keys})


BAD = {"id": "bad", "fail": {"message": "no"}}


def test_a_failed_run_undoes_what_succeeded_the_last_first():
    """In the reverse order of completion, not of the list; what has no compensation is left."""
    last = [node("c", needs=["a", "b"]), {**BAD, "needs": ["c"]}]
    flow = flow_of(undoable("a"), undoable("b", needs=[]), *last)
    walk = Walk(flow, {"a": [done({"id": 1}, after=0.2)], "b": [done({"id": 2}, after=0.1)]}).run()
    assert walk.trace[-7:] == [
        "bad FAILED FAIL_STEP",
        "undo 2",
        "start a~compensate 1",
        "a~compensate DONE SUCCEEDED",
        "start b~compensate 1",
        "b~compensate DONE SUCCEEDED",
        "run FAILED",
    ]
    assert walk.finished.uncompensated == ()
    assert [command.input.value for command in walk.started[-2:]] == [{"id": 1}, {"id": 2}]
    assert walk.state.steps["a~compensate"].undoes == "a"


def test_a_run_that_ends_well_undoes_nothing():
    """Not after a return either, nor after a failure that was caught or let pass."""
    caught = {"id": "t", "try": {"steps": [undoable("a"), BAD], "catch": [{"steps": []}]}}
    passed = {"id": "p", "fail": {"message": "no"}, "on_error": "continue"}
    for last in (node("z"), {"id": "r", "return": {"n": 1}}):
        walk = Walk(flow_of(caught, passed, last)).run()
        assert walk.finished.state is RunPhase.SUCCEEDED
        assert not [command.step for command in walk.started if "~" in command.step]


def test_the_scope_is_the_run_however_the_failure_came_through_containers():
    """A step in a body that a catch had taken over is undone when the run fails later; iterations each."""
    caught = {"id": "t", "try": {"steps": [undoable("a"), BAD], "catch": [{"steps": []}]}}
    lines = {"id": "l", "foreach": {"in": [1, 2], "as": "it"}, "steps": [undoable("s")]}
    end = {"id": "end", "fail": {"message": "after all"}}
    walk = Walk(flow_of(caught, lines, end), lambda command: done({"id": command.step})).run()
    undone = [(command.step, command.input.value["id"]) for command in walk.started if "~" in command.step]
    assert undone == [("l[1]/s~compensate", "l[1]/s"), ("l[0]/s~compensate", "l[0]/s"), ("a~compensate", "a")]


def test_a_compensation_reads_its_step_the_error_and_what_came_before():
    """`self` is the step as others see it, `error` says why the run ends."""
    given = {
        "self": "{{ self.state + ' ' + string(self.attempts) }}",
        "why": "{{ error.reason + ' in ' + error.step }}",
        "first": "{{ steps.first.output.n }}",
        "input": "{{ input.who }}",
    }
    flow = flow_of(node("first"), node("pay", compensate={"node": "undo", "with": given}), BAD)
    walk = Walk(flow, {"first": [done({"n": 1})]}, input={"who": "me"}).run()
    assert walk.started[-1].input.value == {
        "self": "SUCCEEDED 1",
        "why": "FAIL_STEP in bad",
        "first": 1,
        "input": "me",
    }


def test_a_cancelled_run_undoes_too_and_says_so_in_error():
    """After the cancel nothing starts but compensations; the run is CANCELING until they are over."""
    flow = flow_of(node("pay", compensate={"node": "undo", "with": {"why": "{{ error.reason }}"}}), node("z"))
    walk = Walk(flow, {"z": [never()], "pay~compensate": [done(after=5)]}).run(until=1).cancel()
    assert walk.state.phase is RunPhase.CANCELING
    walk.run()
    assert walk.timed[-4:] == [
        (1, "undo 1"),
        (1, "start pay~compensate 1"),
        (6, "pay~compensate DONE SUCCEEDED"),
        (6, "run CANCELED"),
    ]
    assert walk.started[-1].input.value == {"why": Reason.RUN_CANCELED}


def test_a_step_that_was_in_flight_is_undone_once_it_is_done():
    """An effect that comes in after the failure is undone like the others."""
    flow = flow_of(undoable("pay"), {**BAD, "needs": []})
    walk = Walk(flow, {"pay": [done({"id": 1}, after=3)]}, effects={"pay": ONCE}).run()
    assert walk.trace[-4:] == [
        "undo 1",
        "start pay~compensate 1",
        "pay~compensate DONE SUCCEEDED",
        "run FAILED",
    ]


def test_an_effect_that_is_done_is_undone_although_its_output_was_lost():
    """The step FAILED, and its effect did not: what undoes it may know the effect otherwise."""
    undo = {"node": "undo", "with": {"order": "{{ input.order }}", "state": "{{ self.state }}"}}
    flow = flow_of(node("pay", result="{{ self.output.missing }}", compensate=undo))
    walk = Walk(flow, input={"order": 7}).run()
    assert walk.trace[1:3] == ["pay DONE FAILED", "undo 1"]
    assert walk.started[-1].input.value == {"order": 7, "state": "FAILED"}


LOST = {"result": "{{ self.output.nothing }}", "compensate": {"node": "undo"}}
LOST_LOOP = {"result": "{{ 1 / 0 }}", "compensate": {"node": "undo"}}


@pytest.mark.parametrize(
    "step",
    [
        {"id": "s", "flow": "child", **LOST},
        {"id": "s", "if": {"when": "{{ true }}", "then": [node("a")]}, **LOST},
        {"id": "s", "try": {"steps": [node("a")], "finally": [node("b")]}, **LOST},
        {"id": "s", "parallel": {"branches": {"l": [node("a")]}}, **LOST},
        {"id": "s", "foreach": {"in": [1, 2], "as": "it"}, "steps": [node("a")], **LOST_LOOP},
        {"id": "s", "while": {"when": "{{ index < 1 }}", "max": 2, "steps": [node("a")]}, **LOST_LOOP},
    ],
    ids=["flow", "if", "try", "parallel", "foreach", "while"],
)
def test_what_was_done_is_undone_although_what_it_gave_was_lost(step):
    """The run that a step began has ended well, or all steps in it have; only its `result` failed."""
    walk = Walk(flow_of(step), runs={"s": done({"id": 1})}).run()
    assert walk.state.steps["s"].failure.reason == "EXPRESSION_FAILED"
    assert walk.trace[-4:] == [
        "undo 1",
        "start s~compensate 1",
        "s~compensate DONE SUCCEEDED",
        "run FAILED",
    ]
    assert walk.replayed().undone == walk.state.undone == ["s"]


@pytest.mark.parametrize(
    "step",
    [
        {"id": "s", "flow": "child", **LOST},
        {"id": "s", "if": {"when": "{{ true }}", "then": [node("a")]}, **LOST},
        {"id": "s", "if": {"when": "{{ 1 }}", "then": [node("b")]}, **LOST},
        {"id": "s", "while": {"when": "{{ index < 9 }}", "max": 1, "steps": [node("b")]}, **LOST_LOOP},
    ],
    ids=["flow", "if", "condition", "limit"],
)
def test_what_did_not_end_well_undoes_itself(step):
    """A step whose own work failed is not undone: what is in it says what undoes it."""
    walk = Walk(flow_of(step), {"a": [failed()]}, runs={"s": failed()}).run()
    assert (walk.trace[-1], walk.state.undone) == ("run FAILED", [])


def test_an_effect_that_was_found_is_undone_although_what_was_found_was_lost():
    """`verify` says that it is there; that its output cannot be mapped changes nothing outside."""
    walk = Walk(
        flow_of(node("pay", **LOST)),
        {"pay": [ambiguous("x@1")] * 3},
        effects={"pay": EffectClass.IDEMPOTENT},
        abilities=Abilities(verifiable=True),
        questions=[Answer(Knowledge.FOUND, "listed", output=Json.of({"id": "p1"}))],
    ).run()
    assert walk.trace[-3:] == ["start pay~compensate 1", "pay~compensate DONE SUCCEEDED", "run FAILED"]
    assert walk.replayed().undone == walk.state.undone == ["pay"]


def test_a_compensation_is_tried_again_and_has_its_own_key():
    """Five attempts unless it says otherwise; a repetition after NO_EFFECT carries another key."""
    walk = Walk(
        flow_of(undoable("pay"), BAD),
        {"pay": [done({"id": 1})], "pay~compensate": [failed("UNAVAILABLE"), not_sent(), done()]},
        effects={"pay~compensate": ONCE},
    ).run()
    starts = [line for line in walk.trace if line.startswith("start pay~")]
    assert starts == [
        "start pay~compensate 1",
        "start pay~compensate 2 generation 1",
        "start pay~compensate 3 generation 1",
    ]
    assert walk.finished.uncompensated == ()


def test_a_compensation_that_fails_is_told_and_holds_nobody_up():
    """The others are undone; the run ends as it would, with what was not undone."""
    flow = flow_of(undoable("a"), undoable("b"), BAD)
    answers = {"a": [done({"id": 1})], "b": [done({"id": 2})], "b~compensate": [failed("NOT_FOUND")]}
    walk = Walk(flow, answers).run()
    assert walk.states("a~compensate") == {"a~compensate": "SUCCEEDED"}
    assert walk.states("b~compensate") == {"b~compensate": "FAILED"}
    assert (walk.finished.state, walk.finished.uncompensated) == (RunPhase.FAILED, ("b",))
    assert walk.finished.failure.reason == Reason.FAIL_STEP


def test_a_compensation_whose_input_cannot_be_made_fails():
    """Nothing is sent, and it is told."""
    walk = Walk(flow_of(undoable("a"), BAD), {"a": [done({})]}).run()
    assert walk.trace[-2:] == ["a~compensate FAILED EXPRESSION_FAILED", "run FAILED"]
    assert walk.finished.uncompensated == ("a",)


def test_an_ambiguous_compensation_parks_a_failed_run():
    """Nobody says that it was undone, and nobody that it was not; what came before it is undone meanwhile."""
    flow = flow_of(undoable("a"), undoable("b"), BAD)
    answers = {"a": [done({"id": 1})], "b": [done({"id": 2})], "b~compensate": [ambiguous("undo@1")]}
    walk = Walk(flow, answers, effects={"b~compensate": ONCE}).run()
    assert walk.states("a~compensate") == {"a~compensate": "SUCCEEDED"}
    assert walk.states("b~compensate") == {"b~compensate": "PARKED"}
    assert walk.state.phase is RunPhase.PARKED
    walk.cancel()
    assert walk.trace[-1] == "run CANCELED b~compensate"
    assert walk.finished.uncompensated == ("b",)


def test_a_step_whose_own_effect_is_not_known_is_unresolved_and_not_undone():
    """It may never have happened: the cancelled run lists it, and undoes the others."""
    flow = flow_of(undoable("a"), undoable("pay"))
    walk = Walk(flow, {"a": [done({"id": 1})], "pay": [ambiguous("pay@1")]}, effects={"pay": ONCE}).run()
    assert walk.state.phase is RunPhase.PARKED
    walk.cancel().run()
    assert "pay~compensate" not in walk.state.steps
    assert walk.states("a~compensate") == {"a~compensate": "SUCCEEDED"}
    assert (walk.finished.unresolved_effects, walk.finished.uncompensated) == (("pay",), ())


def test_a_cancel_while_undoing_stops_nothing_and_changes_the_end():
    """What began because the run failed goes on, with the same error; the run ends CANCELED."""
    flow = flow_of(undoable("a"), undoable("b"), BAD)
    answers = {"a": [done({"id": 1})], "b": [done({"id": 2})], "b~compensate": [done(after=3)]}
    walk = Walk(flow, answers).run(until=1).cancel().run()
    assert walk.states("a~compensate", "b~compensate") == {
        "a~compensate": "SUCCEEDED",
        "b~compensate": "SUCCEEDED",
    }
    assert walk.finished.state is RunPhase.CANCELED
    assert walk.trace.count("undo 2") == 1


def test_the_time_of_the_flow_undoes_and_is_not_asked_again():
    """The run's own timeout is a failure like any other, and bounds no compensation."""
    flow = flow_of(undoable("a"), {"id": "nap", "wait": {"for": "1h"}}, policies={"timeout": "2s"})
    walk = Walk(flow, {"a": [done({"id": 1})], "a~compensate": [failed("UNAVAILABLE", after=60), done()]})
    walk.run()
    assert walk.finished.failure.reason == Reason.TIMEOUT
    assert walk.finished.uncompensated == ()


def test_an_output_that_cannot_be_made_undoes_the_run():
    """The last thing that can fail is a failure of the run."""
    walk = Walk(flow_of(undoable("a"), output="{{ steps.a.output.x }}"), {"a": [done({"id": 1})]}).run()
    assert walk.trace[-4:-2] == ["undo 1", "start a~compensate 1"]
    assert (walk.finished.state, walk.finished.failure.reason) == (RunPhase.FAILED, Reason.EXPRESSION_FAILED)


@pytest.mark.parametrize("keep", range(2, 13))
def test_whoever_takes_a_run_over_while_it_undoes_goes_on_where_it_was(keep):
    """Each compensation has one outcome, wherever the former owner stopped."""
    flow = flow_of(undoable("a"), undoable("b"), BAD)
    effects = dict.fromkeys(("a", "b", "a~compensate", "b~compensate"), EffectClass.IDEMPOTENT)
    walk = Walk(flow, lambda command: done({"id": command.step}, claimed_by="x@1"), effects=effects).run()
    if keep >= len(walk.journal):
        pytest.skip("the journal is not so long")
    heir = walk.crashed(keep).run()
    outcomes = [
        event.step
        for event in heir.journal
        if isinstance(event, ev.AttemptFinished) and event.state is StepState.SUCCEEDED
    ]
    assert outcomes == ["a", "b", "b~compensate", "a~compensate"]
    assert heir.finished.uncompensated == ()


def test_a_quarantined_run_that_is_cancelled_tells_what_it_could_not_undo():
    """It kills its owners: nothing more is walked for it."""
    walk = Walk(flow_of(undoable("a"), node("z")), {"a": [done({"id": 1})], "z": [never()]}).run(until=1)
    walk.tell(ev.RunParked(ev.Failure("INTERNAL", Reason.QUARANTINED, "again"), START)).cancel()
    assert (walk.finished.state, walk.finished.uncompensated) == (RunPhase.CANCELED, ("a",))


def test_a_terminate_undoes_nothing_and_says_what_is_left():
    """It is there to end a run now."""
    walk = Walk(flow_of(undoable("a"), node("z")), {"a": [done({"id": 1})], "z": [never()]}).run(until=1)
    walk.tell(*hear(walk.state, Terminate(WordId("w"), "me", "now"), walk.now))
    assert (walk.finished.state, walk.finished.uncompensated) == (RunPhase.CANCELED, ("a",))
    assert "a~compensate" not in walk.state.steps


def test_a_parked_step_that_is_confirmed_while_the_run_undoes_is_undone_too():
    """A person says that it did happen: then it is one of those that must not stand."""
    undo = {"compensate": {"node": "undo", "with": {}}}
    flow = flow_of(node("a", needs=[], **undo), node("pay", needs=[], **undo))

    def calls(walk):
        return [command.step for command in walk.started]

    answers = {"pay": [ambiguous("pay@1")], "a~compensate": [done(after=5)]}
    walk = Walk(flow, answers, effects={"pay": ONCE}).run()
    walk.cancel().run(until=2)
    assert calls(walk) == ["a", "pay", "a~compensate"]
    walk.say(Overrule(WordId("w"), "me", StepPath("pay"), Choice.CONFIRM, "")).run()
    assert calls(walk)[3:] == ["pay~compensate"]
    assert walk.finished.uncompensated == ()
    assert walk.finished.unresolved_effects == ()
