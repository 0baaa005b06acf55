"""`python -m bench w1|idle|w7|all`: start a stack, measure, print, stop."""

from __future__ import annotations

import argparse
import os
import platform

import uvloop

from bench import idle, w1, w7
from bench.report import Plan
from bench.stack import running_stack

MEASURES = {"w1": w1.measure, "idle": idle.measure, "w7": w7.measure}


async def _run(names: list[str], plan: Plan) -> None:
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()};", end=" ")
    print(f"medians of {plan.rounds} rounds of {plan.seconds:g} s, load generator on the same machine")
    async with running_stack() as stack:
        for name in names:
            await MEASURES[name](stack, plan)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*MEASURES, "all"])
    default = Plan()
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--warmup", type=float, default=default.warmup)
    options = parser.parse_args()
    names = list(MEASURES) if options.name == "all" else [options.name]
    uvloop.run(_run(names, Plan(options.rounds, options.seconds, options.warmup)))


if __name__ == "__main__":
    main()
