"""Reading the scope: a missing part is an error unless the author says otherwise."""

from __future__ import annotations

import pytest

from reflux.core.expression import ErrorCode
from tests.unit.expression.language import failure, value

STEPS = {
    "fetch": {"output": {"total": 5, "user": None, "lines": [{"sku": "a"}]}, "state": "SUCCEEDED"},
    "my-id": {},
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("steps.fetch.output.total", 5),
        ("steps['fetch'].output['total']", 5),
        ("steps.fetch.output.lines[0].sku", "a"),
        ("steps.fetch.output.lines[0.0].sku", "a"),
        ("nodes.fetch.output.total", 5),
        ("steps.?skipped.output.amount", None),
        ("steps.fetch.?output.?nope.deeper", None),
        ("steps.fetch.output.lines[?7].sku", None),
        ("steps.fetch.output.user.?name", None),
        ("steps[?'my-id'].?output", None),
        ("steps.skipped.output.amount ?? 0", 0),
        ("steps.fetch.output.user ?? 'nobody'", "nobody"),
        ("steps.fetch.output.user.name ?? 'nobody'", "nobody"),
        ("steps.a ?? steps.b ?? 3", 3),
        ("default(steps.fetch.output.total, 9)", 5),
        ("steps.a.default(9)", 9),
        ("steps.a ?? 1 + 1", 2),
        ("steps.a ?? 0 > 5", False),
        ("has(steps.fetch.output)", True),
        ("has(steps.skipped)", False),
        ("has(steps.fetch.output.user.name)", False),
    ],
)
def test_a_selection_gives_the_part_or_what_stands_in_for_it(source: str, expected: object) -> None:
    """`.?` and `[?]` give null, `??` and `default` an answer, `has` a bool."""
    assert value(source, steps=STEPS) == expected


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        (
            "steps.fetch.output.totl",
            "MISSING_FIELD",
            "steps.fetch.output has no field 'totl'; did you mean 'total'?",
        ),
        (
            "steps.fetch.output.user.name",
            "MISSING_FIELD",
            "steps.fetch.output.user is null, so it has no field 'name'",
        ),
        ("steps.fetch.state.x", "WRONG_TYPE", "steps.fetch.state is a string; it has no fields"),
        (
            "steps.fetch.output.lines[1]",
            "INDEX",
            "steps.fetch.output.lines has no element 1; its size is 1",
        ),
        (
            "steps.fetch.output.lines[-1]",
            "INDEX",
            "steps.fetch.output.lines has no element -1; its size is 1",
        ),
        ("steps.fetch.output.lines['a']", "WRONG_TYPE", "the index of a list is an int, not a string"),
        ("steps[1]", "WRONG_TYPE", "the fields of a map are strings, not an int"),
        ("stepz.fetch", "UNKNOWN_ROOT", "there is no 'stepz' here; did you mean 'steps'?"),
        ("has(steps.skipped.output)", "MISSING_FIELD", "steps has no field 'skipped'"),
    ],
)
def test_a_missing_part_is_an_error_that_names_it(source: str, code: str, message: str) -> None:
    """The message says which part is missing from what, and what may have been meant."""
    error = failure(source, steps=STEPS)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    "source", ["1 / 0 ?? 1", "steps.fetch.output.lines[3] ?? 1", "nope ?? 1", "int('x') ?? 1"]
)
def test_a_default_answers_absence_and_no_other_error(source: str) -> None:
    """A typing error in a default's left side is not hidden by it."""
    assert failure(source, steps=STEPS).code is not ErrorCode.MISSING_FIELD


def test_the_aliases_of_older_flows_read_the_roots_of_today() -> None:
    """`inputs` is `input`, and `nodes` is `steps`; a macro variable of that name is itself."""
    assert value("inputs.x + nodes.a.output", input={"x": 1}, steps={"a": {"output": 2}}) == 3
    assert value("[5].map(nodes, nodes)") == [5]
