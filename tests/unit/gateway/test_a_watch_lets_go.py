"""A watch holds nothing longer than it must: clients that leave, stall, or outlive the gateway."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.unit.gateway.client import next_block, rest, until
from tests.unit.gateway.conftest import running
from tests.unit.gateway.orchestrator import RUN

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Gateway
    from tests.unit.gateway.orchestrator import Orchestrator

URL = f"/api/runs/{RUN}:watch"


async def test_a_client_that_leaves_ends_the_upstream_stream(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """Nothing is streamed for nobody."""
    await orchestrator.record("RunCreated")
    response = await gateway.client.get(URL)
    await next_block(response)
    assert orchestrator.open_streams == 1
    response.close()
    await until(lambda: orchestrator.open_streams == 0)


async def test_a_client_that_takes_nothing_is_let_go_and_costs_bounded_memory(
    orchestrator: Orchestrator,
) -> None:
    """Facts wait at the orchestrator, not in the gateway; after `Pace.send` the stream is given up."""
    total = 64
    for _ in range(total):
        await orchestrator.record("StepSettled", document=b'"%s"' % (b"x" * (1 << 20)))
    async with running(orchestrator, send=0.5) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        writer.write(f"GET {URL} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        await until(lambda: orchestrator.open_streams == 1)
        await until(lambda: orchestrator.open_streams == 0)
        assert orchestrator.sent < total
        writer.transport.abort()
        with suppress(ConnectionError):
            await reader.read()


async def test_a_full_gateway_has_room_again_when_a_watcher_leaves(orchestrator: Orchestrator) -> None:
    """The limit counts watches that are open, not watches that ever were."""
    await orchestrator.record("RunCreated")
    async with running(orchestrator, limit=1) as gateway:
        first = await gateway.client.get(URL)
        assert first.status == 200
        async with gateway.client.get(URL) as second:
            assert second.status == 429
        first.close()
        await until(lambda: orchestrator.open_streams == 0)
        async with gateway.client.get(URL) as third:
            assert third.status == 200


async def test_a_gateway_that_stops_closes_its_streams_without_end(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """Stopping takes far less than its bound, and clients know that they may resume."""
    await orchestrator.record("RunCreated")
    async with gateway.client.get(URL) as response:
        await next_block(response)
        began = time.monotonic()
        gateway.task.cancel()
        assert await rest(response) == []
        with suppress(asyncio.CancelledError):
            await gateway.task
        assert time.monotonic() - began < 4
    assert orchestrator.open_streams == 0
