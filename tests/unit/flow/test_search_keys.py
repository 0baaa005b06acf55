"""`search_key`: made of the input when a run starts, refused when it could never be right."""

from __future__ import annotations

import pytest

from reflux.core.document import Json
from reflux.core.errors import InvalidArgument
from reflux.core.flow import compile_flow
from reflux.core.flow.searchkey import key_of
from tests.support.walk import flow_of, node


@pytest.mark.parametrize(
    ("key", "given", "wanted"),
    [
        ("{{ input.order.id }}", {"order": {"id": "A-17"}}, "A-17"),
        ("{{ input.n }}", {"n": 17}, "17"),
        ("{{ vars.shop }}/{{ input.n }}", {"n": 1}, "north/1"),
        ("{{ input.?n }}", {}, None),
        ("{{ input.n }}", {"n": ""}, None),
    ],
)
def test_a_key_is_a_text_made_of_the_input(key, given, wanted):
    """Numbers as they are written; null and nothing are no key."""
    flow = flow_of(node("a"), search_key=key, vars={"shop": "north"})
    assert key_of(flow, Json.of(given)) == wanted


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, ""),
        ({"n": [1]}, "not a list"),
        ({"n": {"a": 1}}, "not a map"),
        ({"n": "x" * 201}, "at most 200 characters"),
    ],
)
def test_a_run_whose_key_cannot_be_made_is_refused(given, why):
    """Nobody would find it."""
    flow = flow_of(node("a"), search_key="{{ input.n }}")
    with pytest.raises(InvalidArgument) as refused:
        key_of(flow, Json.of(given))
    assert refused.value.reason == "INPUT_INVALID"
    assert why in refused.value.message


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("always the same", "BAD_VALUE"),
        ("{{ steps.a.output }}", "UNKNOWN_ROOT"),
        ("{{ input.n", "BAD_EXPRESSION"),
        (17, "WRONG_TYPE"),
    ],
)
def test_a_key_that_can_never_be_right_is_a_problem_of_the_flow(key, code):
    """Told at its place, before anything runs."""
    problems = compile_flow({"name": "f", "spec": {"search_key": key, "steps": [node("a")]}}).problems
    assert [(problem.code, problem.pointer) for problem in problems] == [(code, "/spec/search_key")]
