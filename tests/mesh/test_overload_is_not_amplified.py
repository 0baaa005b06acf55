"""A version that is full receives at most a fifth more requests than it was given steps to do.

Measured where the requests arrive, at nodes that count, with both layers of retries on: Envoy's tries of a
target, and the `retry` of the steps. Orchestrator, control plane, registry, Envoy and PostgreSQL are real.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from reflux.cli.stack.ports import free_ports
from reflux.orchestrator import __main__ as orchestrator
from reflux.orchestrator.retry_budget import BURST, SHARE
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from tests.mesh.support.node import Node
from tests.mesh.support.platform import NODE
from tests.support.scripted_mesh import Client
from tests.support.service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mesh.support.platform import Platform

RUNS = 120
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


@asynccontextmanager
async def _orchestrator(platform: Platform, redis_url: str) -> AsyncIterator[Client]:
    address = Address("127.0.0.1", free_ports(1)[0])
    settings = Settings.load(
        postgres_dsn=platform.settings.postgres_dsn,
        redis_url=redis_url,
        registry_address=platform.settings.registry_address,
        controlplane_address=platform.settings.controlplane_address,
        mesh_address=Address("127.0.0.1", platform.proxy.mesh),
        orchestrator_address=address,
        shards=4,
    )
    async with rpc.channel(address) as channel, serving(orchestrator.serve, settings):
        yield Client(address, channel)


class _Full:
    """A node with room for `places` calls of 20 ms: what comes above that is refused."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.inside = 0

    async def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self.inside >= self.places:
            await context.abort(FULL, "full")
        self.inside += 1
        try:
            await asyncio.sleep(0.02)
        finally:
            self.inside -= 1


async def _overloaded(platform: Platform, client: Client, *targets: dict[str, Any]) -> None:
    """So many runs at once, each with one step that may be tried five times."""
    await platform.update(*targets)
    retry = {"attempts": 5, "backoff": {"initial": "50ms", "max": "200ms"}, "on": [FULL.name]}
    await client.save(
        "busy", {"id": "one", "node": NODE, "retry": retry, "timeout": {"total": "8s"}, "input": {"a": 1}}
    )
    started = [await client.start("busy") for _ in range(RUNS)]
    for run in started:
        await client.until(run["run_id"], "SUCCEEDED", "FAILED", seconds=60)


def _bound(assigned: int) -> float:
    """What a version may receive: the ratio, what it has to begin with, and a second's trickle for 10 s."""
    return (1 + SHARE) * assigned


async def test_both_layers_together_stay_below_a_fifth(
    platform: Platform, valkey_url: str
) -> None:
    """Three tries in Envoy and five attempts of each step would be fifteen requests for one without a budget."""
    async with Node("1.0.0").serving() as node, _orchestrator(platform, valkey_url) as client:
        node.behaviour = _Full(0)
        node.answer = b"1"
        await platform.register(node)
        await platform.answered_by("nothing") if False else None
        await _overloaded(platform, client, {"version": "1.0.0", "weight": 10_000, "tries": 3})
        print(len(node.calls), BURST)
        assert len(node.calls) >= RUNS
        assert len(node.calls) <= _bound(RUNS) + BURST
