"""`json.decode` refuses what it would otherwise change in silence."""

from __future__ import annotations

import pytest

from reflux.core.expression import ErrorCode
from reflux.core.expression import values as sealing
from tests.unit.expression.language import failure, value

DUPLICATES = ['{"a":1,"a":2}', '[{"x":{"a":1,"b":2,"a":1}}]', r'{"a:":1,"b":":","\u0062":2}']
LONG = [
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775809",
    "[1,99999999999999999999999]",
    '{"a":-99999999999999999999999}',
]


@pytest.mark.parametrize("text", DUPLICATES)
def test_a_key_that_is_there_twice_is_refused(text: str) -> None:
    """None of the two values is taken."""
    error = failure("json.decode(x)", x=text)
    assert error.code is ErrorCode.DUPLICATE_KEY
    assert "same key twice" in error.message


@pytest.mark.parametrize("text", LONG)
def test_an_integer_beyond_64_bits_is_refused(text: str) -> None:
    """As in an input: it would lose its last digits, or be no int of this language."""
    error = failure("json.decode(x)", x=text)
    assert error.code is ErrorCode.OVERFLOW
    assert "beyond 64 bits" in error.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        ("1234567890123456789012.5", 1234567890123456789012.5),
        ("0.1234567890123456789012", 0.1234567890123456789012),
        ("12345678901234567890e2", 12345678901234567890e2),
        (
            '{"a":"{\\"a\\":1,\\"a\\":99999999999999999999}", "b":":"}',
            {"a": '{"a":1,"a":99999999999999999999}', "b": ":"},
        ),
    ],
)
def test_what_only_looks_like_it_is_read(text: str, expected: object) -> None:
    """Doubles may have as many digits as they like, and texts may hold anything."""
    found = value("json.decode(x)", x=text)
    assert found == expected
    assert type(found) is type(expected)


def test_a_text_of_65_levels_is_refused() -> None:
    """64 levels are read."""
    assert value("json.decode(x).size()", x="[" * 64 + "]" * 64) == 1
    assert failure("json.decode(x)", x="[" * 65 + "]" * 65).code is ErrorCode.BUDGET_DEPTH
    assert failure("json.decode(x).size()", x="[" * 1_000 + "]" * 1_000).code is ErrorCode.BUDGET_DEPTH


def test_it_is_not_walked_through_value_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes several times as long as reading it, and longer than it is paid for."""
    monkeypatch.setattr(sealing, "Sealer", None)
    assert value("json.decode(x).size()", x="[" + "[]," * 41_000 + "1]") == 41_001
