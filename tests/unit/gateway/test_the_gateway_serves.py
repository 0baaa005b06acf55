"""The gateway as a service: its composition root, its index, its document."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

from reflux.cli.stack.ports import free_ports
from reflux.gateway import openapi
from reflux.gateway.__main__ import serve
from reflux.runtime.settings import Address, Settings
from tests.support.service import serving
from tests.unit.gateway.client import rest
from tests.unit.gateway.orchestrator import RUN

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Gateway
    from tests.unit.gateway.orchestrator import Orchestrator


async def test_serve_is_ready_then_serves_then_drains(orchestrator: Orchestrator) -> None:
    """Settings in, a service out: `ready` is set when requests are answered, cancelling ends it."""
    await orchestrator.record("RunCreated", "RunFinished")
    address = Address("127.0.0.1", free_ports(1)[0])
    settings = Settings.load(gateway_address=address, orchestrator_address=orchestrator.address)
    url = f"http://{address}/api/runs/{RUN}:watch"
    async with serving(serve, settings), aiohttp.ClientSession() as client, client.get(url) as response:
        assert [event.event for event in await rest(response)] == ["RunCreated", "RunFinished", "end"]
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*address)


async def test_a_taken_port_is_an_error(orchestrator: Orchestrator) -> None:
    """A gateway that cannot listen fails at once, and never shares the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        settings = Settings.load(gateway_address=address, orchestrator_address=orchestrator.address)
        with pytest.raises(OSError, match="in use"):
            await serve(settings)


async def test_the_index_links_to_what_there_is(gateway: Gateway) -> None:
    """Somebody who opens the port in a browser finds the way."""
    async with gateway.client.get("/") as response:
        assert response.status == 200
        index = await response.json()
    assert index["name"] == "reflux"
    assert index["version"]
    assert index["links"]["openapi"] == "/openapi.yaml"
    assert set(index["links"].values()) - {"/openapi.yaml"} <= set(openapi.document()["paths"])


async def test_the_served_document_is_the_generated_one(gateway: Gateway) -> None:
    """There is no copy that could be older than the API."""
    async with gateway.client.get("/openapi.yaml") as response:
        assert response.content_type == "application/yaml"
        assert await response.read() == openapi.as_yaml()
