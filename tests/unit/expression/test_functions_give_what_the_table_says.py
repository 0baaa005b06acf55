"""The function table: each function is documented, can be called both ways, and does what it says."""

from __future__ import annotations

import pytest

from reflux.core.expression import FUNCTIONS, ErrorCode
from tests.unit.expression.language import failure, refusal, value

EXAMPLES = [
    ("'Hello'.contains('ell')", True),
    ("'Hello'.startsWith('He')", True),
    ("'Hello'.endsWith('lo')", True),
    ("'Hello'.indexOf('l')", 2),
    ("'Hello'.indexOf('l', 3)", 3),
    ("'Hello'.lastIndexOf('l', 2)", 2),
    ("'Hello'.indexOf('x')", -1),
    ("'abc'.charAt(1)", "b"),
    ("'abc'.charAt(3)", ""),
    ("'abc'.substring(1, 3)", "bc"),
    ("'a-b-c'.replace('-', '+', 1)", "a+b-c"),
    ("'a,b,,c'.split(',')", ["a", "b", "", "c"]),
    ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
    ("'héj'.split('')", ["h", "é", "j"]),
    ("['a', 'b'].join('-')", "a-b"),
    ("'ÅaZ'.lowerAscii()", "Åaz"),
    ("'åaz'.upperAscii()", "åAZ"),
    ("' \\t\\u00a0x '.trim()", "x"),
    ("'%s is %d, %.2f%% %x'.format(['a', 3, 2, 255])", "a is 3, 2.00% ff"),
    ("'%e'.format([1500.0])", "1.500000e+03"),
    ("size('é')", 1),
    ("{'b': 1, 'a': 2}.keys()", ["b", "a"]),
    ("{'b': 1, 'a': 2}.values()", [1, 2]),
    ("sum([1, 2.5])", 3.5),
    ("sum([])", 0),
    ("min(3, 1.5)", 1.5),
    ("max(['a', 'c', 'b'])", "c"),
    ("math.least(2, 1)", 1),
    ("math.greatest([2, 1])", 2),
    ("[3, 1.5, 2].sort()", [1.5, 2, 3]),
    ("[1, 1.0, true, '1', [1], [1.0], {'a': 1}, {'a': 1.0}].distinct()", [1, True, "1", [1], {"a": 1}]),
    ("[1, [2, [3]], []].flatten()", [1, 2, [3]]),
    ("[1, 2].reverse()", [2, 1]),
    ("'ab'.reverse()", "ba"),
    ("[1, 2, 3].slice(1)", [2, 3]),
    ("[1, 2, 3].slice(0, 2)", [1, 2]),
    ("[1, 2].first() + [1, 2].last()", 3),
    ("range(3)", [0, 1, 2]),
    ("abs(-2)", 2),
    ("ceil(1.2)", 2.0),
    ("floor(-1.2)", -2.0),
    ("round(2.5)", 3.0),
    ("round(-2.5)", -3.0),
    ("round(0.49999999999999994)", 0.0),
    ("math.trunc(-1.7)", -1.0),
    ("sign(-3)", -1),
    ("int('-12')", -12),
    ("int(-1.9)", -1),
    ("int(timestamp('1970-01-01T00:01:00Z'))", 60),
    ("double('1.5e3')", 1500.0),
    ("string(12.0)", "12"),
    ("string(0.1)", "0.1"),
    ("string(1e22)", "1e+22"),
    ("string(true)", "true"),
    ("bool('true')", True),
    ("[null, true, 1, 1.0, '', [], {}, timestamp(0), duration('1s')].map(x, type(x)).join(' ')",
     "null bool int double string list map timestamp duration"),
    ("base64.encode('héj')", "aMOpag=="),
    ("base64.decode('aMOpag==')", "héj"),
    ("base64.decode('aMOpag')", "héj"),
    ("json.encode({'a': [1, 1.5, null, 'é']})", '{"a":[1,1.5,null,"é"]}'),
    ("json.decode('{\"a\": [1, 1.5, null]}').a[1]", 1.5),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), EXAMPLES)
