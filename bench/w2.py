"""W2: one run with 100 parallel steps. How long does it take on a stack that does nothing else?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bare import bare_limit
from bench.client import connected
from bench.flows import loop, of_both
from bench.report import medians, row, show, show_ratio, take_turns

if TYPE_CHECKING:
    from bench.report import Plan, Row
    from bench.stack import Stack

WIDTH: Final = 100


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print."""
    batched, unary = of_both(lambda node: loop(WIDTH, WIDTH, node))
    async with bare_limit(stack) as bare, connected(stack) as client:
        await client.create(batched, unary)
        samples = await take_turns(
            {
                "bare limit, unary": lambda: bare.fan(WIDTH, batched=False),
                "REFLUX, unary": lambda: client.run(unary),
                "bare limit, batched": lambda: bare.fan(WIDTH, batched=True),
                "REFLUX, batched": lambda: client.run(batched),
            },
            in_flight=1,
            plan=plan,
        )
    show(f"W2: a run with {WIDTH} parallel steps, 1 in flight (aim: p50 at most 28 ms)", samples)
    limit, ours, shared_limit, shared = (medians(rounds) for rounds in samples.values())
    show_ratio("unary: p50 as a multiple of its bare limit", ours, limit)
    show_ratio("batched: p50 as a multiple of its bare limit", shared, shared_limit)
    show_ratio("batched: p50 as a multiple of the unary bare limit", shared, limit)
    return [
        row("W2 batched, p50 ms", shared_limit, shared, aim="28 ms"),
        row("W2 batched beside the unary limit, p50 ms", limit, shared),
    ]
