"""Worlds one after the other, for as long as there is time; a module of its own for parallel processes."""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import count

from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import ENOUGH_EVENTS, ENOUGH_FAULTS, Report, simulate

SMALL = range(ENOUGH_EVENTS, ENOUGH_EVENTS + 50)
"""Events of a world that has enough and little more: how many of those fit into a second is its speed."""


@dataclass(slots=True)
class Tally:
    """What a night had: numbers of worlds, of their events and faults, seconds of CPU."""

    worlds: int = 0
    bad: int = 0
    events: int = 0
    faults: int = 0
    enough: int = 0
    small: int = 0
    small_cpu: float = 0.0
    cpu: float = 0.0

    def add(self, report: Report, cpu: float) -> None:
        """Counts a world that took so many seconds of CPU."""
        self.worlds += 1
        self.bad += tell([report])
        self.events += report.events
        self.faults += report.faults
        self.cpu += cpu
        if report.events >= ENOUGH_EVENTS and report.faults >= ENOUGH_FAULTS:
            self.enough += 1
            if report.events in SMALL:
                self.small += 1
                self.small_cpu += cpu

    def __add__(self, other: Tally) -> Tally:
        names = [field.name for field in fields(self)]
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def __str__(self) -> str:
        mean, small = max(self.worlds, 1), max(self.small_cpu, 1e-9)
        return (
            f"{self.worlds} worlds, {self.worlds / max(self.cpu, 1e-9):.0f} per second of CPU; of each"
            f" {self.events / mean:.0f} events and {self.faults / mean:.1f} faults,"
            f" {self.enough / mean:.0%} with at least {ENOUGH_EVENTS} and {ENOUGH_FAULTS};"
            f" {self.small} of {SMALL.start} to {SMALL.stop - 1} events, {self.small / small:.0f} of those"
            f" per second of CPU; {self.bad} broke a promise"
        )


def run_for(first: int, *, seconds: float, stride: int, mutant: str | None) -> Tally:
    """Worlds for so long, from this seed on."""
    tally = Tally()
    gc.freeze()  # the modules stay; to look through them again and again takes a seventh of the time
    end = time.monotonic() + seconds
    with MUTANTS[mutant].planted() if mutant else nullcontext():
        for seed in count(first, stride):
            if time.monotonic() >= end:
                break
            began = time.process_time()
            tally.add(simulate(seed), time.process_time() - began)
    return tally


def tell(reports: list[Report]) -> int:
    """Says what is wrong, and how to see it again."""
    for report in reports:
        for problem in report.problems:
            print(f"seed {report.seed}: {problem}", flush=True)
        if report.problems:
            print(f"  again: python -m tests.simulation --seed {report.seed}", flush=True)
    return int(any(report.problems for report in reports))
