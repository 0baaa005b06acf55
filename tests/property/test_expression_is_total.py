"""Whatever the text and whatever the scope: a JSON value or one of the two errors, nothing else."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from reflux.core.expression import (
    FUNCTIONS,
    ExpressionError,
    ExpressionProblem,
    ExpressionSyntaxError,
    compile_expression,
    compile_template,
    template_problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["7", "{}", "PT1H"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), inner)
    ),
    max_leaves=12,
)
scopes = st.fixed_dictionaries({"a": json_values, "b": json_values}, optional={"steps": json_values})

SYMBOLS = "+ - * / % ! == != < <= > >= && || ?? ? : in . .? , ( ) [ [? ] { } {{ }} //"
WORDS = (
    "a b steps x true false null 1 0 -1 2.5 9223372036854775807 1e308 has( default( .a ['b'] 'a' '%s' '1h'"
)
PIECES = [
    *SYMBOLS.split(),
    *WORDS.split(),
    *(f"{name}(" for name in FUNCTIONS),
    *(f".{name}(" for name in FUNCTIONS),
    *(f".{macro}(x, " for macro in ("all", "exists", "exists_one", "map", "filter")),
    *("\n", '""', "'2024-01-01T00:00:00Z'", "'+02:00'", "r'\\'", "'''", "'\\u00e9'"),
]
soup = st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)
calls = st.tuples(
    st.sampled_from(sorted(FUNCTIONS)),
    st.lists(st.sampled_from(["a", "b", "1", "'x'", "-1", "[a]", "timestamp(0)"])),
).map(lambda call: f"{call[0]}({', '.join(call[1][: FUNCTIONS[call[0]].most])})")
operations = st.tuples(
    st.sampled_from(["a", "a.a", "a[b]", "a.?b", "[a, b]", "duration('1s')"]),
    st.sampled_from(["+", "-", "*", "/", "%", "==", "<", "<=", "in", "&&", "||", "??"]),
    st.sampled_from(["a", "b", "b[0]", "{'a': b}", "1.5", "timestamp(0)"]),
).map(" ".join)


def is_json(value: object, depth: int = 0) -> bool:
    """Whether JSON can say it, within the limit of depth."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return depth < 64 and all(is_json(part, depth + 1) for part in value)
    if isinstance(value, dict):
        return depth < 64 and all(isinstance(k, str) and is_json(v, depth + 1) for k, v in value.items())
    return value is None or type(value) in {bool, int, str}


def attempt(action: Callable[[], object]) -> tuple[Any, ExpressionProblem | None]:
    """The value of an action, or the problem it ended in; any other exception fails the test."""
    try:
        return action(), None
    except (ExpressionSyntaxError, ExpressionError) as problem:
        return None, problem


def check_problem(problem: ExpressionProblem) -> None:
    """Every problem has a place inside its source and can be shown."""
    assert 0 <= problem.position <= len(problem.source)
    assert problem.message
    assert problem.render().startswith(problem.message)


@settings(max_examples=500, deadline=None)
@given(source=st.text(max_size=40) | soup | calls | operations, scope=scopes)
@example(source="a" * 4097, scope={})
@example(source="(" * 2000, scope={})
@example(source="[" * 2000 + "]" * 2000, scope={})
@example(source="-" * 4000 + "1", scope={})
@example(source="!" * 4000 + "true", scope={})
@example(source="1" + "+1" * 2000, scope={})
@example(source="1" + "-1" * 2000, scope={})
@example(source="1" + " == 1" * 800, scope={})
@example(source="true" + "?true:true" * 400, scope={})
@example(source="a" + ".a" * 2000, scope={})
@example(source="a" + "[0]" * 1300, scope={"a": []})
@example(source="a" + ".size()" * 580, scope={"a": []})
@example(source="[1]" + ".map(x,x)" * 450, scope={})
@example(source="[1].map(x," * 400 + "x" + ")" * 400, scope={})
@example(source="a ?? " * 800 + "1", scope={"a": None})
@example(source="a && " * 800 + "true", scope={"a": True})
@example(source="has(" * 1000, scope={})
@example(source="{'a':" * 800 + "1" + "}" * 800, scope={})
@example(source="a * 1.5", scope={"a": 10**400})
@example(source="double(a)", scope={"a": 10**400})
@example(source="json.encode(a)", scope={"a": 2**70})
@example(source="json.encode(a)", scope={"a": "\ud800"})
@example(source="base64.encode(a)", scope={"a": "\ud800"})
@example(source="json.decode(a)", scope={"a": "[" * 100_000})
@example(source="int(a)", scope={"a": "9" * 5000})
@example(source="timestamp(a)", scope={"a": 10**30})
def test_an_expression_gives_json_or_one_of_two_errors(source: str, scope: dict[str, object]) -> None:
    """No other exception, and no value that JSON does not have unless the scope itself had it."""
    expression, refused = attempt(lambda: compile_expression(source))
    if refused is not None:
        check_problem(refused)
        return
    assert all(0 <= found.required <= len(found.path) for found in expression.references)
    before = repr(scope)
    value, failed = attempt(lambda: expression.evaluate(scope))
    if failed is None:
        assert is_json(value) or not is_json(scope)
        assert repr(expression.evaluate(scope)) == repr(value)
    else:
        check_problem(failed)
    assert repr(scope) == before


@settings(max_examples=200, deadline=None)
@given(
    document=st.recursive(
        st.none()
        | st.integers()
        | st.text(max_size=6)
        | st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    scope=scopes,
)
@example(document=json.loads("[" * 200 + "]" * 200), scope={})
@example(document="{{" * 1000, scope={})
@example(document="{{a}}" * 1000, scope={"a": "x" * 2000})
@example(document=["{{ a }}"] * 2, scope={"a": math.nan})
def test_a_template_gives_json_or_one_of_two_errors(document: object, scope: dict[str, object]) -> None:
    """And `template_problems` finds exactly what compiling refuses."""
    problems = template_problems(document)
    template, refused = attempt(lambda: compile_template(document))
    if refused is not None:
        check_problem(refused)
        assert (refused.message, refused.pointer) == (problems[0].message, problems[0].pointer)
        return
    assert problems == ()
    value, failed = attempt(lambda: template.evaluate(scope))
    if failed is None:
        assert is_json(value) or not is_json(scope)
    else:
        check_problem(failed)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab{} \n'\"\\", max_size=20))
def test_any_text_can_be_written_as_a_literal(text: str) -> None:
    """A template of one string literal gives that string, whatever braces it holds."""
    literal = json.dumps(text)
    assert compile_template(f"{{{{ {literal} }}}}").evaluate({}) == text
    assert compile_template(f"<{{{{{literal}}}}}>").evaluate({}) == f"<{text}>"
