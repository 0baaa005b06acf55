"""500 node versions: what does one change cost the control plane, beside what it costs at 4?

125 nodes with 4 versions each, every one of them served, under a lease, and with a route that gives each
version a share and three others to fall back to. Weights of one node change, again and again; counted are the
CPU time of the process that holds registry and control plane, that of Envoy, and what Envoy received from the
control plane. What the same time costs in which nothing changes (leases are renewed, statistics are read) is
taken off.

Once without the setting `faults`, and once with it: then every version has a twin on which it can be made to
fail, and the proxy three times the clusters.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from bench.calls import caller
from bench.client import connected
from bench.counters import cpu_of
from bench.processes import serving
from bench.report import Row, quantile
from bench.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.client import Client
    from bench.report import Plan
    from bench.stack import Stack

VERSIONS: Final = ("1.0.0", "2.0.0", "3.0.0", "4.0.0")
NODES: Final = 125
LEASE_SECONDS: Final = "60"
"""So that 500 leases, all of which are renewed by four processes, are not what is measured."""
PROCESSES: Final = 4
"""That share the nodes but the first."""
CHANGES: Final = 50
PAUSE_SECONDS: Final = 0.1
"""Between changes, so that each is a turn of the control plane for itself."""
_RECEIVED: Final = "cluster.controlplane.upstream_cx_rx_bytes_total"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one change: CPU milliseconds, bytes, and milliseconds until it was acknowledged (median)."""

    controlplane: float
    envoy: float
    received: float
    answered: float


@dataclass(frozen=True, slots=True)
class _Used:
    at: float
    controlplane: float
    envoy: float
    received: int


async def measure(plan: Plan) -> list[Row]:
    """Measure and print."""
    rows = []
    for faults in ("off", "test"):
        async with running_stack(faults=faults, lease_seconds=LEASE_SECONDS) as stack:
            few, many = await _measure(stack, plan)
        count = plan.of(NODES) * len(VERSIONS)
        _show(few, many, faults, count)
        rows.append(_row(few, many, faults, count))
    return rows


async def _measure(stack: Stack, plan: Plan) -> tuple[Cost, Cost]:
    first, *others = [f"bench.n{number}" for number in range(plan.of(NODES))]
    async with AsyncExitStack() as processes, connected(stack) as client:
        await processes.enter_async_context(serving(stack, *_versions([first])))
        few = await _costs(stack, client, first, plan)
        for number in range(PROCESSES):
            if part := others[number::PROCESSES]:
                await processes.enter_async_context(serving(stack, *_versions(part)))
        for node in others:
            await client.route(node, *_targets(0))
        async with caller(stack, (others or [first])[-1]) as last:
            await last.reached(VERSIONS[-1])
        return few, await _costs(stack, client, first, plan)


async def _costs(stack: Stack, client: Client, node: str, plan: Plan) -> Cost:
    await client.route(node, *_targets(0))
    changes, answered = plan.of(CHANGES), []
    before = await _used(stack)
    for number in range(1, changes + 1):
        asked = time.perf_counter()
        await client.route(node, *_targets(number))
        answered.append((time.perf_counter() - asked) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    after = await _used(stack)
    await asyncio.sleep(after.at - before.at)
    idle = await _used(stack)
    share = (after.at - before.at) / (idle.at - after.at)

    def of_a_change(used: Callable[[_Used], float]) -> float:
        return (used(after) - used(before) - (used(idle) - used(after)) * share) / changes

    return Cost(
        controlplane=of_a_change(lambda used: used.controlplane) * 1000,
        envoy=of_a_change(lambda used: used.envoy) * 1000,
        received=of_a_change(lambda used: used.received),
        answered=quantile(answered, 0.5),
    )


async def _used(stack: Stack) -> _Used:
    url = f"{stack.url('admin')}/stats?filter=^{_RECEIVED}$"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        received = int((await response.text()).rpartition(" ")[2])
    controlplane, envoy = cpu_of(stack.pid("platform")), cpu_of(stack.pid("envoy"))
    return _Used(time.perf_counter(), controlplane, envoy, received)


def _versions(nodes: Sequence[str]) -> list[str]:
    return [f"{node}@{version}" for node in nodes for version in VERSIONS]


def _targets(number: int) -> list[dict[str, Any]]:
    """Shares that differ from those of the number before."""
    moved = 1 + number % 2_000
    shares = (2_500 + moved, 2_500 - moved, 2_500, 2_500)
    return [
        {"version": version, "weight": share, "fallback": [other for other in VERSIONS if other != version]}
        for version, share in zip(VERSIONS, shares, strict=True)
    ]


def _show(few: Cost, many: Cost, faults: str, count: int) -> None:
    print(f"\nVersions: one change of weights at {len(VERSIONS)} and at {count} versions, faults: {faults}")
    print(f"  {'':<44}{len(VERSIONS):>12}{count:>12}")
    for text, figure in (
        ("CPU of registry and control plane, ms", "controlplane"),
        ("CPU of Envoy, ms", "envoy"),
        ("bytes that Envoy received", "received"),
        ("until it was acknowledged, p50, ms", "answered"),
    ):
        print(f"  {text:<44}{getattr(few, figure):>12,.1f}{getattr(many, figure):>12,.1f}")


def _row(few: Cost, many: Cost, faults: str, count: int) -> Row:
    limit, ours = (
        f"{each.controlplane:.0f}, {each.envoy:.0f}, {each.received / 1000:.0f}, {each.answered:.0f}"
        for each in (few, many)
    )
    what = f"a change at {len(VERSIONS)} and at {count} versions, faults {faults}: CPU ms of control plane"
    ratio = f"{many.controlplane / max(few.controlplane, 0.1):.1f} of the control plane's CPU"
    return Row(f"{what}, of Envoy; kB; p50 ms", limit, ours, ratio)
