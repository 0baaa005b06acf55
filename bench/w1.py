"""W1: runs of three sequential trivial steps, 64 in flight. How many per second?

By unary calls and by shared ones, each beside its own bare limit; and what the database did for a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bare import bare_limit
from bench.client import connected
from bench.counters import cpu_seconds, transactions
from bench.flows import of_both, sequence
from bench.load import closed_loop
from bench.report import Row, rates, row, show, show_ratio, take_turns
from bench.sink import sink
from bench.stack import running_stack

if TYPE_CHECKING:
    from bench.report import Plan
    from bench.stack import Stack

STEPS: Final = 3
IN_FLIGHT: Final = 64


async def measure(stack: Stack, plan: Plan) -> list[Row]:
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
        costs: dict[str, dict[str, float]] = {}
        for name, call in (
            ("bare limit, unary", lambda: bare.sequence(STEPS)),
            ("REFLUX, unary", lambda: client.run(unary)),
            ("bare limit, batched", lambda: bare.sequence_batched(STEPS)),
            ("REFLUX, batched", lambda: client.run(batched)),
        ):
            before = cpu_seconds(stack)
            async with transactions(stack) as counted:
                sample = await closed_loop(
                    call, in_flight=IN_FLIGHT, seconds=plan.seconds, warmup=plan.warmup
                )
                after = cpu_seconds(stack)
            costs[name] = {part: (after[part] - before[part]) / sample.asked for part in before}
            costs[name]["transactions"] = counted.count / (sample.asked * STEPS)
    show(f"W1: {STEPS} sequential trivial steps, {IN_FLIGHT} in flight", samples)
    limit, ours, shared_limit, shared = (rates(rounds) for rounds in samples.values())
    show_ratio("unary: share of its bare limit (aim: at least 0.70)", ours, limit)
    show_ratio("batched: share of its bare limit", shared, shared_limit)
    show_ratio("batched over the unary bare limit (aim: at least 2.3)", shared, limit)
    show_ratio("batched over unary", shared, ours)
    _show_costs(costs)
    counts = {name: f"{cost['transactions']:.2f}" for name, cost in costs.items()}
    return [
        row("W1 unary, runs/s", limit, ours, aim="0.70"),
        row("W1 batched, runs/s", shared_limit, shared),
        row("W1 batched over the unary limit, runs/s", limit, shared, aim="2.3"),
        Row(
            "W1, transactions of a step: unary, batched",
            f"{counts['bare limit, unary']}, {counts['bare limit, batched']}",
            f"{counts['REFLUX, unary']}, {counts['REFLUX, batched']}",
            aim="0.1",
        ),
    ]


def _show_costs(costs: dict[str, dict[str, float]]) -> None:
    print("\n  CPU of a run, ms; transactions of a step (aim: at most 0.1)")
    parts = list(next(iter(costs.values())))
    print(f"  {'':<22}" + "".join(f"{part:>15}" for part in [*parts[:-1], "sum", parts[-1]]))
    for name, cost in costs.items():
        cpu = [cost[part] * 1000 for part in parts[:-1]]
        figures = "".join(f"{each:>15.2f}" for each in [*cpu, sum(cpu)])
        print(f"  {name:<22}{figures}{cost['transactions']:>15.3f}")


async def measure_traced(plan: Plan) -> list[Row]:
    """The same with 1 % of the runs traced, and with all: a stack for each, since it is a setting."""
    batched, unary = of_both(lambda node: sequence(STEPS, node))
    lines = []
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
        lines.append(row(f"W1 unary, a share of {ratio} traced, runs/s", limit, ours, aim="0.70, 0.60"))
    return lines
