"""`http.request` sends what the input describes and gives the answer as the step can use it."""

import base64

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.nodes import load
from tests.unit.nodes.target import LOOPBACK, target
from tests.unit.sdk.served import orchestrator, served

VERSIONS = ["http.request@1.0.0", "http.request@2.0.0"]


@pytest.fixture(params=VERSIONS)
def version(request):
    return load(request.param)


async def test_a_get_gives_status_headers_and_json(version):
    """The shortest input: a URL."""
    async with target() as at, served(version, **LOOPBACK) as call:
        answer = await call({"url": f"{at.url}/echo?a=1", "query": {"b": [1, True], "c": "x y"}})
    output = answer.output
    assert (output["status"], output["body_format"]) == (200, "json")
    assert output["body"]["method"] == "GET"
    assert output["body"]["query"] == [["a", "1"], ["b", "1"], ["b", "true"], ["c", "x y"]]
    assert output["headers"]["x-one"] == "1"
    assert output["url"].startswith(at.url)
    assert output["elapsed_ms"] >= 0
    assert output["body"]["headers"]["host"] == at.url.removeprefix("http://")
    assert output["body"]["headers"]["user-agent"] == "reflux-http-request"


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ({"json": {"a": [1, None]}}, b'{"a":[1,null]}', "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"text": "grüß"}, "grüß".encode(), "text/plain; charset=utf-8"),
        ({"base64": base64.b64encode(b"\0\xff").decode()}, b"\0\xff", "application/octet-stream"),
        ({"text": "<a/>", "headers": {"content-type": "text/xml"}}, b"<a/>", "text/xml"),
        ({}, b"", None),
    ],
)
async def test_a_body_is_json_text_or_bytes(version, body, sent, content_type):
    """With the content type that fits, unless the input names one."""
    async with orchestrator() as owner, target() as at, served(version, **LOOPBACK) as call:
        answer = await call({"url": f"{at.url}/echo", "method": "POST", **body}, claim_address=owner.address)
    assert answer.output["status"] == 200
    assert at.bodies == [sent]
    if content_type:
        assert at.requests[0].headers["Content-Type"] == content_type


@pytest.mark.parametrize(
    ("data", "content_type", "body", "body_format"),
    [
        (b'{"a": 1}', "application/json; charset=utf-8", {"a": 1}, "json"),
        (b"[1]", "application/problem+json", [1], "json"),
        (b"{broken", "application/json", "{broken", "text"),
        (b'{"a":1,"a":2}', "application/json", '{"a":1,"a":2}', "text"),
        (b"[" * 65 + b"]" * 65, "application/json", "[" * 65 + "]" * 65, "text"),
        (b"gr\xfc\xdf", "text/plain; charset=latin-1", "grüß", "text"),
        (b"\xff", "text/html", "\ufffd", "text"),
        (b"x", "text/plain; charset=none", "x", "text"),
        (b"x\xff.", "text/plain; charset=idna", "x\ufffd.", "text"),
        (b"\\ud83d", "text/plain; charset=unicode_escape", "\\ud83d", "text"),
        (b"a\x00", "text/plain; charset='utf-16le'", "a", "text"),
        (b"\x00\xd8", "text/plain; charset=utf-16le", "\ufffd", "text"),
        (b"\x89PNG", "image/png", base64.b64encode(b"\x89PNG").decode(), "base64"),
        (b"", "application/json", None, "none"),
    ],
)
async def test_the_answers_body_comes_by_its_content_type(version, data, content_type, body, body_format):
    """JSON as a value, text as text, anything else as bytes in base64; never an error of decoding."""
    async with target() as at, served(version, **LOOPBACK) as call:
        query = {"hex": data.hex(), "type": content_type}
        answer = await call({"url": f"{at.url}/body", "query": query})
    assert (answer.output["body"], answer.output["body_format"]) == (body, body_format)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"url": "ftp://host/"}, "/url"),
        ({"url": "/relative"}, "/url"),
        ({"url": "http://"}, "/url"),
        ({"url": "http://host:99999/"}, "/url"),
        ({"url": "http://user:secret@host/"}, "/url"),
        ({"url": "http://[::1"}, "/url"),
        ({"url": "http://a..b/"}, "/url"),
        ({"url": f"http://{'a' * 64}.com/"}, "/url"),
        ({"url": "http://\0/"}, "/url"),
        ({"url": "http://a b/"}, "/url"),
        ({"url": "file:///etc/passwd"}, "/url"),
        ({"url": "http://h/", "method": "BREW"}, "/method"),
        ({"url": "http://h/", "headers": {"a b": "x"}}, "/headers"),
        ({"url": "http://h/", "headers": {"Host": "internal"}}, "/headers"),
        ({"url": "http://h/", "headers": {"A": "x\r\nB: y"}}, "/headers"),
        ({"url": "http://h/", "text": "a", "json": 1}, ""),
        ({"url": "http://h/", "base64": "?"}, "/base64"),
        ({"url": "http://h/", "timeout_ms": 0}, "/timeout_ms"),
        ({"url": "http://h/", "uri": "x"}, "/uri"),
        ({}, "/url"),
    ],
)
async def test_input_that_makes_no_request_is_refused_with_its_place(version, wrong, pointer):
    """Nothing is sent, and a password is not repeated."""
    async with served(version) as call:
        answer = await call(wrong)
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, answer
    assert pointer in [violation.pointer for violation in answer.failure.violations]
    assert "secret" not in str(answer)


async def test_reading_is_pure_and_writing_is_claimed(version):
    """The class follows from the method and from whether the target knows idempotency keys."""
    async with orchestrator() as owner, target() as at, served(version, **LOOPBACK) as call:
        envelope = {"claim_address": owner.address, "idempotency_key": "key-1"}
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = await call({"url": f"{at.url}/echo", "method": method}, effect="pure")
            assert answer.code is grpc.StatusCode.OK
        assert owner.asked == []
        posted = {"url": f"{at.url}/echo", "method": "POST"}
        refused = await call(posted, effect="idempotent", **envelope)
        assert refused.failure.reason == Reason.EFFECT_WEAKER
        keyed = {**posted, "idempotency_header": "Idempotency-Key"}
        answer = await call(keyed, effect="idempotent", **envelope)
        assert answer.output["body"]["headers"]["idempotency-key"] == "key-1"
        await call(posted, effect="at_most_once", **envelope)
    assert [request.scope for request in owner.asked] == [at.url, at.url]


async def test_a_refused_claim_sends_nothing(version):
    """The target never hears of an attempt that was superseded."""
    async with orchestrator(grants=False) as owner, target() as at, served(version, **LOOPBACK) as call:
        answer = await call({"url": f"{at.url}/echo", "method": "PUT"}, claim_address=owner.address)
    assert answer.failure.reason == Reason.CLAIM_REFUSED
    assert at.requests == []


async def test_only_version_2_keeps_connections_and_only_for_reading():
    """A kept connection may die under a PUT, and a client that repeats it would act twice."""
    for name, method, kept in [
        (VERSIONS[0], "GET", False),
        (VERSIONS[1], "GET", True),
        (VERSIONS[1], "PUT", False),
    ]:
        async with orchestrator() as owner, target() as at, served(load(name), **LOOPBACK) as call:
            for _ in range(3):
                await call({"url": f"{at.url}/echo", "method": method}, claim_address=owner.address)
            assert len(at.requests) == 3
            assert len({id(request.protocol) for request in at.requests}) == (1 if kept else 3)
