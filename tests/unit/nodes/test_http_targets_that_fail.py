"""A target that fails gives a typed error of the target, and says whether anything was done."""

import time

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.nodes import load
from tests.unit.nodes.target import LOOPBACK, raw_target, target
from tests.unit.sdk.served import orchestrator, served

Code = grpc.StatusCode


@pytest.fixture(params=["http.request@1.0.0", "http.request@2.0.0"])
def version(request):
    return load(request.param)


async def attempt(version, method, path, **given):
    """One call, claimed; the target may be closed by giving an absolute URL as `path`."""
    async with orchestrator() as owner, target() as at, served(version, **LOOPBACK) as call:
        url = path if path.startswith("http") else at.url + path
        return await call({"url": url, "method": method, **given}, claim_address=owner.address)


@pytest.mark.parametrize(
    ("status", "code", "declined"),
    [
        (400, Code.FAILED_PRECONDITION, True),
        (401, Code.UNAUTHENTICATED, True),
        (403, Code.PERMISSION_DENIED, True),
        (404, Code.NOT_FOUND, True),
        (408, Code.DEADLINE_EXCEEDED, False),
        (422, Code.FAILED_PRECONDITION, True),
        (429, Code.RESOURCE_EXHAUSTED, True),
        (500, Code.UNAVAILABLE, False),
        (503, Code.UNAVAILABLE, False),
        (504, Code.DEADLINE_EXCEEDED, False),
    ],
)
async def test_a_status_from_400_is_a_failure_with_its_own_code(version, status, code, declined):
    """A 4xx declines, so a POST had no effect; after a 5xx nobody knows. The answer's text comes along."""
    answer = await attempt(version, "POST", f"/status?code={status}")
    assert (answer.code, answer.failure.reason) == (code, Reason.TARGET_STATUS)
    assert (answer.failure.metadata["status"], answer.failure.metadata["body"]) == (str(status), "sorry")
    assert ("outcome" in answer.failure.metadata) == declined
    assert answer.headers["x-reflux-fault"] == "target"


@pytest.mark.parametrize(
    ("accept", "ok"), [([404], True), (["4xx"], True), (["5xx", 400], False), ([], False)]
)
async def test_an_accepted_status_is_an_answer(version, accept, ok):
    """A flow that asks whether something exists wants the 404 as a value."""
    answer = await attempt(version, "GET", "/status?code=404", accept_status=accept)
    assert (answer.code is Code.OK) == ok
    if ok:
        assert (answer.output["status"], answer.output["body"]) == (404, "sorry")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://no-such-host.invalid/"])
async def test_a_target_that_cannot_be_reached_was_sent_nothing(version, url):
    """Not resolved or not connected: UNAVAILABLE, and no effect for certain, even of a POST."""
    answer = await attempt(version, "POST", url)
    assert (answer.code, answer.failure.reason) == (Code.UNAVAILABLE, Reason.TARGET_UNREACHABLE)
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    assert answer.headers["x-reflux-fault"] == "target"


async def test_a_connection_that_breaks_leaves_doubt(version):
    """The request may have been processed: only the orchestrator decides what follows."""
    answer = await attempt(version, "POST", "/break")
    assert (answer.code, answer.failure.reason) == (Code.UNAVAILABLE, Reason.TARGET_UNREACHABLE)
    assert "outcome" not in answer.failure.metadata


async def test_a_target_too_slow_is_given_up_in_time(version):
    """TARGET_TIMEOUT after `timeout_ms`, in doubt for a POST and without effect for a GET."""
    began = time.monotonic()
    posted = await attempt(version, "POST", "/slow", timeout_ms=200)
    read = await attempt(version, "GET", "/slow", timeout_ms=200)
    assert time.monotonic() - began < 10
    assert (posted.code, posted.failure.reason) == (Code.DEADLINE_EXCEEDED, Reason.TARGET_TIMEOUT)
    assert "outcome" not in posted.failure.metadata
    assert read.failure.metadata["outcome"] == "NO_EFFECT"


