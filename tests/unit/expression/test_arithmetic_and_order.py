"""Numbers: int and double mix, int64 is exact, and what has no answer is an error."""

from __future__ import annotations

import pytest

from reflux.core.expression import ErrorCode
from tests.unit.expression.language import failure, value

SAME_KIND = [
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("-7 % 3", -1),
    ("7 % -3", 1),
    ("2 + 3 * 4 - 1", 13),
    ("-9223372036854775808", -(2**63)),
    ("0xFF", 255),
    ("1 + 1.5", 2.5),
    ("2 * 1.5", 3.0),
    ("7.0 / 2", 3.5),
    ("7.5 % 2", 1.5),
    ("1 - 0.5 == 0.5", True),
    ("1 == 1.0", True),
    ("2 > 1.5", True),
    ("9007199254740993 > 9007199254740992.0", True),
    ("'b' > 'a'", True),
    ("true > false", True),
    ("[1, 2.0] == [1.0, 2]", True),
    ("{'a': [1]} == {'a': [1.0]}", True),
    ("true == 1", False),
    ("null == 0", False),
    ("'1' == 1", False),
    ("1 in [true, 1.0]", True),
    ("true in [1]", False),
    ("'a' in {'a': 1}", True),
    ("1 in {'a': 1}", False),
    ("[1] + [2] + [3]", [1, 2, 3]),
    ("'a' + 'b' + 'c'", "abc"),
    ("!true == false", True),
    ("1 < 2 == true", True),
]


@pytest.mark.parametrize(("source", "expected"), SAME_KIND)
def test_an_operator_gives_the_value_and_the_kind_that_cel_gives(source: str, expected: object) -> None:
    """A result has its exact kind: an int is no double and no bool."""
    found = value(source)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "source",
    [
        "9223372036854775807 + 1",
        "-9223372036854775808 - 1",
        "9223372036854775807 * 2",
        "-9223372036854775808 / -1",
        "-(-9223372036854775808)",
        "9223372036854775808",
        "int(1e19)",
        "int(-9223372036854775808.0)",
        "abs(-9223372036854775808)",
        "sum([9223372036854775807, 1])",
    ],
)
def test_an_int_beyond_64_bits_is_an_error_and_never_wraps(source: str) -> None:
    """No silent wrap-around, and no silent change to a double."""
    with pytest.raises(Exception) as caught:  # a literal fails when it is compiled
        value(source)
    assert caught.value.code is ErrorCode.OVERFLOW


@pytest.mark.parametrize("source", ["1 / 0", "1 % 0", "1.5 % 0"])
def test_division_by_zero_is_an_error_that_points_at_the_operator(source: str) -> None:
    """The caret stands under the sign, not at the start of the expression."""
    error = failure(source)
    assert error.code is ErrorCode.DIVISION_BY_ZERO
    assert source[error.position] in "/%"


def test_doubles_follow_ieee_754_inside_but_a_result_must_be_json() -> None:
    """An infinity may be compared; it may not leave the expression, not even as text."""
    assert value("1.0 / 0.0 > 5.0")
    assert value("-1.0 / 0.0 < 5.0")
    for source in ("1.0 / 0.0", "[0.0 / 0.0]", "string(1.0 / 0.0)"):
        assert failure(source).code is ErrorCode.NOT_JSON


@pytest.mark.parametrize(
    "source",
    ["'a' + 1", "1 < 'a'", "null < 1", "[1] < [2]", "-'a'", "!1", "1 && true", "1 ? 2 : 3", "1 in 'a'"],
)
def test_an_operator_refuses_kinds_it_is_not_defined_for(source: str) -> None:
    """Nothing is converted behind the author's back."""
    assert failure(source).code is ErrorCode.WRONG_TYPE


def test_a_value_that_is_no_json_is_refused_and_not_compared_as_different() -> None:
    """Comparing a foreign object would be false for ever, in silence."""
    assert failure("a == 'x'", a=object()).code is ErrorCode.NOT_JSON
    assert failure("a", a=object()).code is ErrorCode.NOT_JSON
