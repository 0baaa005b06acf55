"""A step's own `fallback`, `tries` and `try_timeout`, from the flow to the node, on a real Envoy.

Orchestrator, control plane, registry, Envoy and PostgreSQL are real; nodes do as the test says.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc

from reflux.runtime import rpc
from tests.mesh.support.node import Node, hang, node_fault, not_processed, work
from tests.mesh.support.orchestrator import orchestrator_on
from tests.mesh.support.platform import NODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.mesh.support.platform import Platform
    from tests.support.scripted_mesh import Client

VERSIONS = ("1", "2", "3")
Nodes = dict[str, Node]
_NUMBERS = count(1)


@asynccontextmanager
async def _three(
    platform: Platform, valkey_url: str, *, pure: bool = True
) -> AsyncIterator[tuple[Client, Nodes]]:
    """Everything goes to 1, whose fallback is 2; 3 gets nothing by itself."""
    async with AsyncExitStack() as stack:
        nodes = {name: await stack.enter_async_context(Node(name).serving()) for name in VERSIONS}
        for node in nodes.values():
            await platform.register(node, pure=pure)
        client = await stack.enter_async_context(orchestrator_on(platform, valkey_url))
        await platform.answered_by("1")
        chain = {"version": "1", "weight": 10_000, "fallback": ["2"], "try_timeout": "5s"}
        await platform.update(chain, {"version": "2", "weight": 0})
        for name in VERSIONS:
            await platform.answered_by(name, version=name)
        for node in nodes.values():
            node.calls.clear()
        yield client, nodes


async def _step(client: Client, state: str = "SUCCEEDED", **keys: Any) -> dict[str, Any]:
    """The one step of a run that ends like this."""
    flow = f"own{next(_NUMBERS)}"
    await client.save(flow, {"id": "a", "node": NODE, "with": {}, **keys})
    run = await client.start(flow)
    await client.until(run["id"], state)
    return (await client.steps(run["id"]))["a"]


def _met(step: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Of each attempt who was chosen, why, and in how many tries."""
    return [(each["chosen"], each["reason"], each["tries"]) for each in step["attempts"]]


def _counts(nodes: Nodes) -> list[int]:
    counts = [len(node.calls) for node in nodes.values()]
    for node in nodes.values():
        node.calls.clear()
    return counts


async def _dead_url(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Fails as the SDK does when what the input names is ill."""
    status = rpc.make_status(
        grpc.StatusCode.UNAVAILABLE, "dead", reason="TARGET_FAULT", metadata={"fault": "target"}
    )
    await context.send_initial_metadata(())
    await context.abort(grpc.StatusCode.UNAVAILABLE, "dead", ((rpc.DETAILS_KEY, status.SerializeToString()),))


async def test_a_pure_step_walks_its_own_chain(platform: Platform, valkey_url: str) -> None:
    """Tries as the step says, then its own next version; a step beside it takes the node's chain."""
    async with _three(platform, valkey_url) as (client, nodes):
        nodes["1"].behaviour = node_fault()
        own = {"fallback": ["3"], "tries": 3}
        step = await _step(client, route=own)
        assert _met(step) == [("1", "override", 3), ("3", "fallback", 1)]
        assert _counts(nodes) == [3, 0, 1]
        first, second = step["attempts"]
        assert (first["weight"], first["probability"], first["outcome"]) == (10_000, 1.0, "NO_EFFECT")
        assert first["override"] == second["override"] == ["fallback 3", "tries 3"]

        step = await _step(client)
        assert _met(step) == [("1", "fallback", 2)]
        assert _counts(nodes) == [1, 1, 0]

        nodes["1"].behaviour = work
        assert _met(await _step(client, route=own)) == [("1", "override", 1)]
        assert _counts(nodes) == [1, 0, 0]


async def test_the_limit_of_a_try_is_the_steps(platform: Platform, valkey_url: str) -> None:
    """Against the 5 s of the target; the tries of the version end by it, then the node's chain is walked."""
    async with _three(platform, valkey_url) as (client, nodes):
        nodes["1"].behaviour = hang
        async with asyncio.timeout(4):
            step = await _step(client, route={"tries": 2, "try_timeout": "200ms"})
        assert _met(step) == [("1", "override", 2), ("2", "fallback", 1)]
        assert "UT" in step["attempts"][0]["flags"]
        assert _counts(nodes) == [2, 1, 0]


async def test_what_no_version_is_to_blame_for_stays(platform: Platform, valkey_url: str) -> None:
    """What the input names is ill: nobody else would do better. And `fallback: []` is a word too."""
    async with _three(platform, valkey_url) as (client, nodes):
        nodes["1"].behaviour = _dead_url
        step = await _step(client, "FAILED", route={"fallback": ["3"], "tries": 3})
        assert _met(step) == [("1", "override", 1)]
        assert _counts(nodes) == [1, 0, 0]
        nodes["1"].behaviour = node_fault()
        step = await _step(client, "FAILED", route={"fallback": []})
        assert _met(step) == [("1", "override", 1)]
        assert _counts(nodes) == [1, 0, 0]


async def test_an_effect_is_handed_on_when_nothing_happened(platform: Platform, valkey_url: str) -> None:
    """The version says that it did nothing: it is tried again, and then the step's own next one is asked."""
    async with _three(platform, valkey_url, pure=False) as (client, nodes):
        own = {"fallback": ["3"], "tries": 2}
        nodes["1"].behaviour = not_processed()
        step = await _step(client, route=own)
        assert _met(step) == [("1", "override", 2), ("3", "fallback", 1)]
        assert [each["effect"] for each in step["attempts"]] == ["at_most_once"] * 2
        assert _counts(nodes) == [2, 0, 1]
