"""A document keeps its bytes; its value is read when somebody asks, once."""

from __future__ import annotations

import pytest

from reflux.core.document import NULL, Json, TooDeep, write


def test_bytes_stay_as_they_came():
    """Blanks, order, digits: what a node answered is what people see."""
    raw = b'{"b": 1.10, "a": 12345678901234567890}'
    document = Json(raw)
    assert document.value == {"b": 1.1, "a": 12345678901234567890}
    assert document.raw is raw


def test_a_value_is_read_once():
    """And shared from then on."""
    document = Json(b'{"a": []}')
    assert document.value is document.value


def test_a_document_of_a_value_knows_both():
    """It is written once, and never read."""
    value = {"a": [1, None, True]}
    document = Json.of(value)
    assert document.raw == b'{"a":[1,null,true]}'
    assert document.value is value


def test_documents_are_equal_when_their_bytes_are():
    """The same value in other bytes is another document."""
    assert Json(b"[1]") == Json.of([1])
    assert hash(Json(b"[1]")) == hash(Json.of([1]))
    assert Json(b"[1]") != Json(b"[ 1]")
    assert Json(b"null") == NULL
    assert NULL.value is None
    assert NULL != b"null"


def test_what_is_not_json_says_so_when_it_is_read():
    """Not before: passing it on needs no reading."""
    document = Json(b"{")
    with pytest.raises(ValueError):
        _ = document.value


def test_only_json_values_have_a_document():
    """Anything else is a mistake of ours."""
    with pytest.raises(TypeError):
        Json.of({"a": object()})


def nested(levels: int, inside: object = 0) -> object:
    for number in range(levels):
        inside = [inside, "]["] if number % 2 else {"a": inside}
    return inside


@pytest.mark.parametrize("around", [0, 1, 64])
def test_a_bounded_document_has_64_levels_at_most(around: int):
    """Those that will stand around it included; a scalar has none."""
    deepest = nested(64 - around)
    assert write(deepest, around) == Json.of(deepest).raw
    assert write("x", around) == b'"x"'
    for levels in (1, 2, 200):
        with pytest.raises(TooDeep, match="deeper than 64 levels"):
            write(nested(levels, deepest), around)
    assert Json.bounded(nested(64)) == Json.of(nested(64))
    with pytest.raises(TooDeep):
        Json.bounded(nested(65))


@pytest.mark.parametrize("value", [object(), 1 << 70, "\ud800"])
def test_what_has_no_json_is_not_taken_for_depth(value: object):
    """It is a mistake of ours, whatever stands beside it."""
    with pytest.raises(TypeError):
        write({"a": [value]})
