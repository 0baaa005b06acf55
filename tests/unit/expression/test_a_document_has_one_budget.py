"""All results of a document share its room and its depth, and the one that runs over is named."""

from __future__ import annotations

import pytest

from reflux.core.document import MAX_DEPTH, MAX_DOCUMENT_BYTES
from reflux.core.expression import (
    MAX_SIZE,
    ErrorCode,
    ExpressionError,
    ExpressionProblem,
    Room,
    compile_expression,
    compile_template,
)
from reflux.core.expression import values as sealing

LONG = {"input": {"l": list(range(131_000)), "b": "x" * 600_000, "n": 1}}


def nested(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = {"a": value}
    return value


def wrapped(levels: int, inside: object) -> object:
    for _ in range(levels):
        inside = [inside]
    return inside


def failure(template: object, scope: dict) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        compile_template(template).document(scope)
    return caught.value


def test_computed_results_stop_at_the_first_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand results of almost a megabyte cost about as much as one."""
    visited = 0
    seal = sealing.Sealer.seal

    def counted(self: sealing.Sealer, value: object, depth: int = 0) -> object:
        nonlocal visited
        visited += 1
        return seal(self, value, depth)

    monkeypatch.setattr(sealing.Sealer, "seal", counted)
    error = failure({"v": ["{{ input.l ?? 0 }}"] * 2_000}, LONG)
    assert (error.code, error.pointer) == (ErrorCode.BUDGET_SIZE, "/v/1")
    assert error.source[error.position :].startswith("input.l ?? 0")
    assert visited <= MAX_SIZE // 8 + 3


@pytest.mark.parametrize("second", ["{{ input.b }}", "{{ input.b + '' }}", "it is {{ input.b }}"])
def test_the_text_that_runs_over_is_named(second: str) -> None:
    """Whether it is selected, computed, or a part of a longer text."""
    error = failure({"v": "{{ input.b }}", "w": second}, LONG)
    assert (error.code, error.pointer, error.source) == (ErrorCode.BUDGET_SIZE, "/w", second)
    assert "  at /w\n" in error.render()


def test_parts_of_the_scope_count_as_long_as_they_are_written() -> None:
    """One or several, they fit exactly as far as their JSON does."""
    lines = [{"i": i % 10, "s": "abc"} for i in range(45_000)]
    scope = {"input": {"lines": lines, "n": 1}}
    document = compile_template({"l": "{{ input.lines }}", "n": "{{ input.n }}"}).document(scope)
    assert MAX_DOCUMENT_BYTES * 3 // 4 < len(document.raw) < MAX_DOCUMENT_BYTES
    assert document.value == {"l": lines, "n": 1}
    error = failure({"l": "{{ input.lines }}", "m": ["{{ input.lines }}"]}, scope)
    assert (error.code, error.pointer) == (ErrorCode.BUDGET_SIZE, "/m/0")


def test_all_steps_together_are_measured_and_not_written() -> None:
    """They may hold as much as a whole run."""
    steps = {f"s{i}": {"output": ["x" * 1_000] * 100} for i in range(20)}
    for source in ("{{ steps }}", "{{ nodes }}"):
        assert failure(source, {"steps": steps}).code is ErrorCode.BUDGET_SIZE


def test_documents_put_together_share_a_room() -> None:
    """What was made before leaves less for the next."""
    template, room = compile_template("{{ input.l ?? 0 }}"), Room()
    for _ in range(4):
        assert template.evaluate(LONG, room) == LONG["input"]["l"]
    with pytest.raises(ExpressionError) as caught:
        template.evaluate(LONG, room)
    assert caught.value.code is ErrorCode.BUDGET_SIZE


@pytest.mark.parametrize(
    "source",
    ["{{ input.v }}", "{{ input.v ?? 0 }}", "{{ {'a': input.v.a} }}"],
    ids=["plain", "default", "map"],
)
@pytest.mark.parametrize("beside", [[], ["{{ input.n }}"]], ids=["alone", "beside another"])
@pytest.mark.parametrize("around", [1, 14, 50])
def test_the_levels_around_an_expression_count(source: str, beside: list, around: int) -> None:
    """64 levels are a document; the 65th is refused where the expression stands."""
    template = wrapped(around - 1, [source, *beside])
    deepest = {"input": {"v": nested(MAX_DEPTH - around), "n": 1}}
    assert compile_template(template).document(deepest).value
    deeper = {"input": {"v": nested(MAX_DEPTH - around + 1), "n": 1}}
    error = failure(template, deeper)
    assert (error.code, error.pointer) == (ErrorCode.BUDGET_DEPTH, "/0" * around)
    assert "nests deeper than 64 levels" in error.message
    assert error.source[error.position :].startswith(source[3:])


@pytest.mark.parametrize("levels", [65, 200, 254, 900])
def test_no_depth_ends_in_anything_but_the_typed_error(levels: int) -> None:
    """Also where the writer of JSON gives up by itself."""
    value = nested(levels)
    for template in ("{{ input.v }}", {"a": "{{ input.v }}"}, ["{{ input.v }}", "{{ input.v }}"]):
        assert failure(template, {"input": {"v": value}}).code is ErrorCode.BUDGET_DEPTH


def test_a_constant_of_65_levels_is_refused() -> None:
    """Also if there is nothing in the last one."""
    assert compile_template(wrapped(63, [])).is_constant
    with pytest.raises(ExpressionProblem, match="deeper than 64 levels"):
        compile_template(wrapped(64, []))


def test_an_expression_alone_has_the_whole_room() -> None:
    """A text of the largest size is a result."""
    assert compile_expression("input.b").evaluate({"input": {"b": "x" * MAX_SIZE}}) == "x" * MAX_SIZE
