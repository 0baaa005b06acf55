"""`python -m bench NAME`: start a stack, measure, print, stop."""

from __future__ import annotations

import argparse
import os
import platform
from typing import TYPE_CHECKING, Final

import uvloop

from bench import envoy, w1, w2, w3, w4, w5, w6, w7
from bench.report import Plan
from bench.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.stack import Stack

SHARED: Final[dict[str, Callable[[Stack, Plan], Awaitable[None]]]] = {
    "w1": w1.measure,
    "w2": w2.measure,
    "w3": w3.measure,
    "w4": w4.measure,
    "w5": w5.measure,
    "envoy": envoy.measure,
}
"""What is measured on one stack, in turn."""

OWN: Final[dict[str, Callable[[Plan], Awaitable[None]]]] = {
    "w1-traced": w1.measure_traced,
    "w6": w6.measure,
    "w7": w7.measure,
}
"""What starts stacks of its own, because of their settings or of what it does to them."""


async def _run(names: list[str], plan: Plan) -> None:
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()};", end=" ")
    print(f"medians of {plan.rounds} rounds of {plan.seconds:g} s, load generator on the same machine")
    if shared := [name for name in names if name in SHARED]:
        async with running_stack() as stack:
            for name in shared:
                await SHARED[name](stack, plan)
    for name in names:
        if name in OWN:
            await OWN[name](plan)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*SHARED, *OWN, "all"], metavar="NAME",
                        help=f"{', '.join([*SHARED, *OWN])}, or all")  # fmt: skip
    default = Plan()
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--warmup", type=float, default=default.warmup)
    options = parser.parse_args()
    names = [*SHARED, *OWN] if "all" in options.names else options.names
    uvloop.run(_run(names, Plan(options.rounds, options.seconds, options.warmup)))


if __name__ == "__main__":
    main()
