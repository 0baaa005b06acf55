"""What cannot be evaluated, and what is too large, fails the step and says where."""

from __future__ import annotations

import pytest

from reflux.core.document import MAX_DOCUMENT_BYTES
from reflux.core.event import RunPhase
from tests.support.walk import Walk, done, failed, flow_of, node

HALF = "x" * (MAX_DOCUMENT_BYTES // 2)


def failure_of(step: dict, value: object = None):
    walk = Walk(flow_of(step, node("z")), input=value).run()
    assert walk.finished.state is RunPhase.FAILED
    assert walk.states("z") == {"z": "CANCELED"}
    assert walk.finished.failure == walk.state.steps[step["id"]].failure
    assert walk.finished.failure.step == step["id"]
    return walk.finished.failure


def test_the_message_shows_the_place():
    """The pointer into the step, the text, and a caret under the field that is missing."""
    failure = failure_of(node("a", **{"with": {"to": "{{ input.user.name }}"}}), {"user": {}})
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "EXPRESSION_FAILED")
    message, where, text, caret = failure.message.split("\n")
    assert "name" in message
    assert where == "  at /with/to"
    assert text == "  {{ input.user.name }}"
    assert text[caret.index("^") :].startswith(".name") or text[caret.index("^") :].startswith("name")


TRY = {
    "steps": [{"id": "f", "fail": {"message": "no"}}],
    "catch": [{"when": "{{ input.missing }}", "steps": []}],
}


@pytest.mark.parametrize(
    ("step", "where"),
    [
        (node("a", when="{{ input.missing }}"), "/when"),
        (node("a", **{"with": {"n": "{{ input.missing }}"}}), "/with/n"),
        (node("a", cache={"ttl": "1m", "key": "{{ input.missing }}"}), "/cache/key"),
        (node("a", route={"sticky": "{{ input.missing }}"}), "/route/sticky"),
        ({"id": "a", "if": {"when": "{{ input.missing }}", "then": [node("b")]}}, "/if/when"),
        (
            {"id": "a", "switch": [{"when": "{{ input.missing }}", "steps": [node("b")]}, {"else": []}]},
            "/switch/0/when",
        ),
        (
            {"id": "a", "while": {"when": "{{ input.missing }}", "max": 1, "steps": [node("b")]}},
            "/while/when",
        ),
        ({"id": "a", "try": TRY}, "/try/catch/0/when"),
        ({"id": "a", "set": {"n": "{{ input.missing }}"}}, "/set/n"),
        ({"id": "a", "set": {}, "result": "{{ input.missing }}"}, "/result"),
        ({"id": "a", "return": {"n": "{{ input.missing }}"}}, "/return/n"),
        ({"id": "a", "fail": {"message": "{{ input.missing }}"}}, "/fail/message"),
        (node("a", when="{{ input }}"), "/when"),
    ],
)
def test_every_expression_of_a_step_can_fail_it(step, where):
    """No attempt is made, and the failure is the step's own; it names the key that holds the expression."""
    failure = failure_of(step)
    assert failure.reason == "EXPRESSION_FAILED"
    assert failure.message.split("\n")[1] == f"  at {where}"


@pytest.mark.parametrize(
    ("step", "where"),
    [
        ({"id": "a", "foreach": {"in": "{{ input.n }}", "as": "it"}, "steps": [node("b")]}, "/foreach/in"),
        ({"id": "a", "wait": {"for": "{{ input.n }}"}}, "/wait/for"),
        ({"id": "a", "wait": {"until": "{{ input.n }}"}}, "/wait/until"),
        ({"id": "a", "wait": {"signal": "s", "key": "{{ input.n }}"}}, "/wait/key"),
        ({"id": "a", "approve": {"message": "?", "who": ["x", "{{ input.n }}"]}}, "/approve/who/1"),
    ],
    ids=["foreach", "for", "until", "key", "who"],
)
def test_a_value_of_no_use_is_shown_under_the_expression_that_gives_it(step, where):
    """What was written comes first, and the value that came of it stands in the message."""
    message, place, text, caret = failure_of(step, {"n": {"some": "map"}}).message.split("\n")
    assert place == f"  at {where}"
    assert text == "  {{ input.n }}"
    assert text[caret.index("^") :] == "input.n }}"
    assert '"some":"map"' in message


def test_a_failed_expression_may_pass_and_is_never_retried():
    """It would fail again: `retry` is for attempts."""
    flow = flow_of(
        node(
            "a",
            on_error="continue",
            retry={"attempts": 5, "on": ["INVALID_ARGUMENT"]},
            **{"with": "{{ input.no }}"},
        ),
        node("z"),
    )
    walk = Walk(flow).run()
    assert walk.trace == ["a FAILED EXPRESSION_FAILED", "start z 1", "z DONE SUCCEEDED", "run SUCCEEDED"]


@pytest.mark.parametrize(
    "step",
    [
        node("a", when="{{ input.n }}"),
        {"id": "a", "if": {"when": "{{ input.n }}", "then": []}},
        {"id": "a", "switch": [{"when": "{{ input.n }}", "steps": []}]},
    ],
    ids=["when", "if", "switch"],
)
@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, "an int"), (0, "an int"), ("", "a string"), ("false", "a string"), (None, "null"), ([], "a list")],
)
def test_a_condition_is_true_or_false_and_nothing_like_it(step, value, kind):
    """No value is taken for a truth in silence."""
    assert f"must give true or false, not {kind};" in failure_of(step, {"n": value}).message


def test_the_steps_inside_a_container_that_could_not_begin_are_skipped():
    """They have settled, and can be read."""
    flow = flow_of(
        {"id": "i", "on_error": "continue", "if": {"when": "{{ input.n }}", "then": [node("b")]}},
        {"id": "z", "set": {"b": "{{ steps.b.state }}"}},
    )
    assert Walk(flow, input={"n": 1}).run().output("z") == {"b": "SKIPPED"}


def test_an_input_over_the_limit_is_not_sent():
    """The message names the size and the limit."""
    failure = failure_of(
        node("a", **{"with": {"l": "{{ input.half }}", "r": [HALF]}}),
        {"half": HALF},
    )
    assert failure.reason == "DOCUMENT_TOO_LARGE"
    assert str(MAX_DOCUMENT_BYTES) in failure.message


@pytest.mark.parametrize("action", ["set", "return"])
def test_an_output_over_the_limit_fails_the_step(action):
    """What is journaled is bounded, whoever made it."""
    failure = failure_of({"id": "a", action: {"l": "{{ input.half }}", "r": [HALF]}}, {"half": HALF})
    assert (failure.code, failure.reason) == ("OUT_OF_RANGE", "OUTPUT_TOO_LARGE")


def test_the_outputs_of_branches_together_are_one_output():
    """`parallel` whose result would be over the limit fails, though each branch is under it."""
    par = {"id": "p", "parallel": {"branches": {"l": [node("a")], "m": [node("b")], "r": [node("c")]}}}
    answers = {step: [done(HALF)] for step in "abc"}
    walk = Walk(flow_of(par), answers).run()
    assert walk.trace[-2:] == ["p FAILED OUTPUT_TOO_LARGE", "run FAILED"]


def test_reading_the_output_of_a_failure_that_passed_says_so():
    """It is not there, and nothing is silently empty."""
    flow = flow_of(node("a", on_error="continue"), {"id": "z", "set": {"n": "{{ steps.a.output.n }}"}})
    walk = Walk(flow, {"a": [failed()]}).run()
    assert walk.trace[-2:] == ["z FAILED EXPRESSION_FAILED", "run FAILED"]
    assert "output" in walk.finished.failure.message
