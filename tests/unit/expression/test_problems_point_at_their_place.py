"""Syntax, and how problems are shown: code, offset, line, caret."""

from __future__ import annotations

import pytest

from reflux.core.expression import (
    ErrorCode,
    ExpressionError,
    ExpressionSyntaxError,
    compile_expression,
    compile_template,
)
from tests.unit.expression.language import failure, refusal, value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("'\\n\\x41\\u00e9\\U0001F600\\101\\\\'", "\nAé😀A\\"),
        ("r'\\n'", "\\n"),
        ("r'\\'", "\\"),
        ("'''a'b\nc'''", "a'b\nc"),
        ('"""a""" + ""', "a"),
        ("[1, 2,]", [1, 2]),
        ("{'a': 1,}", {"a": 1}),
        ("1 // comment", 1),
        ("-2.abs()", 2),
        ("1 - -1", 2),
        ("- -1", 1),
        ("!!true", True),
        (".5 + 1e-1", 0.6),
        ("1 + 2 * 3 == 7 && true || false ? 'y' : 'n'", "y"),
    ],
)
def test_source_is_read_as_cel_reads_it(source: str, expected: object) -> None:
    """Literals, escapes, comments, precedence."""
    assert value(source) == expected


@pytest.mark.parametrize(
    ("source", "position", "message"),
    [
        ("", 0, "expected a value, found the end"),
        ("1 +", 3, "expected a value, found the end"),
        ("1 2", 2, "expected the end of the expression, found '2'"),
        ("a = 1", 2, "unexpected '='; equality is '=='"),
        ("a & b", 2, "unexpected '&'; 'and' is '&&'"),
        ("(1", 2, "expected ')', found the end"),
        ("a.", 2, "expected a name, found the end"),
        ("'abc", 0, "this string is not closed"),
        ("'a\nb'", 0, "this string is not closed"),
        ("'\\q'", 1, "unknown escape in a string; a backslash is written '\\\\'"),
        ("'\\ud800'", 1, "this escape is not a Unicode character"),
        ("1u", 1, "there are no unsigned numbers; leave out the 'u'"),
        ("b'a'", 0, "there are no bytes; use a string, or base64.decode()"),
        ("12ab", 2, "a number may not run into a name"),
        ("for + 1", 0, "'for' is a reserved word"),
        ("a.in", 2, 'a field of this name is written ["in"]'),
        ("a ? b", 5, "expected ':', found the end"),
    ],
)
def test_text_that_is_no_expression_is_refused_at_its_place(source: str, position: int, message: str) -> None:
    """With an offset and, where the slip is a common one, with the right spelling."""
    problem = refusal(source)
    assert isinstance(problem, ExpressionSyntaxError)
    assert (problem.position, problem.message) == (position, message)


def test_a_rendered_problem_has_the_line_and_a_caret_under_the_place() -> None:
    """What a person reads in a terminal."""
    source = "steps.fetch.output.total >\n  vars.limt + 1"
    error = failure(source, steps={"fetch": {"output": {"total": 1}}}, vars={"limit": 1})
    assert error.render() == (
        "vars has no field 'limt'; did you mean 'limit'?\n"
        "    vars.limt + 1\n"
        "         ^"
    )  # fmt: skip


def test_a_rendered_problem_of_a_template_names_the_place_in_the_document() -> None:
    """The whole string is shown, so the caret stands where the author looks."""
    template = compile_template({"with": {"url": "https://x/{{ 1 / input.n }}"}})
    with pytest.raises(ExpressionError) as caught:
        template.evaluate({"input": {"n": 0}})
    assert caught.value.render() == (
        "division by zero\n"
        "  at /with/url\n"
        "  https://x/{{ 1 / input.n }}\n"
        "                 ^"
    )  # fmt: skip


def test_a_long_line_is_shown_around_the_place() -> None:
    """The caret stays in sight, and a tab does not move it."""
    source = "1 +\t" * 100 + "nope"
    _, shown, caret = refusal(source).render().split("\n")
    assert len(shown) <= 102
    assert shown[caret.index("^") :] == "nope"


@pytest.mark.parametrize(
    ("before", "columns"),
    [("'価格' + ", 9), ("'😀😀' + ", 9), ("'e\u0301' + ", 6), ("'\u200b' + ", 6), ("'é' + ", 6)],
)
def test_the_caret_stands_below_characters_of_any_width(before: str, columns: int) -> None:
    """A terminal gives two columns to some of them, and none to what is drawn over another one."""
    *_, caret = refusal(before + "nope()").render().split("\n")
    assert caret == " " * (2 + columns) + "^"


def test_a_message_never_shows_a_value() -> None:
    """A message may be logged; the data of a run may not."""
    for source in (
        "int(s)",
        "timestamp(s)",
        "s + 1",
        "s.x",
        "json.decode(s)",
        "duration(s)",
        "[1][s]",
        "double(s)",
    ):
        assert "hunter2" not in failure(source, s="hunter2").render()


def test_source_longer_than_the_limit_is_refused() -> None:
    """4,096 characters are an expression, 4,097 are not; in a template only the expression counts."""
    assert compile_expression("1".ljust(4096))
    assert refusal("1".ljust(4097)).code is ErrorCode.TOO_LONG
    assert refusal("'" + "a" * 1_000_000 + "'").code in {ErrorCode.TOO_LONG, ErrorCode.SYNTAX}
    assert compile_template("a" * 10_000 + "{{ 1 }}").evaluate({}) == "a" * 10_000 + "1"
    with pytest.raises(ExpressionSyntaxError, match="longer than"):
        compile_template("{{ 1" + " " * 5_000 + "}}")
