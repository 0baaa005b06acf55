"""A person's document is read exactly or refused with its place; nothing is lost in silence."""

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.core.document import MAX_DEPTH
from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason
from reflux.runtime import documents

JSON = "application/json"
YAML = "application/yaml"


def parse(text: str | bytes, content_type: str = JSON, **options: int) -> object:
    data = text.encode() if isinstance(text, str) else text
    return documents.parse(HttpBody(content_type=content_type, data=data), what="the flow", **options)


def refusal(text: str | bytes, content_type: str = JSON, **options: int) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        parse(text, content_type, **options)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}',
        '{"time": "12:30:00", "url": "http://[::1]:80/", "q": "\\":\\\\"}',
        '{"id": "1234567890123456789012345", "pi": 3.14159265358979323846}',
        "[9223372036854775807, -9223372036854775808, 1e20, 0.1, true, null]",
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
    ],
)
def test_json_within_the_bounds_arrives_exactly(text):
    """Colons in strings, long digits in strings and 64 levels are no reason to refuse."""
    assert parse(text) == orjson.loads(text)


@pytest.mark.parametrize(
    ("text", "problem", "place"),
    [
        ('{"a": 1,\n "b": {"c": 1, "c": 2}}', "'c' twice", ("2", "16")),
        ('{"é": 1, "\\u00e9": 2}', "'é' twice", ("1", "10")),
        ('{"n": 9223372036854775808}', "beyond 64 bits", ("1", "7")),
        ('{"n": -99999999999999999999999}', "beyond 64 bits", ("1", "7")),
        ("[" * 65 + "]" * 65, "deeper than 64", ("1", "65")),
        ('{"a":' * 65 + "{}" + "}" * 65, "deeper than 64", ("1", str(64 * 5 + 1))),
        ("[" * 500_000, "deeper than 64", ("1", "65")),
        ('{"a": NaN}', "not JSON", ("1", "7")),
        ("[1e999]", "not JSON", ("1", "2")),
        ('{"a": 1,}', "not JSON", ("1", "8")),
        ('["\\ud800"]', "not JSON", ("1", "3")),
    ],
)
def test_json_beyond_the_bounds_is_refused_with_its_place(text, problem, place):
    """Whatever a lenient parser would change or choke on is named, with line and column."""
    error = refusal(text)
    assert error.reason is Reason.DOCUMENT_UNREADABLE
    assert problem in error.message
    assert (error.metadata["line"], error.metadata["column"]) == place


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: [UNAVAILABLE]\nyes: no", {"on": ["UNAVAILABLE"], "yes": "no"}),
        ("at: 2026-01-01\ntime: 12:30", {"at": "2026-01-01", "time": "12:30"}),
        ("a: 0x1F\nb: 0o17\nc: 012\nd: -1\ne: 1_000", {"a": 31, "b": 15, "c": 12, "d": -1, "e": "1_000"}),
        ("a: 1.5\nb: .5\nc: 1e3\nd: '1'", {"a": 1.5, "b": 0.5, "c": 1000.0, "d": "1"}),
        ("a:\nb: ~\nc: null\nd: True\ne: ''", {"a": None, "b": None, "c": None, "d": True, "e": ""}),
        ("404: x\ntrue: y", {"404": "x", "true": "y"}),
        (
            "steps:\n- id: a\n  with: {url: 'http://x'}\n",
            {"steps": [{"id": "a", "with": {"url": "http://x"}}]},
        ),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("[" * 64 + "]" * 64, orjson.loads("[" * 64 + "]" * 64)),
    ],
)
def test_yaml_means_what_it_says(text, value):
    """Scalars follow YAML 1.2: `on` is a word, dates are text, keys are text as written."""
    assert parse(text, YAML) == value


@pytest.mark.parametrize(
    ("text", "problem", "place"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "'c' twice", ("4", "3")),
        ("a: &x [1]\nb: *x", "anchor", ("1", "4")),
        ("a: !!python/object:os.system x", "tag", ("1", "4")),
        ("a: !!binary aGk=", "tag", ("1", "4")),
        ("a: 1\n---\nb: 2", "second document", ("2", "1")),
        ("a: .nan", "not finite", ("1", "4")),
        ("a: 1e999", "not finite", ("1", "4")),
        ("a: 9223372036854775808", "beyond 64 bits", ("1", "4")),
        ("? [a]\n: 1", "not text", ("1", "3")),
        ("[" * 65 + "]" * 65, "deeper than 64", ("1", "65")),
        ("a: [1", "not YAML", ("2", "1")),
        (b"a: \xff", "not UTF-8", ("1", "4")),
    ],
)
def test_yaml_beyond_the_bounds_is_refused_with_its_place(text, problem, place):
    """Aliases, tags, second documents and numbers that do not fit are named, with line and column."""
    error = refusal(text, YAML)
    assert error.reason is Reason.DOCUMENT_UNREADABLE
    assert problem in error.message
    assert (error.metadata["line"], error.metadata["column"]) == place


def test_the_content_type_of_a_forgotten_header_is_answered_with_the_header_to_send():
    """`curl -d` without `-H` sends a form; the answer says what to write instead."""
    error = refusal('{"a": 1}', "application/x-www-form-urlencoded")
    assert error.reason is Reason.CONTENT_TYPE_UNSUPPORTED
    assert "'Content-Type: application/json'" in error.message


@pytest.mark.parametrize("content_type", ["", "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_is_the_default_language(content_type):
    """No content type, a charset or capitals still mean JSON."""
    assert parse('{"a": 1}', content_type) == {"a": 1}


@pytest.mark.parametrize("content_type", ["", JSON, YAML, "application/x-www-form-urlencoded"])
def test_an_empty_body_is_no_document(content_type):
    """`curl -X POST` without a body is fine whatever header the client made up."""
    assert parse(" \n", content_type) is None


def test_a_document_over_its_size_is_refused_before_it_is_read():
    """The message names both sizes."""
    error = refusal("[" * 11, max_bytes=10)
    assert error.reason is Reason.DOCUMENT_TOO_LARGE
    assert "11" in error.message
    assert "10" in error.message


def test_what_is_dumped_is_read_back():
    """`dump` writes what `parse` reads."""
    value = {"b": [1, 2.5, 'é:"', None, True], "a": {}}
    assert parse(documents.dump(value)) == value