async def test_a_slow_target_is_the_targets_fault_also_at_the_calls_deadline(version):
    """The node answers before the mesh gives the call up, which would count against the node."""
    async with target() as at, served(version, **LOOPBACK) as call:
        answer = await call({"url": f"{at.url}/slow"}, timeout=1)
    assert (answer.code, answer.failure.reason) == (Code.DEADLINE_EXCEEDED, Reason.TARGET_TIMEOUT)
    assert answer.headers["x-reflux-fault"] == "target"


@pytest.mark.parametrize("path", ["/size?bytes=2000", "/bomb"])
async def test_an_answer_over_the_limit_is_not_read_to_its_end(version, path):
    """The limit counts what is unpacked, so a compressed bomb is one too."""
    answer = await attempt(version, "GET", path, max_response_bytes=1000)
    assert (answer.code, answer.failure.reason) == (Code.OUT_OF_RANGE, Reason.RESPONSE_TOO_LARGE)
    fits = await attempt(version, "GET", "/size?bytes=1000", max_response_bytes=1000)
    assert len(fits.output["body"]) == 1000


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 No\r\nRetry-After: Thu, 99 Foo 2026\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 No\r\nRetry-After: 1 Jan 99999999999999999999 00:00:00\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_target_that_speaks_nonsense_is_never_the_nodes_fault(version, raw):
    """Whatever its bytes, the node stays well: a typed fault of the target."""
    async with raw_target(raw) as url:
        answer = await attempt(version, "GET", url, timeout_ms=5000)
    assert answer.failure.metadata["fault"] == "target", answer
    assert answer.failure.reason != Reason.NODE_FAULT


async def test_a_header_that_is_not_text_is_shown_as_far_as_it_is(version):
    """Bytes that are no UTF-8 do not cost the answer."""
    raw = b"HTTP/1.1 200 OK\r\nX-Name: a\xfeb\r\nContent-Length: 1\r\n\r\nx"
    async with raw_target(raw) as url:
        answer = await attempt(version, "GET", url)
    assert answer.output["headers"]["x-name"] == "a?b"


async def test_a_secret_in_the_query_is_not_told(version):
    """Errors are journaled and shown: they name the target without its query."""
    answer = await attempt(version, "GET", "/status?code=500&token=swordfish")
    assert "/status" in answer.failure.message
    assert "swordfish" not in str(answer)
    async with raw_target(b"garbage\r\n\r\n") as url:
        answer = await attempt(version, "GET", f"{url}?token=swordfish")
    assert "broke off: 400" in answer.failure.message
    assert "swordfish" not in str(answer)


async def test_version_2_waits_as_it_is_told_when_reading():
    """429 and 503 with Retry-After are waited for, at most twice."""
    async with target() as at, served(load("http.request@2.0.0"), **LOOPBACK) as call:
        for code in (429, 503):
            at.busy = 2
            answer = await call({"url": f"{at.url}/busy?code={code}"})
            assert answer.output["body"] == {"ok": True}
        at.requests.clear()
        at.busy = 3
        answer = await call({"url": f"{at.url}/busy"})
    assert answer.code is Code.RESOURCE_EXHAUSTED
    assert len(at.requests) == 3


@pytest.mark.parametrize(
    ("name", "method", "after"),
    [
        ("http.request@1.0.0", "GET", "0"),
        ("http.request@2.0.0", "POST", "0"),
        ("http.request@2.0.0", "GET", "3600"),
        ("http.request@2.0.0", "GET", "soon"),
    ],
)
async def test_nobody_waits_for_a_write_or_beyond_the_deadline(name, method, after):
    """Then the failure goes to the step at once, whose own `retry` decides."""
    async with orchestrator() as owner, target() as at, served(load(name), **LOOPBACK) as call:
        at.busy = 1
        given = {"url": f"{at.url}/busy?after={after}", "method": method, "timeout_ms": 5000}
        began = time.monotonic()
        answer = await call(given, claim_address=owner.address)
    assert answer.code is Code.RESOURCE_EXHAUSTED
    assert time.monotonic() - began < 4
    assert len(at.requests) == 1
