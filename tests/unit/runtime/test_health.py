"""`python -m reflux.runtime.health`: one question, an exit status, a line."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address


def ask(*arguments: str) -> tuple[int, str]:
    """Status and what it said."""
    command = [sys.executable, "-m", "reflux.runtime.health", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


async def test_a_server_that_serves_is_well_and_one_that_drains_is_not() -> None:
    """The drain is seen while calls are still answered."""
    import asyncio

    draining: list[tuple[int, str]] = []
    place = Address("127.0.0.1", 0)

    async def drain() -> None:
        draining.append(await asyncio.to_thread(ask, str(place)))

    async with grpc_server(address=place, register=[], services=[], on_drain=drain) as place:
        assert await asyncio.to_thread(ask, str(place)) == (0, "")
    assert draining == [(1, f"{place}: NOT_SERVING\n")]


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_a_page_is_well_when_it_can_be_had(status: int, expected: int) -> None:
    """The gateway speaks HTTP and no gRPC."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found, said = ask(f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        server.server_close()
    assert found == expected
    assert (str(status) in said) == bool(expected)


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_where_nobody_listens_is_not_well(scheme: str) -> None:
    """One line, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    status, said = ask(f"{scheme}127.0.0.1:{port}")
    assert status == 1
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "arguments", [(), ("a:1", "b:2"), ("registry",), ("registry:port",), ("https://a/",)]
)
def test_what_is_no_address_is_told(arguments: tuple[str, ...]) -> None:
    """Status 2: no later try would do better."""
    status, said = ask(*arguments)
    assert status == 2
    assert said.startswith("health: give one address")
