"""`python -m tests.simulation`: worlds by the thousand, or one of them line by line.

    --seed 123              the life of one world, every line, and the verdict
    --seconds 60            as many worlds as fit, from a seed that is printed
    --first 1000            … from this seed
    --processes 2           … beside each other
    --mutant zombie         … with this bug planted (`tests/simulation/mutants.py`)

Ends with 1 when a promise was broken; the seed is all that is needed to see it again.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from secrets import randbelow

from tests.simulation.mutants import MUTANTS
from tests.simulation.nights import Tally, run_for, tell
from tests.simulation.simulation import simulate


def main(arguments: list[str] | None = None) -> int:
    """What the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    given = parser.parse_args(arguments)
    if given.seed is not None:
        with MUTANTS[given.mutant].planted() if given.mutant else nullcontext():
            report = simulate(given.seed, traced=True)
        print("\n".join(report.trace))
        return tell([report])
    first = randbelow(1 << 40) if given.first is None else given.first
    print(f"from seed {first}", flush=True)
    return _many(first, given.seconds, given.processes, given.mutant)


def _many(first: int, seconds: float, processes: int, mutant: str | None) -> int:
    work = partial(run_for, seconds=seconds, stride=processes, mutant=mutant)
    with get_context("spawn").Pool(processes) as pool:
        tally = sum(pool.map(work, range(first, first + processes)), Tally())
    print(tally)
    return int(tally.bad > 0)


if __name__ == "__main__":
    sys.exit(main())
