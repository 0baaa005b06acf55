"""`approve`: a step whose output is what a person answers."""

from __future__ import annotations

import pytest

from reflux.core.document import Json
from reflux.core.errors import InvalidArgument, NotFound, Refused
from reflux.core.event import RunPhase
from reflux.core.reasons import Reason
from reflux.core.word import Answer, Terminate
from tests.support.walk import Walk, done, flow_of, node

FORM = {"type": "object", "required": ["limit"], "properties": {"limit": {"type": "integer"}}}
ASK = {
    "id": "ok",
    "approve": {"form": FORM, "message": "Pay {{ input.n }}?", "who": ["ada", "{{ input.boss }}"]},
}
INPUT = {"n": 3, "boss": "bob"}


def answer(
    number: str = "a1", *, approved: bool = True, form: object = None, by: str = "ada", step: str = "ok"
) -> Answer:
    return Answer(number, by, step, approved, None if form is None else Json.of(form), "fine")


def walk_of(*steps: dict, **keys: object) -> Walk:
    return Walk(flow_of(*(steps or (ASK,))), input=INPUT, **keys)


def test_what_is_asked_is_worked_out_once_and_journaled():
    """The message and who is to answer, for whoever looks."""
    walk = walk_of().run()
    asked = walk.state.steps["ok"].asked
    assert (asked.message, asked.who, asked.until) == ("Pay 3?", ("ada", "bob"), None)
    assert walk.state.phase is RunPhase.RUNNING


def test_an_answer_is_the_steps_output():
    """Whether, what was filled in, by whom, and when."""
    walk = walk_of(ASK, {"id": "r", "return": "{{ steps.ok.output }}"}).run()
    walk.say(answer(form={"limit": 9}))
    assert walk.trace[1:] == ["ok approved by ada", "ok SUCCEEDED", "r SUCCEEDED", "run SUCCEEDED"]
    assert walk.finished.output.value == {
        "approved": True,
        "form": {"limit": 9},
        "by": "ada",
        "at": "2026-01-01T00:00:00Z",
        "comment": "fine",
    }


def test_a_rejection_is_an_answer_and_no_failure():
    """The step has SUCCEEDED; what follows asks `approved`. Nothing need be filled in."""
    walk = walk_of(ASK, {"id": "r", "return": "{{ steps.ok.output.approved }}"}).run()
    walk.say(answer(approved=False))
    assert walk.finished.output.value is False


@pytest.mark.parametrize(
    ("approved", "form"), [(True, None), (True, {"limit": "much"}), (False, {"limit": 1.5})]
)
def test_a_form_that_does_not_fit_is_refused_with_every_place(approved, form):
    """Nothing is recorded, and it can be answered again."""
    walk = walk_of().run()
    with pytest.raises(InvalidArgument) as refused:
        walk.say(answer(approved=approved, form=form))
    assert refused.value.reason is Reason.FORM_INVALID
    assert refused.value.violations[0].pointer in ("/form", "/form/limit")
    walk.say(answer(form={"limit": 1}))
    assert walk.finished.state is RunPhase.SUCCEEDED


@pytest.mark.parametrize("rest", [({"id": "w", "wait": {"for": "1h"}},), ()], ids=["goes on", "is over"])
def test_the_second_answer_is_told_who_was_first(rest):
    """Only the same answer again is answered alike; whether the run goes on or is over."""
    walk = walk_of(ASK, *rest).run()
    walk.say(answer(form={"limit": 1}))
    walk.say(answer(form={"limit": 1}))
    with pytest.raises(Refused, match="ada has approved step ok already") as refused:
        walk.say(answer("a2", approved=False, by="bob"))
    assert refused.value.reason is Reason.APPROVAL_ANSWERED
    assert refused.value.metadata == {"actor": "ada", "approved": "true", "at": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("then", "state", "approved"),
    [("approve", "SUCCEEDED", True), ("reject", "SUCCEEDED", False), ("fail", "FAILED", None)],
)
def test_a_timeout_answers_as_the_step_says(then, state, approved):
    """By nobody; and a late answer is refused."""
    step = {"id": "ok", "on_error": "continue", "approve": {"timeout": "24h", "on_timeout": then}}
    walk = walk_of(step, {"id": "w", "wait": {"for": "1h"}}).run(until=86_401)
    assert walk.states("ok") == {"ok": state}
    if approved is not None:
        assert walk.output("ok")["approved"] is approved
        assert walk.output("ok")["by"] is None
    with pytest.raises(Refused) as refused:
        walk.say(answer())
    assert refused.value.reason is Reason.STEP_NOT_WAITING


def test_who_answers_an_ended_run_that_nobody_answered_hears_that_it_has_ended():
    """There is no first one to be told of."""
    walk = walk_of().run()
    walk.say(Terminate("t", "ada", "enough"))
    with pytest.raises(Refused) as refused:
        walk.say(answer())
    assert refused.value.reason is Reason.RUN_FINISHED


def test_an_answer_before_it_is_asked_is_refused():
    """Also one to a step that never asks, and to a step that is not there."""
    walk = walk_of(node("a"), ASK, answers={"a": [done(after=1)]}).run(until=0.5)
    for step in ("ok", "a"):
        with pytest.raises(Refused) as refused:
            walk.say(answer(step=step))
        assert refused.value.reason is Reason.STEP_NOT_WAITING
    with pytest.raises(NotFound, match=r"no step .aa. in run .*: did you mean a") as missing:
        walk.say(answer(step="aa"))
    assert missing.value.reason is Reason.STEP_NOT_FOUND


def test_each_iteration_asks_for_itself():
    """A path names the one that is meant."""
    loop = {
        "id": "l",
        "foreach": {"in": [1, 2], "as": "n", "parallel": 2},
        "steps": [{"id": "ok", "approve": {}}],
    }
    walk = walk_of(loop).run()
    walk.say(answer("a1", step="l[1]/ok")).say(answer("a2", step="l[0]/ok", approved=False))
    assert [item["approved"] for item in walk.output("l")] == [False, True]


@pytest.mark.parametrize(
    ("given", "asked"), [(1, "1"), ({"n": [True]}, '{"n":[true]}'), (None, "step ok gives no message: ")]
)
def test_what_is_asked_may_be_any_value(given, asked):
    """It is shown as what a `fail` step says is."""
    fail = {"id": "ok", "fail": {"message": "{{ input.m }}"}}
    refused = Walk(flow_of(fail), input={"m": given}).run().finished.failure.message
    ask = {"id": "ok", "approve": {"message": "{{ input.m }}"}}
    message = Walk(flow_of(ask), input={"m": given}).run(until=1).state.steps["ok"].asked.message
    assert message == refused
    assert message.startswith(asked)


@pytest.mark.parametrize("boss", [5, None, "b" * 201])
def test_what_is_no_name_fails_the_step(boss):
    """As every value of the wrong type does."""
    walk = Walk(flow_of(ASK), input={"n": 3, "boss": boss}).run()
    assert walk.finished.failure.reason is Reason.EXPRESSION_FAILED


def test_the_journal_alone_gives_the_same_approval():
    """Who answered what was asked."""
    walk = walk_of(ASK, {"id": "w", "wait": {"for": "1h"}}).run(until=1).say(answer(form={"limit": 1}))
    again = walk.replayed().steps["ok"]
    now = walk.state.steps["ok"]
    assert (again.asked, again.answer, again.output) == (now.asked, now.answer, now.output)
