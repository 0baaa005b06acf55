"""`http.request` sends the credential that a step names, to the origins that it is for and to nobody else."""

from __future__ import annotations

import base64

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.nodes import load
from tests.unit.nodes.target import LOOPBACK, target
from tests.unit.sdk.credentials import SECRET, bearer, put
from tests.unit.sdk.served import served

NAMED = {"": "api"}


@pytest.fixture(params=["http.request@1.0.0", "http.request@2.0.0"])
def version(request):
    return load(request.param)


def basic_value(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("credential", "header", "value"),
    [
        ({"kind": "bearer", "token": SECRET}, "authorization", f"Bearer {SECRET}"),
        ({"kind": "basic", "user": "me", "password": SECRET}, "authorization", basic_value("me", SECRET)),
        ({"kind": "header", "name": "X-Api-Key", "value": SECRET}, "x-api-key", SECRET),
    ],
    ids=["bearer", "basic", "header"],
)
async def test_it_is_a_header_and_never_comes_back(version, tmp_path, credential, header, value):
    """The target gets it; one that repeats it gives `***`, so the run does not keep it."""
    async with target() as at, served(version, credentials_dir=tmp_path, **LOOPBACK) as call:
        put(tmp_path, "api", credential | {"origins": [at.url]})
        answer = await call({"url": f"{at.url}/echo"}, credentials=NAMED)
    assert at.requests[0].headers[header] == value
    assert "***" in answer.output["body"]["headers"][header]
    assert SECRET not in str(answer.output)
    assert value.removeprefix("Basic ") not in str(answer.output)


async def test_without_a_name_nothing_is_sent(version, tmp_path):
    """A credential that lies there is nobody's until a step names it."""
    async with target() as at, served(version, credentials_dir=tmp_path, **LOOPBACK) as call:
        put(tmp_path, "api", bearer(at.url))
        await call({"url": f"{at.url}/echo"})
    assert "authorization" not in at.requests[0].headers


@pytest.mark.parametrize("code", [302, 307])
async def test_a_redirect_does_not_carry_it_to_another_host(version, tmp_path, code):
    """Nor to another port of the same, though that would be allowed if it was asked for."""
    async with (
        target() as at,
        target() as other,
        served(version, credentials_dir=tmp_path, **LOOPBACK) as call,
    ):
        put(tmp_path, "api", bearer(at.url, other.url))
        given = {"url": f"{at.url}/redirect", "query": {"to": f"{other.url}/echo", "code": code}}
        answer = await call(given, credentials=NAMED)
        assert answer.output["status"] == 200
        home = {"url": f"{at.url}/redirect", "query": {"to": "/echo", "code": code}}
        await call(home, credentials=NAMED)
    assert at.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert "authorization" not in other.requests[0].headers
    assert at.requests[-1].headers["authorization"] == f"Bearer {SECRET}", "the same origin gets it again"


async def test_a_header_that_otherwise_goes_on_does_not_as_a_credential(version, tmp_path):
    """A secret in User-Agent is a secret."""
    async with (
        target() as at,
        target() as other,
        served(version, credentials_dir=tmp_path, **LOOPBACK) as call,
    ):
        odd = {"kind": "header", "name": "Accept-Language", "value": SECRET, "origins": [at.url]}
        put(tmp_path, "api", odd)
        given = {"url": f"{at.url}/redirect", "query": {"to": f"{other.url}/echo"}}
        await call(given, credentials=NAMED)
    assert at.requests[0].headers["accept-language"] == SECRET
    assert "accept-language" not in other.requests[0].headers


@pytest.mark.parametrize(
    "origin", ["https://127.0.0.1", "127.0.0.1", "http://127.0.0.1:1", "http://localhost"]
)
async def test_it_goes_to_its_origins_only(version, tmp_path, origin):
    """Scheme, host and port are the author's of the credential, not of the flow; nothing is sent."""
    async with target() as at, served(version, credentials_dir=tmp_path, **LOOPBACK) as call:
        put(tmp_path, "api", bearer(origin))
        answer = await call({"url": f"{at.url}/echo"}, credentials=NAMED)
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.failure.reason == Reason.CREDENTIAL_UNFIT
    assert "may not be sent to http://127.0.0.1" in answer.failure.message
    assert at.requests == []


async def test_a_header_is_not_given_twice(version, tmp_path):
    """Which of the two counts would be anybody's guess."""
    async with target() as at, served(version, credentials_dir=tmp_path, **LOOPBACK) as call:
        put(tmp_path, "api", bearer(at.url))
        given = {"url": f"{at.url}/echo", "headers": {"AUTHORIZATION": "Bearer mine"}}
        answer = await call(given, credentials=NAMED)
    assert answer.failure.reason == Reason.CREDENTIAL_UNFIT
    assert at.requests == []


async def test_a_target_that_repeats_it_in_pieces_or_bytes_is_not_quoted(version, tmp_path):
    """Taken out before an excerpt is cut, and before bytes become base64."""
    async with target() as at, served(version, credentials_dir=tmp_path, **LOOPBACK) as call:
        put(tmp_path, "api", bearer(at.url))
        url = f"{at.url}/body?type=application/octet-stream&hex={(SECRET.encode() + bytes([255])).hex()}"
        answer = await call({"url": url}, credentials=NAMED)
    assert answer.output["body_format"] == "base64"
    assert base64.b64decode(answer.output["body"]) == b"***\xff"
