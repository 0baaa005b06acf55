"""A version that is full receives at most a fifth more requests than it was given steps to do.

Measured where the requests arrive, at a node that counts, with both layers of retries on: Envoy's tries of a
target, and the `retry` of the steps. Orchestrator, control plane, registry, Envoy and PostgreSQL are real.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.orchestrator.retry_budget import BURST
from tests.mesh.support.node import Node
from tests.mesh.support.orchestrator import orchestrator_on
from tests.mesh.support.platform import NODE

if TYPE_CHECKING:
    from tests.mesh.support.platform import Platform
    from tests.support.scripted_mesh import Client

RUNS = 200
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


class _Full:
    """A node with room for `places` calls of 20 ms: what comes above that is refused."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.inside = 0

    async def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self.inside >= self.places:
            await context.abort(FULL, "full")
        self.inside += 1
        await asyncio.sleep(0.02)
        self.inside -= 1


async def _ends(client: Client, total: str, flow: str = "busy") -> list[str]:
    """So many runs at once, each with one step that may be tried five times; how they ended."""
    retry = {"attempts": 5, "delay": "50ms", "on": [FULL.name]}
    step = {"id": "one", "node": NODE, "retry": retry, "timeout": {"total": total}, "with": {}}
    await client.save(flow, step)
    started = await asyncio.gather(*(client.start(flow) for _ in range(RUNS)))
    ended = [await client.until(run["id"], "SUCCEEDED", "FAILED", seconds=60) for run in started]
    return [run["state"] for run in ended]


@pytest.mark.parametrize(("places", "total"), [(0, "10s"), (2, "3s")])
async def test_both_layers_together_stay_below_a_fifth(
    platform: Platform, valkey_url: str, places: int, total: str
) -> None:
    """Three tries in Envoy for five attempts of each step would be fifteen requests for one.

    A version with no room stays below it for as long as one looks. One with some is well again when the first
    attempts are through, and what waited then leaves in a ramp: the time of the steps is over before that.
    """
    async with (
        Node("1").serving() as node,
        platform.registered(node, pure=True),
        orchestrator_on(platform, valkey_url) as client,
    ):
        node.behaviour = _Full(places)
        await platform.update({"version": "1", "weight": 10_000, "tries": 3})
        node.calls.clear()
        ends = await _ends(client, total)
        assert "FAILED" in ends, "this was no overload"
        # A busy machine may not even send each first attempt in time.
        assert 0 < len(node.calls) <= 1.2 * RUNS


async def test_a_full_version_hands_over_however_empty_its_budget_is(
    platform: Platform, valkey_url: str
) -> None:
    """All runs succeed by the next version of the chain; each of the two receives each attempt once."""
    async with AsyncExitStack() as stack:
        full, next_one = [await stack.enter_async_context(Node(name).serving()) for name in ("1", "2")]
        await stack.enter_async_context(platform.registered(full, next_one, pure=True))
        full.behaviour = _Full(0)
        client = await stack.enter_async_context(orchestrator_on(platform, valkey_url))
        chain = {"version": "1", "weight": 10_000, "fallback": ["2"]}
        await platform.update(chain, {"version": "2", "weight": 0})
        assert set(await _ends(client, "60s")) == {"SUCCEEDED"}
        assert len(full.calls) <= 1.2 * RUNS
        assert len(next_one.calls) <= 1.2 * RUNS


async def test_tries_before_a_fallback_are_cut_and_the_fallback_is_not(
    platform: Platform, valkey_url: str
) -> None:
    """Three tries of each of two versions, the first full, the second well: each receives an attempt once,
    and at most a fifth more of repetitions. When the second is full too, both stay below that.
    """
    async with AsyncExitStack() as stack:
        full, next_one = [await stack.enter_async_context(Node(name).serving()) for name in ("1", "2")]
        await stack.enter_async_context(platform.registered(full, next_one, pure=True))
        full.behaviour = _Full(0)
        client = await stack.enter_async_context(orchestrator_on(platform, valkey_url))
        chain = {"version": "1", "weight": 10_000, "fallback": ["2"], "tries": 3}
        await platform.update(chain, {"version": "2", "weight": 0, "tries": 3})
        full.calls.clear()
        next_one.calls.clear()
        assert set(await _ends(client, "60s")) == {"SUCCEEDED"}
        assert RUNS <= len(full.calls) <= 1.2 * RUNS
        assert RUNS <= len(next_one.calls) <= 1.2 * RUNS

        next_one.behaviour = _Full(0)
        full.calls.clear()
        next_one.calls.clear()
        assert "FAILED" in await _ends(client, "3s", flow="both")
        assert 0 < len(full.calls) <= 1.2 * RUNS + BURST, "more than was saved while all went well"
        assert 0 < len(next_one.calls) <= 1.2 * len(full.calls) + BURST
