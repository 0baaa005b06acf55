"""Only public addresses are reached, and those the operator allows; also through redirects and odd names."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.nodes import load
from reflux.nodes.http_request.guard import AddressGuard, AddressRefused, GuardedResolver
from tests.unit.nodes.target import LOOPBACK, target
from tests.unit.sdk.served import orchestrator, served

FAMILY = "http.request@1.0.0", "http.request@2.0.0"


@pytest.fixture(params=FAMILY)
def version(request):
    return load(request.param)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "fec0::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "2001:0:7f00:1::1",
    ],
)
def test_an_address_that_is_not_public_is_refused(address):
    """Whatever its family, and whatever is wrapped around it."""
    assert not AddressGuard([]).allows(ip_address(address))


@pytest.mark.parametrize(
    "address", ["140.82.121.6", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_a_public_address_is_reached(address):
    """The guard is no wall around the internet."""
    assert AddressGuard([]).allows(ip_address(address))


def test_the_allow_list_opens_exactly_its_networks():
    """Also for the IPv4 address inside an IPv6 one."""
    guard = AddressGuard([ip_network("10.1.0.0/16"), ip_network("fd00::/8")])
    for address, allowed in {
        "10.1.2.3": True,
        "10.2.0.1": False,
        "::ffff:10.1.2.3": True,
        "::ffff:10.2.0.1": False,
        "fd00::1": True,
        "127.0.0.1": False,
    }.items():
        assert guard.allows(ip_address(address)) == allowed, address


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:7f00:1]",
    ],
)
async def test_loopback_is_refused_in_every_spelling(version, host):
    """Before anything is sent or claimed, with a typed error that the step sees."""
    async with orchestrator() as owner, target() as at, served(version) as call:
        port = at.url.rpartition(":")[2]
        answer = await call(
            {"url": f"http://{host}:{port}/echo", "method": "POST"}, claim_address=owner.address
        )
    assert (answer.code, answer.failure.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.ADDRESS_REFUSED,
    )
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    assert "REFLUX_HTTP_ALLOW" in answer.failure.message
    assert at.requests == []


async def test_a_redirect_into_a_private_network_is_refused(version):
    """Checked again at each step: here 127.0.0.1 is allowed and 127.0.0.2 is not."""
    serving = served(version, http_allow=("127.0.0.1/32",))
    async with target() as at, target("127.0.0.2") as inner, serving as call:
        answer = await call({"url": f"{at.url}/redirect", "query": {"to": f"{inner.url}/echo"}})
        named = inner.url.replace("127.0.0.2", "2130706434")
        odd = await call({"url": f"{at.url}/redirect", "query": {"to": f"{named}/echo"}})
    for refused in (answer, odd):
        assert refused.failure.reason == Reason.ADDRESS_REFUSED
    assert inner.requests == []


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://user:pw@127.0.0.1/"])
async def test_a_redirect_to_what_may_not_be_asked_is_refused(version, to):
    """Other schemes and users in the URL are no more welcome from a target than from a flow."""
    async with target() as at, served(version, **LOOPBACK) as call:
        answer = await call({"url": f"{at.url}/redirect", "query": {"to": to}})
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_redirect_is_followed_as_http_says(version):
    """302 and 303 turn a POST into a GET, 307 and 308 repeat it; relative locations count from the URL."""
    async with orchestrator() as owner, target() as at, served(version, **LOOPBACK) as call:
        for code, method, body in [
            (302, "GET", ""),
            (303, "GET", ""),
            (307, "POST", "x"),
            (308, "POST", "x"),
        ]:
            given = {"url": f"{at.url}/redirect", "query": {"to": "/echo", "code": code}}
            answer = await call({**given, "method": "POST", "text": "x"}, claim_address=owner.address)
            assert (answer.output["body"]["method"], answer.output["body"]["body"]) == (method, body)
            assert answer.output["url"] == f"{at.url}/echo"
        plain = await call({"url": f"{at.url}/redirect", "query": {"to": "/echo"}, "max_redirects": 0})
        assert (plain.output["status"], plain.output["headers"]["location"]) == (302, "/echo")
        endless = await call({"url": f"{at.url}/loop", "max_redirects": 3})
    assert endless.failure.reason == Reason.TOO_MANY_REDIRECTS
    assert len([request for request in at.requests if request.path == "/loop"]) == 4


async def test_a_redirect_elsewhere_leaves_the_callers_identity_behind(version):
    """Tokens, whatever their header is called, go to the origin they were meant for and to no other."""
    headers = {"Authorization": "Bearer t", "Cookie": "a=b", "Private-Token": "s", "Accept": "text/plain"}
    async with target() as at, target() as other, served(version, **LOOPBACK) as call:
        away = {"url": f"{at.url}/redirect", "query": {"to": f"{other.url}/echo"}, "headers": headers}
        home = {"url": f"{at.url}/redirect", "query": {"to": f"{at.url}/echo"}, "headers": headers}
        seen_away = (await call(away)).output["body"]["headers"]
        seen_home = (await call(home)).output["body"]["headers"]
    assert (seen_home["authorization"], seen_home["private-token"]) == ("Bearer t", "s")
    assert not {"authorization", "cookie", "private-token"} & set(seen_away)
    assert seen_away["accept"] == "text/plain"


async def test_a_name_is_connected_to_only_at_the_addresses_that_were_checked():
    """Resolved once, filtered, and handed to the connector: a second answer is never asked for."""
    with ThreadPoolExecutor(1) as threads:
        resolver = GuardedResolver(AddressGuard([ip_network("127.0.0.1/32")]), threads)
        assert {found["host"] for found in await resolver.resolve("localhost", 80)} == {"127.0.0.1"}
        with pytest.raises(AddressRefused, match="localhost"):
            await GuardedResolver(AddressGuard([]), threads).resolve("localhost", 80)


async def test_names_whose_servers_are_silent_hold_nobody_up(version, monkeypatch):
    """A lookup cannot be broken off, so each waits in a thread of its own."""
    ask, heard = socket.getaddrinfo, threading.Event()

    def silent(host, *rest):
        if host == "silent.example":
            heard.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return ask(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    async with target() as at, served(version, **LOOPBACK) as call:
        waiting = [asyncio.ensure_future(call({"url": "http://silent.example/"})) for _ in range(40)]
        try:
            named = at.url.replace("127.0.0.1", "localhost")
            assert (await call({"url": f"{named}/echo"}, timeout=5)).output["status"] == 200
            assert not any(each.done() for each in waiting)
        finally:
            heard.set()
        assert {(await each).failure.reason for each in waiting} == {Reason.TARGET_UNREACHABLE}
