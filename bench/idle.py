"""Idle latency: one run at a time on a stack that does nothing else. How long until it has settled?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.bare import bare_limit
from bench.client import connected
from bench.report import Plan, show, show_ratio, take_turns

if TYPE_CHECKING:
    from bench.stack import Stack


async def measure(stack: Stack, plan: Plan) -> None:
    """Measure and print."""
    async with bare_limit(stack) as bare, connected(stack) as client:
        await client.create(1)
        await client.create(3)
        one = await take_turns(
            {
                "bare limit": lambda: bare.run(1),
                "REFLUX, gRPC": lambda: client.run(1),
                "REFLUX, REST": lambda: client.run_rest(1),
            },
            in_flight=1,
            plan=plan,
        )
        three = await take_turns(
            {"bare limit": lambda: bare.run(3), "REFLUX, gRPC": lambda: client.run(3)}, in_flight=1, plan=plan
        )
    show("Idle: 1 trivial step, 1 in flight (budget: p50 at most 10 ms over REST)", one)
    limit, grpc, rest = ([each.p50 for each in rounds] for rounds in one.values())
    show_ratio("p50 over gRPC as a multiple of the bare limit", grpc, limit)
    show_ratio("p50 over REST as a multiple of gRPC", rest, grpc)
    show("Idle: 3 sequential trivial steps, 1 in flight (budget: p50 at most 9 ms)", three)
    limit, grpc = ([each.p50 for each in rounds] for rounds in three.values())
    show_ratio("p50 over gRPC as a multiple of the bare limit", grpc, limit)
