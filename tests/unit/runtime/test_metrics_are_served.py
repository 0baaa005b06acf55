"""`GET /metrics` is a guest in its process: it answers who asks, and never stands in the way."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reflux.cli.stack.ports import free_ports
from reflux.runtime import metrics_server
from reflux.runtime.metrics_server import MAX_CONNECTIONS, serve_metrics
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOPBACK = Address("127.0.0.1", 0)


@asynccontextmanager
async def served(address: Address = LOOPBACK) -> AsyncIterator[asyncio.Future[Address]]:
    """The server; yields what becomes its address."""
    bound: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve_metrics(address, service="test", bound=bound.set_result))
    try:
        yield bound
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def ask(address: Address, request: bytes) -> tuple[int, bytes, bytes] | None:
    """Status, head and body of the answer, which ends with the connection; None without an answer."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    answer = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            answer = await reader.read()
    writer.close()
    if not answer:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head, body


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode()


async def test_prometheus_text_is_answered() -> None:
    """With its content type and length, a query ignored, again and again."""
    async with served() as bound:
        address = await bound
        for path in ("/metrics", "/metrics?name=x"):
            status, head, body = await ask(address, get(path))
            assert status == 200
            assert b"content-type: text/plain; version=0.0.4" in head
            assert f"content-length: {len(body)}".encode() in head
            families = list(text_string_to_metric_families(body.decode()))
            assert "process_resident_memory_bytes" in {family.name for family in families}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 404),
        (get("/metrics/"), 404),
        (get("/metrics", "POST"), 405),
        (get("/metrics", "HEAD"), 405),
        (b"nonsense\r\n\r\n", 404),
        (b"\xff\xfe \x00\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 431),
    ],
)
async def test_anything_else_is_refused(request_: bytes, status: int) -> None:
    """With a status, whatever it is."""
    async with served() as bound:
        assert (await ask(await bound, request_))[0] == status


async def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """And there are never too many of them: the last are let go at once."""
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 2.0)
    async with served() as bound:
        address = await bound
        silent = [await asyncio.open_connection(*address) for _ in range(MAX_CONNECTIONS)]
        assert (await ask(address, get("/metrics"))) is None
        for reader, writer in silent:
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()
        assert (await ask(address, get("/metrics")))[0] == 200


async def test_a_taken_port_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A former process may still be leaving it: served as soon as it has."""
    monkeypatch.setattr(metrics_server, "RETRY_SECONDS", 0.05)
    [port] = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        async with served(Address("127.0.0.1", port)) as bound:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.shield(bound)
            assert not bound.done()
    async with served(Address("127.0.0.1", port)) as bound, asyncio.timeout(20):
        assert (await ask(await bound, get("/metrics")))[0] == 200


PROGRAM = """
import asyncio, sys, urllib.request
from reflux.runtime import process
from reflux.runtime.settings import Settings

def libraries():
    return sorted({name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "prometheus_client"})

async def main():
    await asyncio.sleep(0.1)
    print(libraries())
    if sys.argv[2] == "ask":
        url = f"http://{sys.argv[1]}/metrics"
        body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=20).read())
        print(b'service_name="reflux-test"' in body, libraries())
    print("done")

settings = Settings.load(metrics_address=sys.argv[1])
process.run(main(), name="test", settings=settings)
"""


def _run(address: str, what: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, address, what], capture_output=True, text=True, timeout=60, check=True
    )


def test_a_process_serves_its_metrics_and_loads_the_libraries_when_asked() -> None:
    """Until then a process pays neither their time nor their memory."""
    [port] = free_ports(1)
    done = _run(f"127.0.0.1:{port}", "ask")
    assert done.stdout.splitlines() == ["[]", "True ['opentelemetry', 'prometheus_client']", "done"]


def test_a_process_whose_metrics_cannot_be_served_does_its_work() -> None:
    """The log says so; the service is what counts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _run(f"127.0.0.1:{taken.getsockname()[1]}", "work")
    assert done.stdout.splitlines() == ["[]", "done"]
    assert "metrics_not_served" in done.stderr
