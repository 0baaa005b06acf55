"""W1: runs of three sequential trivial steps, 64 in flight. How many per second?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.bare import bare_limit
from bench.client import connected
from bench.report import Plan, show, show_ratio, take_turns

if TYPE_CHECKING:
    from bench.stack import Stack

STEPS = 3
IN_FLIGHT = 64


async def measure(stack: Stack, plan: Plan) -> None:
    """Measure and print."""
    async with bare_limit(stack) as bare, connected(stack) as client:
        await client.create(STEPS)
        samples = await take_turns(
            {"bare limit": lambda: bare.run(STEPS), "REFLUX, gRPC": lambda: client.run(STEPS)},
            in_flight=IN_FLIGHT,
            plan=plan,
        )
    show(f"W1: {STEPS} sequential trivial steps, {IN_FLIGHT} in flight", samples)
    limit, reflux = ([each.rate for each in rounds] for rounds in samples.values())
    show_ratio("share of the bare limit (budget: at least 0.70)", reflux, limit)
