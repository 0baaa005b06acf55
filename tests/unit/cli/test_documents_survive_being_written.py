"""Documents on disk: what is written reads back as the same value, and a place has its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reflux.cli import documents
from reflux.runtime import documents as reader

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    st.text("0123456789eEox+-._~:#{}[]&*!|>'\"%@` \n\ttruefalsnyYN", max_size=8),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_reads_back_as_the_same(value: object) -> None:
    """By the server's reader, for every JSON value: 1e3, 0o17, yes, ~, line breaks and all."""
    written = documents.to_yaml({"value": value})
    assert reader.parse(documents.to_body(written.encode(), documents.YAML), what="it") == {"value": value}


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "yes", "on", "~", "null", "2026-01-31", "1_000", "0x1F", ".5", ""]
)
def test_a_text_that_looks_like_something_else_stays_a_text(text: str) -> None:
    """For readers of YAML 1.1 as well as 1.2."""
    written = documents.to_yaml({"value": text})
    assert yaml.safe_load(written) == {"value": text}
    assert reader.parse(documents.to_body(written.encode(), documents.YAML), what="it") == {"value": text}


def test_a_long_text_is_a_block() -> None:
    """A script stays readable."""
    assert documents.to_yaml({"code": "a = 1\nreturn a\n"}) == "code: |\n  a = 1\n  return a\n"


def test_places_have_lines() -> None:
    """Of the key, or of the item of a list; a place that is not there has the line of what is around it."""
    text = b"name: a\nspec:\n  steps:\n    - id: one\n\n    - id: two\n      a/b: 1\n"
    document = documents.Document("f", text, documents.YAML, None)
    assert document.line("/spec/steps/1") == 6
    assert document.line("/spec/steps/1/a~1b") == 7
    assert document.line("/spec/steps/0/with/url") == 4
    assert document.line("/nothing") == 1
    assert documents.Document("f", b"\t{", documents.JSON, None).line("/a") is None


def test_json_has_lines_too() -> None:
    """It is YAML enough for that."""
    document = documents.Document("f", b'{\n  "a": {\n    "b": 1\n  }\n}', documents.JSON, None)
    assert document.line("/a/b") == 3


def test_the_ending_decides_before_the_content(tmp_path: Path) -> None:
    """A .json file is JSON even if YAML would take it; without a known ending the content decides."""
    for name, kind in (("a.json", "json"), ("a.yaml", "yaml"), ("a.yml", "yaml"), ("a", "json")):
        (tmp_path / name).write_text('{"a": 1}')
        document = documents.read(str(tmp_path / name))
        assert (document.content_type, document.value) == (f"application/{kind}", {"a": 1})
    (tmp_path / "b").write_text("a: 1\n")
    assert documents.read(str(tmp_path / "b")).content_type == documents.YAML


@pytest.mark.parametrize(
    ("text", "file"),
    [("orders", False), ("http.request", False), ("./orders", True), ("a.yaml", True), ("-", True)],
)
def test_a_name_is_told_from_a_file(text: str, *, file: bool) -> None:
    """By its look, never by what happens to lie in the folder."""
    assert documents.looks_like_a_file(text) is file
