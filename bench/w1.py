"""W1: runs of three sequential trivial steps, 64 in flight. How many per second?

By unary calls and by shared ones, each beside its own bare limit; and what the database did for a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bare import bare_limit
from bench.client import connected
from bench.counters import transactions
from bench.flows import of_both, sequence
from bench.load import closed_loop
from bench.report import rates, show, show_ratio, take_turns
from bench.sink import sink
from bench.stack import running_stack

if TYPE_CHECKING:
    from bench.report import Plan
    from bench.stack import Stack

STEPS: Final = 3
IN_FLIGHT: Final = 64


async def measure(stack: Stack, plan: Plan) -> None:
    """Measure and print."""
    batched, unary = of_both(lambda node: sequence(STEPS, node))
    async with bare_limit(stack) as bare, connected(stack) as client:
        await client.create(batched, unary)
        samples = await take_turns(
            {
                "bare limit, unary": lambda: bare.sequence(STEPS),
                "REFLUX, unary": lambda: client.run(unary),
                "bare limit, batched": lambda: bare.sequence_batched(STEPS),
                "REFLUX, batched": lambda: client.run(batched),
            },
            in_flight=IN_FLIGHT,
            plan=plan,
        )
        async with transactions(stack) as counted:
            sample = await closed_loop(
                lambda: client.run(batched), in_flight=IN_FLIGHT, seconds=plan.seconds, warmup=plan.warmup
            )
    show(f"W1: {STEPS} sequential trivial steps, {IN_FLIGHT} in flight", samples)
    limit, ours, shared_limit, shared = (rates(rounds) for rounds in samples.values())
    show_ratio("unary: share of its bare limit (aim: at least 0.70)", ours, limit)
    show_ratio("batched: share of its bare limit", shared, shared_limit)
    show_ratio("batched over the unary bare limit (aim: at least 2.3)", shared, limit)
    show_ratio("batched over unary", shared, ours)
    print(f"  transactions per step (aim: at most 0.1): {counted.count / (sample.asked * STEPS):.3f}")


async def measure_traced(plan: Plan) -> None:
    """The same with 1 % of the runs traced, and with all: a stack for each, since it is a setting."""
    batched, unary = of_both(lambda node: sequence(STEPS, node))
    for ratio in ("0.01", "1"):
        async with (
            sink() as endpoint,
            running_stack(otlp_endpoint=endpoint, trace_ratio=ratio) as stack,
            bare_limit(stack) as bare,
            connected(stack) as client,
        ):
            await client.create(batched, unary)
            samples = await take_turns(
                {
                    "bare limit, unary": lambda bare=bare: bare.sequence(STEPS),
                    "REFLUX, unary": lambda client=client: client.run(unary),
                    "REFLUX, batched": lambda client=client: client.run(batched),
                },
                in_flight=IN_FLIGHT,
                plan=plan,
            )
        show(f"W1 with a share of {ratio} of the runs traced (the bare limit is not)", samples)
        limit, ours, shared = (rates(rounds) for rounds in samples.values())
        show_ratio("unary: share of the untraced bare limit", ours, limit)
        show_ratio("batched over the untraced unary bare limit", shared, limit)
