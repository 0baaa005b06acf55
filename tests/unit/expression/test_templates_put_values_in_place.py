"""Templates: typed values, text, tokenised braces, constants shared."""

from __future__ import annotations

import pytest

from reflux.core.expression import (
    ErrorCode,
    ExpressionError,
    ExpressionSyntaxError,
    compile_template,
    template_problems,
)

SCOPE = {"input": {"id": 7, "s": "x", "d": 2.0, "none": None, "xs": [1, "é"], "t": True}}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ input.id }}", 7),
        ("{{input.xs}}", [1, "é"]),
        ("{{ input.none }}", None),
        (" {{ input.id }}", " 7"),
        ("{{input.s}}{{input.id}}", "x7"),
        ("a{{ input.t }}b{{ input.d }}c", "atrueb2c"),
        ("{{ input.xs }}!", '[1,"é"]!'),
        ("{{ '}}' }}", "}}"),
        ("{{ {'a': {'b': 1}}}}", {"a": {"b": 1}}),
        ("{{ {'a': {'b': 1}}.a.b }} }}", "1 }}"),
        ("{{ '{{' }}", "{{"),
        ("use {{ '{{' }} x }}", "use {{ x }}"),
        ("no { braces } }}", "no { braces } }}"),
        ("{{ timestamp(0) }} {{ duration('90s') }}", "1970-01-01T00:00:00Z 90s"),
        ("{{ [timestamp(0)] }}", ["1970-01-01T00:00:00Z"]),
        ("{{ 1 // a comment\n }}", 1),
        ("", ""),
    ],
)
def test_a_string_gives_the_typed_value_or_text(template: str, expected: object) -> None:
    """Exactly one expression keeps its kind; in other text it becomes text."""
    found = compile_template(template).evaluate(SCOPE)
    assert found == expected
    assert type(found) is type(expected)


def test_a_document_keeps_its_shape_and_order_and_shares_what_is_constant() -> None:
    """Only the places that change are made anew; the template itself never changes."""
    document = {"z": [1, {"k": "{{ input.id }}"}], "a": {"deep": ["constant"]}, "b": "{{ input.s }}"}
    template = compile_template(document)
    first, second = template.evaluate(SCOPE), template.evaluate(SCOPE)
    assert first == {"z": [1, {"k": 7}], "a": {"deep": ["constant"]}, "b": "x"}
    assert list(first) == ["z", "a", "b"]
    assert first["a"] is second["a"] is document["a"]
    assert first["z"] is not second["z"]
    assert document["z"][1]["k"] == "{{ input.id }}"


def test_a_template_without_expressions_is_constant() -> None:
    """It is given back as it is, whatever the scope."""
    document = {"a": [1, None, "text }}"], "b": 2.5}
    template = compile_template(document)
    assert template.is_constant
    assert template.evaluate({}) is document
    assert not compile_template("{{ 1 }}").is_constant


def test_references_carry_the_pointer_of_their_string() -> None:
    """RFC 6901, with its escapes."""
    template = compile_template(
        {"a/b": ["x{{ input.id }}", {"~": "{{ vars.y }}"}], "c": "{{ steps.z.?output }}"}
    )
    found = [(reference.pointer, reference.path) for reference in template.references]
    assert found == [
        ("/a~1b/0", ("input", "id")),
        ("/a~1b/1/~0", ("vars", "y")),
        ("/c", ("steps", "z", "output")),
    ]
    assert template.roots == {"input", "vars", "steps"}


def test_null_in_text_is_an_error_and_not_an_empty_string() -> None:
    """It names the string in the document and the expression in the string."""
    with pytest.raises(ExpressionError) as caught:
        compile_template({"with": {"url": "https://x/{{ input.none }}"}}).evaluate(SCOPE)
    assert caught.value.code is ErrorCode.NULL_IN_TEXT
    assert caught.value.pointer == "/with/url"
    assert caught.value.source[caught.value.position :].startswith("input.none")


@pytest.mark.parametrize(
    "text", ["{{ input.id", "{{ 'a }}", "{{ (1 }}", "{{ }}", "{{ 1 } }}", "{{ {'a': 1 }}", "{{{{"]
)
def test_braces_that_do_not_match_are_refused(text: str) -> None:
    """An unclosed expression is not taken for text."""
    with pytest.raises(ExpressionSyntaxError):
        compile_template(text)


def test_a_key_is_no_template() -> None:
    """It would be taken literally, in silence."""
    (problem,) = template_problems({"a": {"x{{ input.id }}": 1}})
    assert problem.pointer == "/a/x{{ input.id }}"


def test_all_problems_of_a_document_are_reported_at_once() -> None:
    """Each with its pointer, in document order."""
    problems = template_problems({"a": "{{ 1 + }}", "b": ["fine", "{{ nope() }}"], "c": "{{ input.id }}"})
    assert [(problem.code, problem.pointer) for problem in problems] == [
        (ErrorCode.SYNTAX, "/a"),
        (ErrorCode.UNKNOWN_FUNCTION, "/b/1"),
    ]


def test_a_document_of_many_references_is_as_large_as_it_is_when_written_out() -> None:
    """A small document cannot blow up a large value beyond the limit."""
    template = compile_template(["{{ input.big }}" for _ in range(20)])
    assert template.evaluate({"input": {"big": "x" * 1_000}})
    with pytest.raises(ExpressionError) as caught:
        template.evaluate({"input": {"big": ["x" * 1_000] * 100}})
    assert caught.value.code is ErrorCode.BUDGET_SIZE


def test_all_expressions_of_a_document_share_one_budget() -> None:
    """Ten expressions cannot do ten times the work of one."""
    loop = "{{ range(3000).all(x, true) }}"
    assert compile_template([loop] * 3).evaluate({}) == [True] * 3
    with pytest.raises(ExpressionError) as caught:
        compile_template([loop] * 4).evaluate({})
    assert (caught.value.code, caught.value.pointer) == (ErrorCode.BUDGET_ITERATIONS, "/3")
