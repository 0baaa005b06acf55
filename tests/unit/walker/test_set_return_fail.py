"""The steps that call nobody: `set` gives, `return` ends the run well, `fail` ends it badly."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase, StepState
from tests.support.walk import START, Walk, ambiguous, done, failed, flow_of, never, node

ONCE = EffectClass.AT_MOST_ONCE


def test_set_gives_the_step_its_output():
    """One event, no attempt."""
    walk = Walk(flow_of({"id": "a", "set": {"n": "{{ 1 + 1 }}"}})).run()
    assert walk.journal[1:] == [
        ev.StepSettled("a", StepState.SUCCEEDED, START, output=Json(b'{"n":2}')),
        ev.RunFinished(RunPhase.SUCCEEDED, START, output=Json(b'{"n":2}')),
    ]


def test_return_ends_the_run_with_its_value():
    """Whatever comes after is cancelled."""
    walk = Walk(flow_of(node("a"), {"id": "r", "return": {"n": 1}}, node("z"))).run()
    assert walk.trace == ["start a 1", "a DONE SUCCEEDED", "r SUCCEEDED", "run SUCCEEDED"]
    assert walk.states() == {"a": "SUCCEEDED", "r": "SUCCEEDED", "z": "CANCELED"}
    assert walk.finished.output == Json(b'{"n":1}')


def test_return_inside_branches_ends_the_whole_run():
    """From any depth of `if` and `switch`; the containers around it end with the run."""
    inner = {"id": "s", "switch": [{"else": [{"id": "r", "return": {"n": 1}}, node("x1")]}]}
    flow = flow_of({"id": "i", "if": {"when": "{{ true }}", "then": [inner]}}, node("z"))
    walk = Walk(flow).run()
    assert walk.trace == ["enter i [0]", "enter s [0]", "r SUCCEEDED", "run SUCCEEDED"]
    assert walk.finished.output == Json(b'{"n":1}')
    assert walk.states("x1", "z") == {"x1": "CANCELED", "z": "CANCELED"}


def test_return_drops_a_pure_attempt_beside_it():
    """Nobody needs its answer any more."""
    flow = flow_of(node("slow"), {"id": "r", "needs": [], "return": {"n": 1}})
    walk = Walk(flow, {"slow": [never()]}).run()
    assert walk.trace == ["start slow 1", "r SUCCEEDED", "run SUCCEEDED"]
    assert walk.states("slow") == {"slow": "CANCELED"}


@pytest.mark.parametrize(
    ("answer", "line", "state"),
    [
        (done(after=3), "pay DONE SUCCEEDED", "SUCCEEDED"),
        (failed(after=3), "pay NO_EFFECT CANCELED", "CANCELED"),
        (ambiguous(after=3), "pay NOT_SENT CANCELED", "CANCELED"),
    ],
)
def test_return_waits_for_an_attempt_that_may_act(answer, line, state):
    """The run ends once its outcome is known, as it was going to end."""
    flow = flow_of(node("pay"), {"id": "r", "needs": [], "return": {"n": 1}})
    walk = Walk(flow, {"pay": [answer]}, effects={"pay": ONCE}).run()
    assert walk.timed == [(0, "start pay 1"), (0, "r SUCCEEDED"), (3, line), (3, "run SUCCEEDED")]
    assert walk.states("pay") == {"pay": state}
    assert walk.finished.output == Json(b'{"n":1}')


def test_return_does_not_pass_over_an_effect_of_which_nobody_knows():
    """The run is PARKED until a person says what became of it."""
    flow = flow_of(node("pay"), {"id": "r", "needs": [], "return": {"n": 1}})
    walk = Walk(flow, {"pay": [ambiguous("x@1", after=3)]}, effects={"pay": ONCE}).run()
    assert walk.trace == ["start pay 1", "pay claimed by x@1", "r SUCCEEDED", "pay AMBIGUOUS PARKED"]
    assert walk.state.phase is RunPhase.PARKED


def test_fail_ends_the_run_with_its_message():
    """ABORTED unless the flow names a code."""
    flow = flow_of({"id": "f", "fail": {"message": "{{ input.n }} is too many"}})
    walk = Walk(flow, input={"n": 7}).run()
    failure = ev.Failure("ABORTED", "FAIL_STEP", "7 is too many", step="f")
    assert walk.journal[1:] == [
        ev.StepSettled("f", StepState.FAILED, START, failure=failure),
        ev.RunFinished(RunPhase.FAILED, START, failure=failure),
    ]


def test_a_fail_whose_message_is_null_says_so_under_its_own_code():
    """The word null alone would tell nobody anything; the failure stays the one that the flow has chosen."""
    flow = flow_of({"id": "f", "fail": {"message": "{{ input.m }}", "code": "NOT_FOUND"}})
    failure = Walk(flow, input={"m": None}).run().finished.failure
    assert (failure.code, failure.reason) == ("NOT_FOUND", "FAIL_STEP")
    assert failure.message == "step f gives no message: it is null; give a default with '??'"


def test_fail_names_its_code_and_may_pass():
    """It is a step like any other: `on_error: continue` lets the run go on."""
    flow = flow_of(
        {"id": "f", "on_error": "continue", "fail": {"message": "no", "code": "NOT_FOUND"}},
        {"id": "z", "set": {"code": "{{ steps.f.error.code }}"}},
    )
    assert Walk(flow).run().output("z") == {"code": "NOT_FOUND"}


@pytest.mark.parametrize(("value", "text"), [("{{ true }}", "true"), ("{{ input }}", '{"n":1}')])
def test_a_message_that_is_no_text_is_written_as_json(value, text):
    """People never see how our language writes a value."""
    walk = Walk(flow_of({"id": "f", "fail": {"message": value}}), input={"n": 1}).run()
    assert walk.finished.failure.message == text


def test_steps_without_a_call_take_no_time():
    """They settle at the moment they are looked at."""
    flow = flow_of(node("a"), {"id": "b", "set": {"n": 1}})
    walk = Walk(flow, {"a": [done(after=2)]}).run()
    assert walk.state.steps["b"].finish_time == START + timedelta(seconds=2)
