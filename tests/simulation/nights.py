"""Worlds one after the other, for as long as there is time; a module of its own for parallel processes."""

from __future__ import annotations

import time
from contextlib import nullcontext
from itertools import count

from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import Report, simulate


def run_for(
    first: int, *, seconds: float, stride: int, mutant: str | None
) -> tuple[int, int, int, int, int, float]:
    """Worlds for so long: how many, how many were bad, their events and faults, and CPU seconds."""
    done, bad, events, faults, full = 0, 0, 0, 0, 0
    end, cpu = time.monotonic() + seconds, time.process_time()
    with MUTANTS[mutant].planted() if mutant else nullcontext():
        for seed in count(first, stride):
            if time.monotonic() >= end:
                break
            report = simulate(seed)
            done += 1
            bad += tell([report])
            events += report.events
            faults += report.faults
            full += report.events >= 200 and report.faults >= 5
    return done, bad, events, faults, full, time.process_time() - cpu


def tell(reports: list[Report]) -> int:
    """Says what is wrong, and how to see it again."""
    for report in reports:
        for problem in report.problems:
            print(f"seed {report.seed}: {problem}", flush=True)
        if report.problems:
            print(f"  again: python -m tests.simulation --seed {report.seed}", flush=True)
    return int(any(report.problems for report in reports))
