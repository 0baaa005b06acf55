"""W4: idle latency. One run at a time on a stack that does nothing else: how long until it has settled?

*Inside* is from the acceptance of the run to its recorded end, by the run's own times: what the orchestrator
takes, without the edge and the client.
"""

from __future__ import annotations

import statistics
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.bare import bare_limit
from bench.client import connected
from bench.flows import sequence
from bench.report import medians, row, show, show_ratio, take_turns

if TYPE_CHECKING:
    from bench.report import Plan, Row
    from bench.stack import Stack


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print."""
    one, three = sequence(1), sequence(3)
    inside: list[float] = []
    async with bare_limit(stack) as bare, connected(stack) as client:

        async def timed() -> None:
            inside.append(_milliseconds(await client.run(one)))

        await client.create(one, three)
        singles = await take_turns(
            {
                "bare limit": lambda: bare.sequence(1),
                "REFLUX, gRPC": timed,
                "REFLUX, REST": lambda: client.run_rest(one),
            },
            in_flight=1,
            plan=plan,
        )
        triples = await take_turns(
            {"bare limit": lambda: bare.sequence(3), "REFLUX, gRPC": lambda: client.run(three)},
            in_flight=1,
            plan=plan,
        )
    show("W4: 1 trivial step, 1 in flight (aim: p50 at most 10 ms over REST)", singles)
    limit, grpc, rest = (medians(rounds) for rounds in singles.values())
    show_ratio("p50 over gRPC as a multiple of the bare limit", grpc, limit)
    show_ratio("p50 over REST as a multiple of gRPC", rest, grpc)
    lines = [
        row("W4, 1 step over gRPC, p50 ms", limit, grpc, digits=1),
        row("W4, 1 step over REST, p50 ms", limit, rest, digits=1, aim="10 ms"),
        row("W4, 1 step, inside the orchestrator, p50 ms", limit, [statistics.median(inside)] * len(limit),
            digits=1, aim="4 ms"),
    ]  # fmt: skip
    print(f"  inside, p50 (aim: at most 4 ms): {statistics.median(inside):.2f} ms")
    show("W4: 3 sequential trivial steps, 1 in flight (aim: p50 at most 9 ms)", triples)
    limit, grpc = (medians(rounds) for rounds in triples.values())
    show_ratio("p50 over gRPC as a multiple of the bare limit", grpc, limit)
    return [*lines, row("W4, 3 steps over gRPC, p50 ms", limit, grpc, digits=1, aim="9 ms")]


def _milliseconds(run: dict[str, Any]) -> float:
    begin, end = (datetime.fromisoformat(run[key]) for key in ("create_time", "finish_time"))
    return (end - begin).total_seconds() * 1000
