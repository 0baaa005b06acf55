"""What the tests of the language share: one call for a value, one for a refusal."""

from __future__ import annotations

from reflux.core.expression import ExpressionError, ExpressionProblem, compile_expression


def value(source: str, **scope: object) -> object:
    """The value of an expression over the given roots."""
    return compile_expression(source).evaluate(scope)


def refusal(source: str, **scope: object) -> ExpressionProblem:
    """The problem that compiling or evaluating an expression ends in."""
    try:
        found = compile_expression(source).evaluate(scope)
    except ExpressionProblem as problem:
        return problem
    raise AssertionError(f"{source} gave {found!r}")


def failure(source: str, **scope: object) -> ExpressionError:
    """As `refusal`, where the expression compiles."""
    problem = refusal(source, **scope)
    assert isinstance(problem, ExpressionError), problem
    return problem
