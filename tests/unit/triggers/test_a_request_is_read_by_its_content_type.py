"""What a trigger's input sees of a request: every kind of body, no secret, and nothing guessed."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.bodies import MAX_FIELDS, read_body, read_query
from reflux.orchestrator.triggers.requests import Delivery, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

FORM = "application/x-www-form-urlencoded"
MULTIPART = 'multipart/form-data; boundary="b 1"'


def parts(*texts: str) -> bytes:
    lines = [f"--b 1\r\n{text}\r\n" for text in texts]
    return "".join([*lines, "--b 1--\r\n"]).encode()


def file_called(name: str) -> str:
    return f'Content-Disposition: form-data; name="a"; filename="{name}"\r\n\r\n'


@contextmanager
def counted_calls() -> Iterator[list[int]]:
    """How many functions are called within the body, Python's own included: the work on any machine."""
    calls = [0]

    def count(_frame: object, event: str, _arg: object) -> None:
        calls[0] += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def delivery(body: bytes = b"", query: str = "", **headers: str) -> Delivery:
    return Delivery("POST", "a/b", query, {k.replace("_", "-"): v for k, v in headers.items()}, body)


@pytest.mark.parametrize(
    ("content_type", "raw", "value"),
    [
        ("application/json", b'{"n": 9007199254740993}', {"n": 9007199254740993}),
        ("Application/JSON; charset=utf-8", b" [1] ", [1]),
        ("application/cloudevents+json", b"null", None),
        (FORM, b"a=1&b=x+y%26&a=&c", {"a": ["1", ""], "b": "x y&", "c": ""}),
        ("text/plain", "Grüße".encode(), "Grüße"),
        ("text/csv; charset=ISO-8859-1", "Grüße".encode("latin-1"), "Grüße"),
        (
            "application/octet-stream",
            b"\x00\xff",
            {"content_type": "application/octet-stream", "base64": "AP8="},
        ),
        ("", b"x", {"content_type": "", "base64": "eA=="}),
        ("application/json", b"", None),
        ("", b"", None),
    ],
)
def test_a_body_is_what_its_content_type_says(content_type, raw, value):
    """JSON exactly, forms as objects, text as text, bytes as base64, nothing as null."""
    assert read_body(content_type, raw) == value


def test_multipart_gives_its_fields_and_its_files():
    """A name that comes twice gives a list; a file says what it is; content keeps its line ends."""
    raw = b"preamble\r\n" + parts(
        'Content-Disposition: form-data; name="a"\r\n\r\none\r\ntwo',
        'Content-Disposition: form-data; name="ü"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße',
        'content-disposition: form-data; name="f"; filename="ö.bin"\r\nContent-Type: image/png\r\n\r\n\x00',
        'Content-Disposition: form-data; name="a"\r\n\r\n',
    )
    assert read_body(MULTIPART, raw) == {
        "a": ["one\r\ntwo", ""],
        "ü": "Grüße",
        "f": {"filename": "ö.bin", "content_type": "image/png", "base64": "AA=="},
    }


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("application/json", b"{"),
        ("application/json", b'{"a": 1, "a": 2}'),
        ("application/json", b"[" * 65 + b"]" * 65),
        ("application/json", b'"\xff"'),
        ("text/plain", b"\xff"),
        (FORM, b"a=%ff"),
        (FORM, b"a&" * (MAX_FIELDS + 1)),
        ("multipart/form-data", b"--\r\n"),
        (MULTIPART, b"no boundary"),
        (MULTIPART, b'--b 1\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut off'),
        (MULTIPART, parts("Content-Disposition: form-data\r\n\r\nnameless")),
        (MULTIPART, parts("no end of headers")),
        (MULTIPART, parts(f"X-Long: {'x' * 5000}\r\n\r\n1")),
        (MULTIPART, parts(*['Content-Disposition: form-data; name="a"\r\n\r\n'] * (MAX_FIELDS + 1))),
    ],
)
def test_what_is_not_what_it_says_is_refused(content_type, raw):
    """Nothing is repaired or guessed."""
    with pytest.raises(InvalidArgument) as caught:
        read_body(content_type, raw)
    assert caught.value.reason is Reason.DOCUMENT_UNREADABLE


