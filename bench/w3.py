"""W3: one run whose foreach goes through 10,000 items, 200 at once. How long does it take?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bench.bare import bare_limit
from bench.client import connected
from bench.flows import loop, of_both
from bench.report import medians, row, show, show_ratio, take_turns

if TYPE_CHECKING:
    from bench.report import Plan, Row
    from bench.stack import Stack

ITEMS: Final = 10_000
PARALLEL: Final = 200


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print: a single run per round, since one takes seconds."""
    batched, unary = of_both(lambda node: loop(ITEMS, PARALLEL, node))
    async with bare_limit(stack) as bare, connected(stack) as client:
        await client.create(batched, unary)
        samples = await take_turns(
            {
                "bare limit, unary": lambda: bare.fan(ITEMS, batched=False, parallel=PARALLEL),
                "REFLUX, unary": lambda: client.run(unary),
                "bare limit, batched": lambda: bare.fan(ITEMS, batched=True, parallel=PARALLEL),
                "REFLUX, batched": lambda: client.run(batched),
            },
            in_flight=1,
            plan=replace(plan, warmup=0.0, once=True),
        )
    show(f"W3: foreach over {ITEMS:,} items, {PARALLEL} at once (aim: at most 5,000 ms)", samples)
    limit, ours, shared_limit, shared = (medians(rounds) for rounds in samples.values())
    show_ratio("unary: time as a multiple of its bare limit", ours, limit)
    show_ratio("batched: time as a multiple of its bare limit", shared, shared_limit)
    show_ratio("batched: time as a multiple of the unary bare limit", shared, limit)
    return [
        row("W3 batched, ms", shared_limit, shared, aim="5,000 ms"),
        row("W3 batched beside the unary limit, ms", limit, shared),
    ]
