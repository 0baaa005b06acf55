"""`try`: a failure inside is caught by the first handler that wants it; `finally` comes after in any case."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase
from reflux.core.flow.roots import ERROR_FIELDS
from reflux.core.reasons import Reason
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, node


def attempt(*steps: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A try around `steps`; `last` is its finally."""
    if "last" in parts:
        parts["finally"] = parts.pop("last")
    return {"id": "t", "try": {"steps": list(steps), **parts}}


def catch(*steps: dict[str, Any], when: str | None = None) -> dict[str, Any]:
    """A handler."""
    return {"steps": list(steps)} if when is None else {"when": when, "steps": list(steps)}


def test_without_a_failure_no_handler_runs():
    """The output is that of the body; the handlers' steps are SKIPPED."""
    walk = Walk(flow_of(attempt(node("a"), catch=[catch(node("h"))])), {"a": [done({"n": 1})]}).run()
    assert walk.trace == ["enter t [0]", "start a 1", "a DONE SUCCEEDED", "t SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("t") == {"n": 1}
    assert walk.states("h") == {"h": "SKIPPED"}


def test_the_first_handler_whose_condition_holds_takes_the_failure():
    """It sees the error; what it gives is what the try gives, and the run goes on."""
    handlers = [
        catch(node("no"), when="{{ error.code == 'UNAVAILABLE' }}"),
        catch(
            node("yes", **{"with": {"why": "{{ error.step + ': ' + error.message }}"}}),
            when="{{ error.code == 'NOT_FOUND' }}",
        ),
        catch(node("late")),
    ]
    walk = Walk(flow_of(attempt(node("a"), catch=handlers), node("z")))
    walk.answers = {"a": [failed("NOT_FOUND")], "yes": [done({"n": 2})]}
    assert walk.run().trace == [
        "enter t [0]",
        "start a 1",
        "a NO_EFFECT FAILED",
        "enter t [2]",
        "start yes 1",
        "yes DONE SUCCEEDED",
        "t SUCCEEDED",
        "start z 1",
        "z DONE SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.started[1].input.value == {"why": "a: it says no"}
    assert walk.output("t") == {"n": 2}


def test_a_failure_that_no_handler_wants_goes_on():
    """The try fails with it."""
    walk = Walk(
        flow_of(attempt(node("a"), catch=[catch(node("h"), when="{{ false }}")])), {"a": [failed("ABORTED")]}
    )
    assert walk.run().trace[-2:] == ["t FAILED NODE_FAULT", "run FAILED"]
    assert walk.finished.failure is not None
    assert walk.finished.failure.code == "ABORTED"


def test_finally_comes_after_success_after_a_handler_and_after_a_failure():
    """Once in each case, and it changes nothing of the outcome when it succeeds."""
    flow = flow_of(
        attempt(node("a"), catch=[catch(node("h"), when="{{ error.code == 'NOT_FOUND' }}")], last=[node("f")])
    )
    for answer, handled, end in (
        (done(), False, RunPhase.SUCCEEDED),
        (failed("NOT_FOUND"), True, RunPhase.SUCCEEDED),
        (failed("ABORTED"), False, RunPhase.FAILED),
    ):
        walk = Walk(flow, {"a": [answer]}).run()
        assert [command.step for command in walk.started] == ["a", *(["h"] if handled else []), "f"]
        assert walk.finished.state is end


def test_a_failure_in_finally_is_the_failure_of_the_try():
    """Also when the body had failed with another one."""
    flow = flow_of(attempt(node("a"), last=[node("f")]))
    walk = Walk(flow, {"a": [failed("ABORTED")], "f": [failed("NOT_FOUND")]}).run()
    assert walk.finished.failure is not None
    assert walk.finished.failure.step == "f"


def test_a_failing_handler_fails_the_try_after_finally():
    """Its failure, not the one it was called for."""
    flow = flow_of(attempt(node("a"), catch=[catch(node("h"))], last=[node("f")]))
    walk = Walk(flow, {"a": [failed("ABORTED")], "h": [failed("NOT_FOUND")]}).run()
    assert [command.step for command in walk.started] == ["a", "h", "f"]
    assert walk.finished.failure is not None
    assert walk.finished.failure.step == "h"


def test_the_rest_of_the_body_is_over_before_a_handler_begins():
    """What cannot be given up is waited for."""
    body = [{**node("a"), "needs": []}, {**node("b"), "needs": []}]
    walk = Walk(flow_of(attempt(*body, catch=[catch(node("h"))])), effects={"b": EffectClass.IDEMPOTENT})
    walk.answers = {"a": [failed(after=1)], "b": [done(after=5, claimed_by="x@1")]}
    walk.run()
    assert [at for at, line in walk.timed if line == "start h 1"] == [5]


def test_a_cancel_is_not_caught():
    """Neither a handler nor finally begins after it."""
    walk = Walk(
        flow_of(attempt(node("a"), catch=[catch(node("h"))], last=[node("f")])), {"a": [done(after=9)]}
    )
    walk.run(until=1).cancel()
    assert walk.finished.state is RunPhase.CANCELED
    assert [command.step for command in walk.started] == ["a"]


def test_an_effect_that_nobody_knows_is_not_caught():
    """The run is PARKED; a handler would act as if it had not happened."""
    walk = Walk(
        flow_of(attempt(node("a"), catch=[catch(node("h"))])),
        {"a": [ambiguous("pay@1")]},
        effects={"a": EffectClass.AT_MOST_ONCE},
    ).run()
    assert walk.state.phase is RunPhase.PARKED
    assert [command.step for command in walk.started] == ["a"]


def test_a_condition_that_cannot_be_evaluated_fails_the_try_after_finally():
    """The failure names the condition's fault."""
    flow = flow_of(attempt(node("a"), catch=[catch(node("h"), when="{{ input.n }}")], last=[node("f")]))
    walk = Walk(flow, {"a": [failed()]}, input={"n": 1}).run()
    assert [command.step for command in walk.started] == ["a", "f"]
    assert walk.finished.failure is not None
    assert walk.finished.failure.reason is Reason.EXPRESSION_FAILED


def test_steps_of_the_body_can_be_read_by_handlers_and_afterwards():
    """They may have no output, and reading provides for that."""
    last = node("z", **{"with": {"n": "{{ steps.a.?output.?n ?? 7 }}"}})
    handler = node("h", **{"with": {"state": "{{ steps.a.state }}"}})
    walk = Walk(flow_of(attempt(node("a"), catch=[catch(handler)]), last), {"a": [failed()]}).run()
    assert [command.input.value for command in walk.started[1:]] == [{"state": "FAILED"}, {"n": 7}]


@pytest.mark.parametrize(("answer", "state"), [(done(), "SKIPPED"), (failed("NOT_FOUND"), "SUCCEEDED")])
def test_finally_reads_handlers_that_were_not_needed_as_skipped(answer, state):
    """Their state is there whatever happened."""
    last = node("f", **{"with": {"s": "{{ steps.h.state }}", "n": "{{ steps.h.?output ?? 1 }}"}})
    walk = Walk(flow_of(attempt(node("a"), catch=[catch(node("h"))], last=[last])), {"a": [answer]}).run()
    assert walk.finished.state is RunPhase.SUCCEEDED
    assert walk.started[-1].input.value["s"] == state


def test_error_is_that_of_the_catch_around_also_in_an_inner_finally():
    """An inner failure does not leak into it."""
    last = node("f", **{"with": {"s": "{{ error.step }}"}})
    inner = {
        "id": "i",
        "try": {"steps": [node("b")], "catch": [catch(when="{{ false }}")], "finally": [last]},
    }
    walk = Walk(flow_of(attempt(node("a"), catch=[catch(inner)])), {"a": [failed()], "b": [failed()]}).run()
    assert walk.started[-1].input.value == {"s": "a"}


SHOWN = "{{ [error.step, error.code, error.outcome, error.attempts] }}"


def test_a_handler_knows_what_became_of_the_last_attempt():
    """And how many there were; its condition sees the same."""
    retry = {"attempts": 2, "delay": "0s", "on": ["UNAVAILABLE"]}
    told = node("h", result="{{ error.attempts }}", **{"with": {"e": SHOWN}})
    handler = catch(told, when="{{ error.outcome != 'AMBIGUOUS' }}")
    walk = Walk(flow_of(attempt(node("a", retry=retry), catch=[handler])))
    walk.answers = {"a": [failed("UNAVAILABLE"), failed("UNAVAILABLE")]}
    walk.run()
    assert walk.started[2].input.value == {"e": ["a", "UNAVAILABLE", "NO_EFFECT", 2]}
    assert walk.output("t") == 2


def test_a_failure_without_an_attempt_has_no_outcome():
    """What a `fail` step says, wherever it is caught."""
    say = {"id": "f", "fail": {"message": "no", "code": "NOT_FOUND"}}
    inner = {"id": "i", "if": {"when": True, "then": [say]}}
    walk = Walk(flow_of(attempt(inner, catch=[catch(node("h", **{"with": {"e": SHOWN}}))]))).run()
    assert walk.started[0].input.value == {"e": ["f", "NOT_FOUND", None, 0]}
    shown = walk.state.shown[""]
    assert shown["i"]["error"] == shown["f"]["error"]
    assert tuple(shown["f"]["error"]) == ERROR_FIELDS


@pytest.mark.parametrize(("fails", "handled"), [("b", "both"), ("c", "second")])
def test_a_condition_reads_the_steps_of_the_body(fails, handled):
    """All of them are there: those that were done, that failed, and that were never begun."""
    body = [node("b"), {"id": "i", "if": {"when": True, "then": [node("c")]}}, node("d")]
    handlers = [
        catch(node("both"), when="{{ steps.b.state == 'FAILED' && steps.c.state == 'SKIPPED' }}"),
        catch(node("second"), when="{{ steps.b.?output.?n == 1 && steps.d.state == 'CANCELED' }}"),
    ]
    loop = {"id": "l", "foreach": {"in": [1], "as": "it"}, "steps": [attempt(*body, catch=handlers)]}
    walk = Walk(flow_of(loop), {f"l[0]/{fails}": [failed()]})
    walk.answers |= {} if fails == "b" else {"l[0]/b": [done({"n": 1})]}
    assert walk.run().started[-1].step == f"l[0]/{handled}"


@pytest.mark.parametrize("late", ["a", "f"])
def test_its_own_time_ends_it_without_a_handler_and_without_finally(late):
    """Also in the middle of finally: a total time is that of all of it."""
    step = {**attempt(node("a"), catch=[catch(node("h"))], last=[node("f"), node("g")]), "timeout": "5s"}
    walk = Walk(flow_of(step), {late: [done(after=9)]}).run()
    assert walk.trace[-2:] == ["t FAILED TIMEOUT", "run FAILED"]
    assert [command.step for command in walk.started] == (["a"] if late == "a" else ["a", "f"])


def test_what_stands_around_it_tidies_up_after_its_time():
    """For a try around it, a timeout is a failure like any other."""
    inner = {**attempt(node("a"), last=[node("f")]), "timeout": "5s"}
    outer = {"id": "o", "try": {"steps": [inner], "finally": [node("tidy")]}}
    walk = Walk(flow_of(outer), {"a": [done(after=9)]}).run()
    assert [command.step for command in walk.started] == ["a", "tidy"]