def test_a_function_gives_the_documented_value(source: str, expected: object) -> None:
    """Value and kind."""
    found = value(source)
    assert found == expected
    assert type(found) is type(expected)


def test_every_function_has_an_example() -> None:
    """A function without one would be untested; times have a file of their own."""
    shown = " ".join(source for source, _ in EXAMPLES)
    untested = {
        name for name in FUNCTIONS if not name.startswith(("get", "math.")) and f"{name}(" not in shown
    }
    assert untested == set()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_is_documented_with_a_signature_and_a_line(name: str) -> None:
    """The table is what the editor and the documentation show."""
    function = FUNCTIONS[name]
    assert function.signature.startswith(f"{function.name}(")
    assert len(function.summary.split()) > 1
    assert 0 < function.least <= function.most
    assert all(kinds for _, kinds in function.parameters)


def test_a_function_may_be_called_both_ways() -> None:
    """`f(a, b)` and `a.f(b)` are the same."""
    assert value("contains('abc', 'b') == 'abc'.contains('b') && [1].size() == size([1])")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("size(1)", ErrorCode.WRONG_TYPE),
        ("'a'.contains(1)", ErrorCode.WRONG_TYPE),
        ("[1].join()", ErrorCode.WRONG_TYPE),
        ("sum(['a'])", ErrorCode.WRONG_TYPE),
        ("sort([1, 'a'])", ErrorCode.WRONG_TYPE),
        ("max([1, 'a'])", ErrorCode.WRONG_TYPE),
        ("string([1])", ErrorCode.WRONG_TYPE),
        ("string(null)", ErrorCode.WRONG_TYPE),
        ("'%d'.format(['a'])", ErrorCode.WRONG_TYPE),
        ("'%s'.format([null])", ErrorCode.WRONG_TYPE),
        ("'%d'.format([])", ErrorCode.BAD_VALUE),
        ("'%q'.format([1])", ErrorCode.BAD_VALUE),
        ("'x'.format([1])", ErrorCode.BAD_VALUE),
        ("min([])", ErrorCode.BAD_VALUE),
        ("int('1.5')", ErrorCode.BAD_VALUE),
        ("int(' 1')", ErrorCode.BAD_VALUE),
        ("double('inf')", ErrorCode.BAD_VALUE),
        ("bool('T')", ErrorCode.BAD_VALUE),
        ("base64.decode('?')", ErrorCode.BAD_VALUE),
        ("json.decode('{')", ErrorCode.BAD_VALUE),
        ("range(-1)", ErrorCode.BAD_VALUE),
        ("'abc'.substring(2, 1)", ErrorCode.INDEX),
        ("'abc'.charAt(4)", ErrorCode.INDEX),
        ("[1].slice(0, 2)", ErrorCode.INDEX),
        ("[].first()", ErrorCode.INDEX),
        ("{'a': 1, 'a': 2}", ErrorCode.DUPLICATE_KEY),
        ("{1: 2}", ErrorCode.WRONG_TYPE),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error(source: str, code: ErrorCode) -> None:
    """Nothing is guessed, and nothing becomes null or an empty text."""
    assert failure(source).code is code


@pytest.mark.parametrize(
    ("source", "code", "hint"),
    [
        ("sizee([1])", ErrorCode.UNKNOWN_FUNCTION, "did you mean size()?"),
        ("'a'.matches('a')", ErrorCode.UNKNOWN_FUNCTION, "regular expressions need a transform.execute step"),
        ("json.parse('1')", ErrorCode.UNKNOWN_FUNCTION, "there is no function json.parse()"),
        ("size()", ErrorCode.WRONG_ARGUMENTS, "size(value: string|list|map): int"),
        ("size(1, 2)", ErrorCode.WRONG_ARGUMENTS, "size(value: string|list|map): int"),
    ],
)
def test_a_call_that_cannot_work_is_refused_when_it_is_compiled(
    source: str, code: ErrorCode, hint: str
) -> None:
    """Long before a run, and with what would have been right."""
    problem = refusal(source)
    assert problem.code is code
    assert hint in problem.message
