"""A failure ends its list, then the container, then the run, unless `on_error: continue` stops it."""

from __future__ import annotations

import pytest

from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase
from tests.support.walk import Walk, done, failed, flow_of, never, node


def test_a_failed_step_ends_the_run():
    """What comes after is cancelled; the run's failure names the step, the code and the reason."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [failed("NOT_FOUND")]}).run()
    assert walk.trace == ["start a 1", "a NO_EFFECT FAILED", "run FAILED"]
    assert walk.states() == {"a": "FAILED", "b": "CANCELED"}
    failure = walk.finished.failure
    assert (failure.code, failure.reason) == ("NOT_FOUND", "NODE_FAULT")
    assert walk.finished.output is None


def test_a_failure_that_may_pass_ends_nothing():
    """The step is FAILED, its error can be read, the next one runs."""
    flow = flow_of(node("a", on_error="continue"), {"id": "b", "set": {"error": "{{ steps.a.error }}"}})
    walk = Walk(flow, {"a": [failed("NOT_FOUND")]}).run()
    assert walk.trace == ["start a 1", "a NO_EFFECT FAILED", "b SUCCEEDED", "run SUCCEEDED"]
    error = {"code": "NOT_FOUND", "reason": "NODE_FAULT", "message": "it says no", "retryable": False}
    error |= {"step": "a", "outcome": "NO_EFFECT", "attempts": 1}
    assert walk.output("b") == {"error": error}


def test_the_flow_may_let_every_failure_pass():
    """`policies.on_error: continue` is the default of its steps, and a step may still say otherwise."""
    flow = flow_of(node("a"), node("b", on_error="fail"), node("c"), policies={"on_error": "continue"})
    walk = Walk(flow, {"a": [failed()], "b": [failed()]}).run()
    assert walk.states() == {"a": "FAILED", "b": "FAILED", "c": "CANCELED"}
    assert walk.finished.state is RunPhase.FAILED


def test_a_failure_drops_pure_attempts_beside_it():
    """They have no outside effect, so nobody waits for them."""
    flow = flow_of(node("a"), node("b", needs=[]), node("c"))
    walk = Walk(flow, {"a": [failed(after=1)], "b": [never()]}).run()
    assert walk.timed == [
        (0, "start a 1"),
        (0, "start b 1"),
        (1, "a NO_EFFECT FAILED"),
        (1, "run FAILED"),
    ]
    assert walk.states() == {"a": "FAILED", "b": "CANCELED", "c": "CANCELED"}


def test_a_failure_beside_a_wait_for_a_retry_ends_the_wait():
    """No attempt starts in a list that has failed."""
    flow = flow_of(node("a"), node("b", needs=[], retry={"attempts": 2, "delay": "5s"}))
    walk = Walk(flow, {"a": [failed(after=1)], "b": [failed("UNAVAILABLE")]}).run()
    assert walk.timed == [
        (0, "start a 1"),
        (0, "start b 1"),
        (0, "b NO_EFFECT RETRYING +5s"),
        (1, "a NO_EFFECT FAILED"),
        (1, "run FAILED"),
    ]


def nested(step: str | None, inner: str | None, outer: str | None) -> Walk:
    """`a` fails inside `i` inside `p`; each level with its `on_error`."""

    def keys(on_error: str | None) -> dict[str, str]:
        return {} if on_error is None else {"on_error": on_error}

    fork = {
        "id": "i",
        **keys(inner),
        "if": {"when": "{{ true }}", "then": [node("a", **keys(step)), node("b")]},
    }
    par = {"id": "p", **keys(outer), "parallel": {"branches": {"l": [fork, node("c")], "r": [node("d")]}}}
    return Walk(flow_of(par, node("z")), {"a": [failed(after=1)], "d": [done(after=9)]}).run()


@pytest.mark.parametrize(
    ("step", "inner", "outer", "states"),
    [
        (
            "continue",
            None,
            None,
            "a=FAILED b=SUCCEEDED i=SUCCEEDED c=SUCCEEDED d=SUCCEEDED p=SUCCEEDED z=SUCCEEDED",
        ),
        (
            None,
            "continue",
            None,
            "a=FAILED b=CANCELED i=FAILED c=SUCCEEDED d=SUCCEEDED p=SUCCEEDED z=SUCCEEDED",
        ),
        (None, None, "continue", "a=FAILED b=CANCELED i=FAILED c=CANCELED d=CANCELED p=FAILED z=SUCCEEDED"),
        (None, None, None, "a=FAILED b=CANCELED i=FAILED c=CANCELED d=CANCELED p=FAILED z=CANCELED"),
    ],
    ids=["the step", "its container", "the container around that", "nobody"],
)
def test_a_failure_goes_up_until_somebody_lets_it_pass(step, inner, outer, states):
    """Whoever has `on_error: continue` ends it there; what is beside and inside that level is cancelled."""
    walk = nested(step, inner, outer)
    expected = dict(pair.split("=") for pair in states.split())
    assert walk.states() == expected
    assert walk.finished.state == ("FAILED" if expected["z"] == "CANCELED" else "SUCCEEDED")


def test_every_level_tells_the_failure_of_the_step_below():
    """The container's failure is the step's, which it names; so is the run's."""
    fork = {"id": "i", "if": {"when": "{{ true }}", "then": [{"id": "f", "fail": {"message": "enough"}}]}}
    walk = Walk(flow_of(fork)).run()
    assert walk.trace == ["enter i [0]", "f FAILED FAIL_STEP", "i FAILED FAIL_STEP", "run FAILED"]
    assert walk.finished.failure.step == "f"
    assert walk.state.steps["i"].failure == walk.finished.failure


