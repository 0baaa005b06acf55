"""A flow may hammer a dead host as it likes: another flow that uses the same node version never notices.

The shipped `http.request` behind a real Envoy, called by a real orchestrator for runs of both flows.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, closing
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from reflux.nodes.__main__ import serve
from tests.mesh.support.orchestrator import orchestrator_on
from tests.support.service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mesh.support.platform import Platform

VERSION = "http.request@1.0.0"


@asynccontextmanager
async def _living() -> AsyncIterator[str]:
    """The URL of a host that answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def _dead() -> str:
    """A URL where nobody listens."""
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/"


async def test_one_flow_hammers_a_dead_host_and_another_works(platform: Platform, valkey_url: str) -> None:
    """Far more failures in a row than eject a version: each stays with the flow that names the host."""
    allowing = platform.settings.model_copy(update={"http_allow": (ip_network("127.0.0.0/8"),)})
    async with (
        _living() as living,
        serving(partial(serve, versions=[VERSION]), allowing),
        orchestrator_on(platform, valkey_url) as client,
    ):
        for flow, url in (("hammer", _dead()), ("worker", living)):
            await client.save(flow, {"id": "get", "node": VERSION, "with": {"url": url}})

        async def run(flow: str) -> dict[str, Any]:
            return await client.start(flow, wait="60s", seconds=70)

        assert (await run("worker"))["state"] == "SUCCEEDED"
        ends = await asyncio.gather(*(run("hammer") for _ in range(60)), *(run("worker") for _ in range(30)))
        hammered, worked = ends[:60], ends[60:]
        assert {end["state"] for end in worked} == {"SUCCEEDED"}
        assert {end["error"]["code"] for end in hammered} == {"UNAVAILABLE"}
        assert {end["error"]["reason"] for end in hammered} == {"TARGET_UNREACHABLE"}
        (attempt,) = (await client.steps(hammered[0]["id"]))["get"]["attempts"]
        assert (attempt["answered_by"], attempt["tries"]) == ("1.0.0", 1)
        ejections = await platform.proxy.stats("outlier_detection.ejections_(active|enforced_total)$")
        assert not any(ejections.values())
