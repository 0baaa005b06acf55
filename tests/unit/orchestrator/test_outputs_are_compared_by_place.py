"""Where the output of a shadow differs from the real one: each place once, by JSON pointer."""

from typing import Any

import pytest

from reflux.orchestrator.shadows.compare import MAX_PLACES, MAX_TEXT, differences, digest


@pytest.mark.parametrize(
    ("answered", "shadowed", "found"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1.0}, []),
        ({"a": 1}, {"a": True}, [("/a", "changed", "1", "true")]),
        ({"a": None}, {}, [("/a", "missing", "null", "")]),
        ({}, {"a": None}, [("/a", "added", "", "null")]),
        ({"x/y": {"~": 1}}, {"x/y": {"~": 2}}, [("/x~1y/~0", "changed", "1", "2")]),
        ([1, 2, 3], [1, 5, 6], [("/*", "changed", "2", "5")]),
        ({"l": [{"p": 1}]}, {"l": [{"p": 1}, 7]}, [("/l/*", "added", "", "7")]),
        ([1], {"a": 1}, [("", "changed", "[1]", '{"a":1}')]),
    ],
)
def test_places(answered: Any, shadowed: Any, found: list[tuple[str, str, str, str]]) -> None:
    """Missing, added, changed; numbers as numbers; every place of a list is one."""
    told = [(d.pointer, d.kind, d.answered, d.shadowed) for d in differences(answered, shadowed)]
    assert told == found


def test_what_is_told_is_bounded() -> None:
    """So many places, and so much of a value."""
    many = {str(n): n for n in range(MAX_PLACES + 10)}
    assert len(differences(many, {})) == MAX_PLACES
    [one] = differences("x" * 5_000, "y")
    assert len(one.answered) == MAX_TEXT


def test_equal_values_have_equal_digests_however_they_are_written() -> None:
    """The order of keys says nothing."""
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})
