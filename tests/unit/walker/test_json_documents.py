"""A document keeps its bytes; its value is read when somebody asks, once."""

from __future__ import annotations

import pytest

from reflux.core.document import NULL, Json


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
