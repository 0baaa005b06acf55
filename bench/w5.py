"""W5: one run of 40 sequential trivial steps. How long does it take on a stack that does nothing else?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bare import bare_limit
from bench.client import connected
from bench.flows import sequence
from bench.report import medians, row, show, show_ratio, take_turns

if TYPE_CHECKING:
    from bench.report import Plan, Row
    from bench.stack import Stack

STEPS: Final = 40


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print. A step that is alone travels alone, so there is one kind of call."""
    flow = sequence(STEPS)
    async with bare_limit(stack) as bare, connected(stack) as client:
        await client.create(flow)
        samples = await take_turns(
            {"bare limit": lambda: bare.sequence(STEPS), "REFLUX": lambda: client.run(flow)},
            in_flight=1,
            plan=plan,
        )
    show(f"W5: {STEPS} sequential trivial steps, 1 in flight (aim: p50 at most 400 ms)", samples)
    limit, ours = (medians(rounds) for rounds in samples.values())
    show_ratio("p50 as a multiple of the bare limit", ours, limit)
    return [row("W5, p50 ms", limit, ours, aim="400 ms")]
