"""No expression does more work than its budget, whatever it is made of.

Time is never asserted: what is counted is. Each case would take seconds or gigabytes if a single
charge were missing or were made after the work.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.core.expression import (
    MAX_ITERATIONS,
    MAX_SIZE,
    MAX_WORK,
    ErrorCode,
    ExpressionError,
    compile_expression,
)
from reflux.core.expression.errors import Fault
from reflux.core.expression.frame import Frame
from reflux.core.expression.program import compile_program

BIG = "a" * MAX_SIZE
SCOPE = {
    "xs": list(range(10_000)),
    "floats": [float(i * 7919 % 10_007) for i in range(100_000)],
    "big": BIG,
    "almost": BIG[:-1] + "b",
    "text": "a" * 30_000,
    "part": "a" * 50 + "b" + "a" * 49,
    "objects": [{"a": [i, str(i)], "b": {"c": i}} for i in range(20_000)],
    "json": "[{}" + ",{}" * 150_000 + "]",
    "percents": "%" * MAX_SIZE,
    "deep": [[[[[[[[[[[[0]]]]]]]]]]]],
    "terms": "1s" * 500_000,
    "none": {},
    "long": "1234567890123456789",
    "wide": "\U0001f600" * 250_000,
}
TOO_MUCH = [
    "xs.map(i, xs.map(j, i * j))",
    "xs.all(i, xs.all(j, true))",
    "xs.map(i, [i, i, i, i, i, i, i, i, i, i].map(j, j))",
    "xs.map(i, i in xs)",
    "xs.filter(i, big == almost)",
    "xs.filter(i, big < almost)",
    "xs.filter(i, objects == objects)",
    "xs.filter(i, deep == deep)",
    "xs.filter(i, big.contains('b'))",
    "xs.filter(i, text.contains(part))",
    "xs.filter(i, text.lastIndexOf(part) > 0)",
    "xs.map(i, big.reverse())",
    "xs.map(i, almost.replace('b', 'c'))",
    "xs.map(i, text + text)",
    "xs.map(i, json.encode(objects))",
    "xs.map(i, json.decode(json))",
    "xs.map(i, sum(floats))",
    "xs.map(i, floats.sort())",
    "xs.map(i, floats + [i])",
    "xs.map(i, text.split('a').size())",
    "xs.map(i, text.lowerAscii())",
    "xs.map(i, '%s'.format([text]))",
    "xs.map(i, range(1000))",
    "floats.sort()",
    "objects.distinct()",
    "percents.format([])",
    "floats.all(x, true)",
    f"[{'wide.upperAscii(), ' * 31}].size()",
    f"[{'wide.lowerAscii(), ' * 31}].size()",
    f"xs.map(i, {'none.a ?? ' * 6}1).size()",
    f"xs.all(i, {' || '.join(['none.a'] * 8)})",
    f"[timestamp(0)].map(t, range(4000).map(i, '{'%s' * 5}'.format([t, t, t, t, t])).size())",
    "[range(2000).map(i, timestamp(i * 7919 % 10007))].map(l, range(16).map(k, l.min()))",
    f"[timestamp(0)].map(t, [t - t].map(d, range(9000).map(i, t{' - d + d' * 5}).size()))",
    f"range(9000).map(i, [{'int(long), ' * 4}].size())",
    f"range(4500).map(i, [{'string(floats[i]), ' * 7}].size())",
]
TOO_LARGE = [
    "big + 'a'",
    "'a' + big + 'b'",
    "[floats, floats, floats]",
    "floats + floats",
    "range(200000)",
    "big.split('')",
    "big.split('a')",
    "big.replace('a', 'bb')",
    "['a', 'a'].join(big)",
    "'%s%s'.format([big, big])",
    "base64.encode(big)",
    "json.encode(big)",
    "[big, 1]",
    "xs.map(i, text)",
    "xs.map(i, [i, i, i, i, i, i, i, i, i, i, i, i])",
    f"[[timestamp(0)]]{'.map(a, a + a + a + a + a + a + a + a + a + a)' * 5}",
]


@pytest.mark.parametrize("source", TOO_MUCH)
def test_too_much_work_is_refused_within_the_budget(source: str) -> None:
    """It ends in a budget error before the work is done, and holds little memory until then."""
    program = compile_program(source)
    frame = Frame(SCOPE, program.slots)
    tracemalloc.start()
    try:
        with pytest.raises(Fault) as caught:
            program.result(frame)
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.code in {ErrorCode.BUDGET_WORK, ErrorCode.BUDGET_ITERATIONS, ErrorCode.BUDGET_SIZE}


@pytest.mark.parametrize("source", TOO_LARGE)
def test_a_value_that_is_too_large_is_refused(source: str) -> None:
    """The error says so, whether the value is the result or a step on the way."""
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source).evaluate(SCOPE)
    assert caught.value.code is ErrorCode.BUDGET_SIZE


@pytest.mark.parametrize(
    "source",
    [
        "xs.map(i, {'sku': string(i), 'qty': i * 2 + 1})[9999].qty == 19999",
        "xs.map(i, i * 2).filter(i, i % 4 == 0).size()",
        "sum(floats) > 0.0",
        "xs.map(i, string(i)).join(',').split(',').size() == 10000",
        "max(floats) == 10006.0",
        "big.size() == big.replace('a', 'b').size()",
        "objects.map(o, o.b.c)[0] ?? 1",
        "json.decode(json.encode(xs)) == xs",
        "xs.map(i, none.a ?? i).size() == 10000",
        "xs.map(i, int(string(i)) * 2).size() == 10000",
        "range(2000).map(i, timestamp(2000 - i)).sort()[0] == timestamp(1)",
        "1" + " + 1" * 1_000,
        "text" + " + 'x'" * 500,
    ],
)
def test_ordinary_work_on_large_data_is_within_the_budget(source: str) -> None:
    """The budget is for what would hold up others, not for a list of ten thousand lines."""
    scope = SCOPE | {"objects": SCOPE["objects"][:10_000]}
    if source.startswith("xs.map(i, i * 2)"):
        scope["xs"] = scope["xs"][:5_000]
    assert compile_expression(source).evaluate(scope) is not None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_iterations_are_counted_exactly_over_all_macros(sizes: list[int]) -> None:
    """Nested macros multiply; the 10,001st iteration is refused."""
    source = "true"
    for level, size in enumerate(sizes):
        source = f"range({size}).all(v{level}, {source})"
    wanted, product = 0, 1
    for size in reversed(sizes):
        product *= size
        wanted += product
    program = compile_program(source)
    frame = Frame({}, program.slots)
    if wanted > MAX_ITERATIONS:
        with pytest.raises(Fault) as caught:
            program.result(frame)
        assert caught.value.code is ErrorCode.BUDGET_ITERATIONS
    else:
        assert program.result(frame) is True
        assert frame.iterations == MAX_ITERATIONS - wanted
        assert 0 < frame.work < MAX_WORK


@pytest.mark.parametrize("operand", ["'ab'", "[1, 2]"])
def test_a_long_sum_copies_its_parts_once(operand: str) -> None:
    """Twice the terms, about twice the work: not four times."""

    def work(terms: int) -> int:
        program = compile_program(" + ".join(["x"] * terms))
        frame = Frame({"x": compile_expression(operand).evaluate({})}, program.slots)
        program.result(frame)
        return MAX_WORK - frame.work

    assert work(800) <= 2 * work(400) + 2


def test_a_name_that_is_a_long_text_costs_nothing() -> None:
    """Neither in the message, of which there may be thousands, nor in the search for what was meant."""
    alike = {f"{'a' * 190}{number}": 1 for number in range(200)}
    with pytest.raises(ExpressionError) as caught:
        compile_expression("m[big]").evaluate({"m": alike, "big": BIG})
    assert caught.value.message == f"m has no field '{'a' * 99}…'"
    tracemalloc.start()
    try:
        assert compile_expression("m[big] ?? null[big] ?? null[[big]] ?? 1").evaluate(SCOPE | {"m": {}}) == 1
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_value_nested_too_deeply_is_refused() -> None:
    """64 levels are a result, 65 are not, also inside comparisons."""
    value: object = 1
    for _ in range(64):
        value = [value]
    assert compile_expression("[x][0]").evaluate({"x": value}) == value
    for source in ("[x]", "[x] == [x]", "json.encode([x])", "[[x]].distinct()"):
        with pytest.raises(ExpressionError) as caught:
            compile_expression(source).evaluate({"x": value})
        assert caught.value.code is ErrorCode.BUDGET_DEPTH