def test_a_failed_container_has_no_output_and_its_branches_wait_for_nobody():
    """All that happened, in order: the sibling branch is dropped before the container settles."""
    walk = nested(None, None, "continue")
    assert walk.timed == [
        (0, "enter p [0, 1]"),
        (0, "enter i [0]"),
        (0, "start d 1"),
        (0, "start a 1"),
        (1, "a NO_EFFECT FAILED"),
        (1, "i FAILED NODE_FAULT"),
        (1, "p FAILED NODE_FAULT"),
        (1, "start z 1"),
        (1, "z DONE SUCCEEDED"),
        (1, "run SUCCEEDED"),
    ]
    assert walk.state.steps["p"].output is None


def test_what_is_inside_a_container_cancelled_before_it_began_is_skipped():
    """So every step of the flow has settled, and can be read."""
    unborn = {"id": "i", "if": {"when": "{{ true }}", "then": [node("deep")]}}
    flow = flow_of(
        {
            "id": "p",
            "on_error": "continue",
            "parallel": {"branches": {"l": [node("a")], "r": [node("slow"), unborn]}},
        },
        {"id": "z", "set": {"deep": "{{ steps.deep.state }}"}},
    )
    walk = Walk(flow, {"a": [failed()], "slow": [never()]}).run()
    assert walk.states("slow", "i", "deep") == {"slow": "CANCELED", "i": "CANCELED", "deep": "SKIPPED"}
    assert walk.output("z") == {"deep": "SKIPPED"}


def test_the_first_failure_is_the_runs():
    """A second one that arrives meanwhile changes nothing."""
    flow = flow_of(node("a"), node("b", needs=[]), node("c", needs=[]))
    walk = Walk(
        flow,
        {"a": [failed("NOT_FOUND", after=1)], "b": [failed("INTERNAL", after=1)], "c": [done(after=1)]},
    ).run()
    assert walk.finished.failure.code == "NOT_FOUND"
    assert walk.states() == {"a": "FAILED", "b": "CANCELED", "c": "CANCELED"}


def beside_a_failure(left: list[dict], answers: dict, effects: dict | None = None) -> Walk:
    """`left` in one branch; in the other `b` fails after a second, and the container lets that pass."""
    par = {"id": "p", "on_error": "continue", "parallel": {"branches": {"l": left, "r": [node("b")]}}}
    errors = {"id": "z", "set": {path: f"{{{{ steps.{path}.error }}}}" for path in answers}}
    answers = {**answers, "b": [failed(after=1)]}
    return Walk(flow_of(par, errors), answers, effects=effects or {}).run()


def test_a_cancelled_step_has_no_error():
    """Not even that of an attempt it was going to repeat: it was not what failed."""
    answers = {"a": [failed("UNAVAILABLE")]}
    walk = beside_a_failure([node("a", retry={"attempts": 2, "delay": "9s"})], answers)
    assert walk.states("a") == {"a": "CANCELED"}
    assert walk.output("z") == {"a": None}


def test_a_cancelled_step_never_starts_whatever_settles_after_it():
    """One that waited for a later step of its list is not woken by the end of that."""
    walk = beside_a_failure([node("a", needs=["c"]), node("c", needs=[])], {"c": [never()]})
    assert [command.step for command in walk.started] == ["c", "b"]
    assert walk.states("a", "c") == {"a": "CANCELED", "c": "CANCELED"}


def test_an_attempt_that_may_act_holds_its_containers_open():
    """The inner one ends CANCELED with its outcome, then the outer one FAILED; its answer stands."""
    inner = {"id": "i", "if": {"when": "{{ true }}", "then": [node("pay"), node("y")]}}
    walk = beside_a_failure([inner], {"pay": [done(after=5)]}, {"pay": EffectClass.AT_MOST_ONCE})
    assert walk.timed[4:] == [
        (1, "b NO_EFFECT FAILED"),
        (5, "pay DONE SUCCEEDED"),
        (5, "i CANCELED"),
        (5, "p FAILED NODE_FAULT"),
        (5, "z SUCCEEDED"),
        (5, "run SUCCEEDED"),
    ]


def test_no_retry_follows_in_a_container_that_is_ending():
    """The attempt is waited for, because it may act; another one would act for nobody."""
    answers = {"pay": [failed("UNAVAILABLE", after=5)]}
    effects = {"pay": EffectClass.AT_MOST_ONCE}
    walk = beside_a_failure([node("pay", retry={"attempts": 9})], answers, effects)
    assert "pay NO_EFFECT CANCELED" in walk.trace
    assert len(walk.started) == 2
