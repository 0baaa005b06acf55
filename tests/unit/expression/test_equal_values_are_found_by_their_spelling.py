"""`distinct` keeps one of equal values, and no choice of values makes it slow."""

from __future__ import annotations

import itertools

import pytest

from reflux.core.expression.frame import Frame
from reflux.core.expression.functions import lists
from reflux.core.expression.moments import Duration, Timestamp
from tests.unit.expression.language import value


@pytest.mark.parametrize(
    "elements",
    [
        [1, True, "1", "1;", "true", None, "null", [1], ["1"], [[1]], {}, [], ""],
        [["a", "b"], ["ab"], ["a'b"], ["1'a1'b"], [["a"], "b"], [["a", "b"]]],
        [{"a": 1}, {"a": "1"}, {"b": 1}, {"a": 1, "b": 2}, {"a": {"b": 2}}, ["a", 1]],
        [9_007_199_254_740_993, 9_007_199_254_740_992.0, 0.5, 1e300, -1e300, -1, -2],
    ],
)
def test_values_that_differ_are_kept(elements: list) -> None:
    """However alike they are written."""
    assert value("distinct(x)", x=elements) == elements


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([1, 1.0, 2, 1], [1, 2]),
        ([0.0, -0.0, 0], [0.0]),
        ([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}], [{"a": 1, "b": [2]}]),
        ([9_007_199_254_740_992, 9_007_199_254_740_992.0], [9_007_199_254_740_992]),
        ([1e19, 10_000_000_000_000_000_000], [1e19]),
        (["a", "b", "a"], ["a", "b"]),
    ],
)
def test_of_equal_values_the_first_is_kept(elements: list, expected: list) -> None:
    """Numbers by their value, maps without regard to their order."""
    found = value("distinct(x)", x=elements)
    assert found == expected
    assert [type(each) for each in found] == [type(each) for each in expected]


def test_times_are_told_from_each_other() -> None:
    """And from lengths of time."""
    source = "[timestamp(1), duration('1s'), timestamp(1), duration('1s'), timestamp(2)].distinct().size()"
    assert value(source) == 3


def test_no_two_values_are_found_by_the_same_hash() -> None:
    """Python's hash of -1 is that of -2, so lists of them would all stand in one place."""
    frame = Frame({}, 0)
    elements = [
        *map(list, itertools.product([-1, -2], repeat=9)),
        *({"k": n} for n in (-1, -2)),
        *map(Timestamp, (-1, -2)),
        *map(Duration, (-1, -2)),
        -1,
        -2,
        *(k * ((1 << 61) - 1) for k in range(1, 4)),
    ]
    hashes = {hash(lists._identity(frame, each)) for each in elements}
    assert len(hashes) == len(elements)
