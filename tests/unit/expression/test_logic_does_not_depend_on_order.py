"""`&&`, `||`, `all`, `exists`: one side that decides makes an error on another irrelevant."""

from __future__ import annotations

import pytest

from reflux.core.expression import ErrorCode
from tests.unit.expression.language import failure, value

BAD = "1 / 0 > 0"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"false && {BAD}", False),
        (f"{BAD} && false", False),
        (f"true || {BAD}", True),
        (f"{BAD} || true", True),
        (f"{BAD} || {BAD} || true", True),
        ("1 || true", True),
        ("[0, 5].exists(x, 10 / x > 1)", True),
        ("[0, 5].all(x, 10 / x > 3)", False),
        ("true && true && false", False),
        ("false || false", False),
    ],
)
def test_an_operand_that_decides_absorbs_errors_of_the_others(source: str, expected: object) -> None:
    """The order of operands and elements does not change the result."""
    assert value(source) is expected


@pytest.mark.parametrize(
    "source", [f"true && {BAD}", f"{BAD} || false", "[0, 5].all(x, 10 / x > 1)", "[0].exists(x, 10 / x > 1)"]
)
def test_where_nothing_decides_the_error_is_the_result(source: str) -> None:
    """An error is never taken for false."""
    assert failure(source).code is ErrorCode.DIVISION_BY_ZERO


def test_a_condition_evaluates_only_the_chosen_side() -> None:
    """The other side may be an error."""
    assert value(f"true ? 1 : {BAD}") == 1
    assert value(f"false ? {BAD} : 2") == 2
    assert value("false ? 1 : false ? 2 : 3") == 3


def test_a_spent_budget_is_never_absorbed() -> None:
    """`|| true` must not turn an exhausted budget into an answer."""
    endless = "xs.exists(a, xs.exists(b, false))"
    for source in (f"{endless} || true", f"true && ({endless} || true)", f"[1].exists(x, {endless} || true)"):
        assert failure(source, xs=list(range(200))).code is ErrorCode.BUDGET_ITERATIONS