@pytest.mark.parametrize(
    "extended",
    [
        "filename*=idna''abc",
        "filename*=unicode_escape''%5Cud800",
        "filename*5000000000000*=us-ascii''a",
        "filename*0=a; filename*1=b",
        "name*=utf-8''b",
    ],
)
def test_a_parameter_that_names_its_own_charset_is_refused(extended):
    """A sender does not choose which decoder runs; nor does what such a decoder raises become our defect."""
    raw = parts(f'Content-Disposition: form-data; name="a"; {extended}\r\n\r\n1')
    for content_type, body in ((MULTIPART, raw), (f"text/plain; {extended}", b"a")):
        with pytest.raises(InvalidArgument) as caught:
            read_body(content_type, body)
        assert caught.value.reason is Reason.DOCUMENT_UNREADABLE


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name=a; filename="b; c=d.txt"', "b; c=d.txt"),
        ('form-data;NAME=a ;; filename="say \\"hi\\" \\\\ C:\\x";', 'say "hi" \\ C:\\x'),
        ('form-data; name="a";\r\n filename=b.txt', "b.txt"),
        ('form-data; name="a"; filename=""', ""),
    ],
)
def test_a_name_in_quotes_is_what_it_says(disposition, filename):
    """Semicolons inside, the two escapes of forms, gaps, folded lines; a backslash of a browser is one."""
    value = read_body(MULTIPART, parts(f"Content-Disposition: {disposition}\r\n\r\n1"))
    assert value == {"a": {"filename": filename, "content_type": "text/plain", "base64": "MQ=="}}


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ('text/plain; charset="' + ";" * 58_000, b"a"),
        ('text/plain; charset="' + ";" * 58_000 + '"', b"a"),
        ('text/plain; charset="' + "\\" * 1_000, b"a"),
        ("text/plain; charset=" + " ;" * 500 + "=", b"a"),
        (MULTIPART, parts(*[file_called(";" * 3_950)] * 253)),
    ],
)
def test_a_field_costs_no_more_than_its_characters(content_type, raw):
    """Whoever reaches a hook may send these; deliveries are read where everything else runs."""
    with counted_calls() as calls, pytest.raises(InvalidArgument) as caught:
        read_body(content_type, raw)
    assert caught.value.reason is Reason.DOCUMENT_UNREADABLE
    assert calls[0] < 10_000


def test_many_files_with_hard_names_are_read_in_one_pass():
    """What is as long as it may be costs a fixed number of steps for each part."""
    with counted_calls() as calls:
        value = read_body(MULTIPART, parts(*[file_called(";" * 900)] * 900))
    assert [file["filename"] for file in value["a"]] == [";" * 900] * 900
    assert calls[0] < 900 * 60


@pytest.mark.parametrize("charset", ["utf-7", "rot13", "idna", "unicode_escape", "utf-16", "x"])
def test_a_charset_of_another_kind_is_refused(charset):
    """What Python would decode is not the measure: some of it is slow, some is code."""
    with pytest.raises(InvalidArgument) as caught:
        read_body(f"text/plain; charset={charset}", b"a")
    assert caught.value.reason is Reason.CONTENT_TYPE_UNSUPPORTED


def test_a_compressed_body_is_refused():
    """It would be text that is none."""
    with pytest.raises(InvalidArgument) as caught:
        delivery(b"\x1f\x8b", content_encoding="gzip").value(None)
    assert caught.value.reason is Reason.CONTENT_TYPE_UNSUPPORTED


def test_the_root_request_is_whole_and_holds_no_secret():
    """Method, path, query and body; headers without those that hold or prove a secret."""
    sent = delivery(
        b'{"a": 1}',
        "x=1&y=2&y=3",
        content_type="application/json",
        authorization="Bearer b",
        cookie="c",
        my_hmac="m",
        x_event="paid",
        webhook_signature="v1,s",
    )
    assert sent.value("my-hmac") == {
        "method": "POST",
        "path": "a/b",
        "headers": {"content-type": "application/json", "x-event": "paid"},
        "query": {"x": "1", "y": ["2", "3"]},
        "body": {"a": 1},
    }


def test_a_header_that_comes_twice_is_joined():
    """RFC 9110, 5.3."""
    assert joined([("a", "1"), ("b", "2"), ("a", "3")]) == {"a": "1, 3", "b": "2"}


@pytest.mark.parametrize("text", ["", "x" * 257, "a\tb", "ä"])
def test_a_delivery_id_is_short_and_printable(text):
    """It is kept as a key."""
    with pytest.raises(InvalidArgument) as caught:
        delivery(webhook_id=text).named("webhook-id")
    assert caught.value.reason is Reason.ARGUMENT_INVALID


def test_a_query_may_be_empty():
    """And a name may have no value."""
    assert read_query("") == {}
    assert read_query("a") == {"a": ""}
