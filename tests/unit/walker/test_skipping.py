"""`when` and `disabled`: steps that are passed over, with everything inside."""

from __future__ import annotations

import pytest

from tests.support.walk import Walk, flow_of, node


def test_a_step_whose_condition_is_false_is_skipped():
    """Nothing is called; the next step goes on, and sees that it was skipped."""
    walk = Walk(
        flow_of(node("a", when="{{ input.n > 3 }}"), {"id": "b", "set": {"a": "{{ steps.a.state }}"}}),
        input={"n": 3},
    ).run()
    assert walk.trace == ["a SKIPPED when", "b SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("b") == {"a": "SKIPPED"}


def test_a_step_whose_condition_is_true_is_done():
    """The condition is asked once, and then forgotten."""
    walk = Walk(flow_of(node("a", when="{{ input.n > 3 }}")), input={"n": 4}).run()
    assert walk.trace == ["start a 1", "a DONE SUCCEEDED", "run SUCCEEDED"]


def test_a_disabled_step_is_asked_nothing():
    """Neither its join nor its `when` is looked at, not even one that could not be evaluated."""
    flow = flow_of(
        node("a"), node("b", disabled=True, needs=["a"], join="one_failed", when="{{ input.missing }}")
    )
    walk = Walk(flow).run()
    assert walk.trace == ["start a 1", "a DONE SUCCEEDED", "b SKIPPED disabled", "run SUCCEEDED"]


@pytest.mark.parametrize(
    ("keys", "reason"), [({"disabled": True}, "disabled"), ({"when": "{{ false }}"}, "when")]
)
def test_what_is_inside_a_skipped_container_is_skipped_with_it(keys, reason):
    """At every depth; one event says it for all."""
    inner = {"id": "i", "if": {"when": "{{ true }}", "then": [node("deep")]}}
    flow = flow_of({"id": "p", **keys, "parallel": {"branches": {"l": [inner], "r": [node("r1")]}}})
    walk = Walk(flow).run()
    assert walk.trace == [f"p SKIPPED {reason}", "run SUCCEEDED"]
    assert set(walk.states().values()) == {"SKIPPED"}
    reasons = {path: run.skip_reason for path, run in walk.state.steps.items()}
    assert reasons == {"p": reason, "i": "branch", "deep": "branch", "r1": "branch"}


def test_a_skipped_step_has_no_output_and_says_so_to_who_asks():
    """`.?` gives null, `??` another value, `has` the truth; `state` is always there."""
    flow = flow_of(
        node("a", when="{{ false }}"),
        {
            "id": "b",
            "set": {
                "other": "{{ steps.a.?output ?? 'none' }}",
                "has": "{{ has(steps.a.output) }}",
                "attempts": "{{ steps.a.attempts }}",
                "error": "{{ steps.a.error }}",
                "version": "{{ steps.a.version }}",
            },
        },
    )
    walk = Walk(flow).run()
    assert walk.output("b") == {"other": "none", "has": False, "attempts": 0, "error": None, "version": None}
