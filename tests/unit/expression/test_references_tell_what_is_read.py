"""References: the roots and static paths of an expression, and how much of each must exist."""

from __future__ import annotations

import pytest

from reflux.core.expression import compile_expression


def read(source: str) -> list[tuple[tuple[str | int, ...], int]]:
    return [(found.path, found.required) for found in compile_expression(source).references]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("steps.fetch.output.x", [(("steps", "fetch", "output", "x"), 4)]),
        ("steps['my-id'].output[0]", [(("steps", "my-id", "output", 0), 4)]),
        ("nodes.a.output + inputs.b", [(("steps", "a", "output"), 3), (("input", "b"), 2)]),
        ("steps.a.output[input.i].z", [(("steps", "a", "output"), 3), (("input", "i"), 2)]),
        ("steps.a.?output.b", [(("steps", "a", "output", "b"), 2)]),
        ("steps.a.output[?0].b", [(("steps", "a", "output", 0, "b"), 3)]),
        ("steps.a.output ?? input.b", [(("steps", "a", "output"), 1), (("input", "b"), 2)]),
        ("default(steps.a, input.b)", [(("steps", "a"), 1), (("input", "b"), 2)]),
        ("has(steps.a.output)", [(("steps", "a", "output"), 2)]),
        (
            "has(steps.a) ? steps.a.x : steps.a",
            [(("steps", "a"), 1), (("steps", "a", "x"), 1), (("steps", "a"), 2)],
        ),
        (
            "has(steps.a) && steps.a.x && input.b",
            [(("steps", "a"), 1), (("steps", "a", "x"), 1), (("input", "b"), 2)],
        ),
        ("has(steps.a) || steps.a", [(("steps", "a"), 1), (("steps", "a"), 2)]),
        ("input.xs.map(x, x.y + vars.z)", [(("input", "xs"), 2), (("vars", "z"), 2)]),
        ("[1].map(input, input.x)", []),
        ("size(input)", [(("input",), 1)]),
        ("{'a': input.b}", [(("input", "b"), 2)]),
        ("1 + 2", []),
    ],
)
def test_a_reference_is_the_longest_static_path_of_a_root(
    source: str, expected: list[tuple[tuple[str | int, ...], int]]
) -> None:
    """Macro variables are no roots, computed keys end a path, and guards make the rest optional."""
    assert read(source) == expected


def test_a_reference_knows_its_place_and_whether_it_is_guarded() -> None:
    """What a message about it needs."""
    source = "1 + steps.a.?output"
    (found,) = compile_expression(source).references
    assert (found.root, found.optional, found.pointer) == ("steps", True, "")
    assert source[found.start : found.end] == "steps.a.?output"


def test_roots_are_the_names_a_scope_has_to_offer() -> None:
    """By their present names, whatever the source calls them."""
    assert compile_expression("inputs.a + nodes.b.output + vars.c").roots == {"input", "steps", "vars"}
