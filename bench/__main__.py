"""`python -m bench NAME`: start a stack, measure, print, stop; end with status 1 if a promise was broken."""

from __future__ import annotations

import argparse
import io
import os
import platform
import sys
import traceback
from typing import TYPE_CHECKING, Final

import uvloop

from bench import envoy, failover, shadow, storm, versions, w1, w2, w3, w4, w5, w6, w7, weights
from bench.report import BrokenPromise, Plan, Row
from bench.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.stack import Stack

SHARED: Final[dict[str, Callable[[Stack, Plan], Awaitable[list[Row]]]]] = {
    "w1": w1.measure,
    "w2": w2.measure,
    "w3": w3.measure,
    "w4": w4.measure,
    "w5": w5.measure,
    "envoy": envoy.measure,
    "weights": weights.measure,
    "failover": failover.measure,
    "storm": storm.measure,
    "shadow": shadow.measure,
}
"""What is measured on one stack, in turn."""

OWN: Final[dict[str, Callable[[Plan], Awaitable[list[Row]]]]] = {
    "w1-traced": w1.measure_traced,
    "w6": w6.measure,
    "w7": w7.measure,
    "versions": versions.measure,
}
"""What starts stacks of its own, because of their settings or of what it does to them."""


async def _run(names: list[str], plan: Plan) -> list[str]:
    """Measure, print, and end with the table for the README; which promises were broken."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}; medians of {plan.rounds} rounds of {plan.seconds:g} s, "
          f"load generator on the same machine; {_load()}")  # fmt: skip
    rows: list[Row] = []
    broken: list[str] = []
    if shared := [name for name in names if name in SHARED]:
        async with running_stack() as stack:
            for name in shared:
                await _one(SHARED[name](stack, plan), rows, broken)
    for name in names:
        if name in OWN:
            await _one(OWN[name](plan), rows, broken)
    print(f"\n{machine}; {_load()}\n\n| | limit | REFLUX | ratio | aim |\n|---|---|---|---|---|")
    print("\n".join(map(str, rows)))
    return broken


async def _one(measuring: Awaitable[list[Row]], rows: list[Row], broken: list[str]) -> None:
    try:
        rows += await measuring
    except* BrokenPromise as errors:
        broken += _words(errors)
    except* Exception as errors:  # noqa: BLE001 - what the others measured must be printed
        traceback.print_exception(errors)
        broken.append(f"a benchmark did not end: {errors.exceptions[0]!r}")


def _words(errors: BaseExceptionGroup) -> list[str]:
    return [
        text
        for each in errors.exceptions
        for text in (_words(each) if isinstance(each, BaseExceptionGroup) else [str(each)])
    ]


def _load() -> str:
    """How busy the machine is: below its cores with nothing but the benchmark, it was quiet."""
    return f"load average {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Read the command line and measure."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*SHARED, *OWN, "all"], metavar="NAME",
                        help=f"{', '.join([*SHARED, *OWN])}, or all")  # fmt: skip
    default = Plan()
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--warmup", type=float, default=default.warmup)
    parser.add_argument("--share", type=float, default=default.share,
                        help="of what is counted: 0.01 makes 10 of 1,000 changes")  # fmt: skip
    options = parser.parse_args()
    names = [*SHARED, *OWN] if "all" in options.names else options.names
    plan = Plan(options.rounds, options.seconds, options.warmup, share=options.share)
    if broken := uvloop.run(_run(names, plan)):
        sys.exit("\n".join(["broken promises:", *broken]))


if __name__ == "__main__":
    main()
