"""What a version in the shadow adds to runs of a node: 5 % of its calls are copied to it.

Runs of one step, over gRPC through the edge, in turns of two nodes that are alike: one has nobody in the
shadow, which is the limit; the other has. The promise is at most 2 ms at p95.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from itertools import cycle
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson

from bench.client import connected
from bench.flows import sequence
from bench.load import closed_loop
from bench.processes import serving
from bench.report import BrokenPromise, Row, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.client import Client
    from bench.flows import Flow
    from bench.report import Plan
    from bench.stack import Stack

ALONE: Final = "bench.alone"
WATCHED: Final = "bench.watched"
SHARE: Final = 500
"""Basis points."""
IN_FLIGHT: Final = (1, 8)
PROMISED_MS: Final = 2
_TOLD_SECONDS: Final = 3.0
"""After which copies have been compared and counted."""


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print.

    Raises:
        BrokenPromise: no copy was made, or one did not compare as equal.
    """
    alone, watched = sequence(1, ALONE), sequence(1, WATCHED)
    async with (
        serving(stack, f"{ALONE}@1.0.0", f"{WATCHED}@1.0.0"),
        serving(stack, f"{WATCHED}@2.0.0"),
        connected(stack) as client,
    ):
        await client.create(alone, watched)
        in_the_shadow = {"version": "2.0.0", "weight": 0, "shadow": SHARE}
        await client.route(WATCHED, {"version": "1.0.0", "weight": 10_000}, in_the_shadow)
        print(f"\nShadow: runs of one step, {SHARE / 100:g} % of the calls copied")
        print(f"  {'p95 ms':<14}{'limit: no shadow':>18}{'with one':>12}{'added':>9}")
        rows = []
        for in_flight in IN_FLIGHT:
            rounds = [await _round(client, (alone, watched), in_flight, plan) for _ in range(plan.rounds)]
            rows.append(_row(rounds, in_flight))
        await _check(stack)
    return rows


async def _round(client: Client, flows: tuple[Flow, Flow], in_flight: int, plan: Plan) -> tuple[float, float]:
    """p95 of both, in milliseconds. Runs take turns one by one, so that a busy moment hits both."""
    took: tuple[list[float], list[float]] = ([], [])
    turns = cycle((0, 1))

    async def run() -> None:
        which = next(turns)
        began = time.perf_counter()
        await client.run(flows[which])
        took[which].append((time.perf_counter() - began) * 1000)

    await closed_loop(run, in_flight=in_flight, seconds=plan.seconds, warmup=plan.warmup)
    return quantile(took[0], 0.95), quantile(took[1], 0.95)


def _row(rounds: Sequence[tuple[float, float]], in_flight: int) -> Row:
    """Print a line; the same for the README."""
    limit, ours = (statistics.median(values) for values in zip(*rounds, strict=True))
    added = [one - other for other, one in rounds]
    middle = statistics.median(added)
    spread = f"({min(added):.1f} to {max(added):.1f})"
    print(f"  {f'{in_flight} in flight':<14}{limit:>18.1f}{ours:>12.1f}{middle:>9.1f}  {spread}")
    what = f"a shadow of {SHARE / 100:g} %: p95 of a run of one step, {in_flight} in flight, ms"
    return Row(what, f"{limit:.1f}", f"{ours:.1f}", f"{middle:+.1f} ms {spread}", f"+{PROMISED_MS} ms")


async def _check(stack: Stack) -> None:
    """See that there were copies, and what they gave."""
    await asyncio.sleep(_TOLD_SECONDS)
    url = f"http://{stack.edge}/api/nodes/{WATCHED}/shadows"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        shadows = orjson.loads(await response.read()).get("shadows", [])
    told = {name: sum(each.get(name, 0) for each in shadows) for name in ("equal", "different", "failed")}
    print(f"  copies compared: {told['equal']} equal, {told['different']} different, {told['failed']} failed")
    if not told["equal"] or told["different"] or told["failed"]:
        raise BrokenPromise(f"shadow: copies must be made, and equal what they are copies of: {told}")
