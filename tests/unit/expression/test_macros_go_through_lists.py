"""`all exists exists_one map filter` over lists, and over the keys of maps."""

from __future__ import annotations

import pytest

from reflux.core.expression import ErrorCode
from tests.unit.expression.language import failure, refusal, value

ROWS = [{"sku": "a", "n": 2}, {"sku": "b", "n": 5}, {"sku": "c"}]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rows.map(r, r.sku)", ["a", "b", "c"]),
        ("rows.map(r, has(r.n), r.n * 2)", [4, 10]),
        ("rows.filter(r, (r.?n ?? 0) > 2)", [ROWS[1]]),
        ("rows.all(r, size(r.sku) == 1)", True),
        ("rows.exists(r, r.sku == 'b')", True),
        ("rows.exists_one(r, r.sku < 'c')", False),
        ("[].all(x, false)", True),
        ("[].exists(x, true)", False),
        ("{'k': 1, 'j': 2}.map(k, k)", ["k", "j"]),
        ("[1, 2].map(x, [3, 4].map(y, x * y))", [[3, 4], [6, 8]]),
        ("[1, 2].map(x, [3].map(x, x))", [[3], [3]]),
        ("[[1], [2, 3]].map(x, x.map(x, x + 1)).flatten()", [2, 3, 4]),
        ("[1, 2].map(x, x).map(y, y + 1)", [2, 3]),
    ],
)
def test_a_macro_gives_what_its_body_says_for_each_element(source: str, expected: object) -> None:
    """Inner variables hide outer ones; elements keep their order."""
    assert value(source, rows=ROWS) == expected


def test_a_macro_refuses_what_cannot_be_gone_through() -> None:
    """A string is no list of characters, and null no empty list."""
    for source in ("'abc'.map(c, c)", "null.all(x, true)"):
        assert failure(source).code is ErrorCode.WRONG_TYPE


@pytest.mark.parametrize(
    "source", ["xs.map(1, 2)", "xs.filter(x)", "xs.all(x, y, z)", "has(x)", "default(1)"]
)
def test_a_macro_of_the_wrong_form_is_refused_when_it_is_compiled(source: str) -> None:
    """The message shows the right form."""
    problem = refusal(source)
    assert problem.code is ErrorCode.SYNTAX
    assert "(" in problem.message
