"""A gateway in this process over real HTTP and real gRPC, at a pace for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp
import pytest

from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
from reflux.gateway.app import application
from reflux.gateway.hooks import Hooks
from reflux.gateway.server import serve_http
from reflux.gateway.watch import Pace
from reflux.gateway.watches import Watches
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.unit.gateway.orchestrator import Orchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PACE = Pace(open=0.2, heartbeat=0.05, first_delay=0.01, longest_delay=0.1, retries=50)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: `client` calls it, `task` is its life."""

    port: int
    client: aiohttp.ClientSession
    task: asyncio.Task[None]


@asynccontextmanager
async def running(
    orchestrator: Orchestrator, *, limit: int = 100, body_seconds: float = 30.0, **pace: float
) -> AsyncIterator[Gateway]:
    """A gateway over `orchestrator`; `pace` changes single values of PACE."""
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with rpc.channel(orchestrator.address) as channel:
        watches = Watches(RunServiceStub(channel), replace(PACE, **pace), limit)
        serving = serve_http(
            application(watches, Hooks(TriggerServiceStub(channel), limit, body_seconds)),
            Address("127.0.0.1", 0),
            on_ready=started.set_result,
            on_stop=watches.stop,
        )
        task = asyncio.ensure_future(serving)
        try:
            port = await started
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", read_bufsize=1 << 21) as client:
                yield Gateway(port, client, task)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    """An orchestrator with one run, nothing recorded yet."""
    made = Orchestrator()
    async with made.serving():
        yield made


@pytest.fixture
async def gateway(orchestrator: Orchestrator) -> AsyncIterator[Gateway]:
    """A gateway over `orchestrator`."""
    async with running(orchestrator) as made:
        yield made
