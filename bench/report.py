"""Comparing and printing: medians of the rounds, with their noise, and the ratio to the bare limit.

Bare limit and REFLUX take turns within each round, so that a slow minute of the machine hits both. Noise is
half the spread of the rounds as a share of their median; a ratio is given with the smallest and the largest
of the rounds.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.load import Sample, closed_loop, single

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure: `rounds` windows of `seconds` each, after `warmup` seconds."""

    rounds: int = 3
    seconds: float = 10.0
    warmup: float = 2.0
    once: bool = False
    """A window is a single call, however long it takes."""
    share: float = 1.0
    """Of what is counted and not timed by rounds: 0.01 makes 10 of 1,000 changes. Less than 1 shows that a
    benchmark runs, and no figure."""

    def of(self, whole: float) -> int:
        """The share of `whole`; at least 1."""
        return max(1, round(whole * self.share))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table in the README."""

    what: str
    limit: str
    ours: str
    ratio: str = ""
    aim: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.limit} | {self.ours} | {self.ratio} | {self.aim} |"


class BrokenPromise(Exception):
    """A benchmark saw what must never be, such as a lost call; its figures have been printed."""


async def take_turns(
    contenders: Mapping[str, Callable[[], Awaitable[object]]], *, in_flight: int, plan: Plan
) -> dict[str, list[Sample]]:
    """Every contender once per round; the samples by name, in order of the rounds."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for _ in range(plan.rounds):
        for name, call in contenders.items():
            if plan.once:
                sample = await single(call)
            else:
                sample = await closed_loop(
                    call, in_flight=in_flight, seconds=plan.seconds, warmup=plan.warmup
                )
            samples[name].append(sample)
    return samples


def show(title: str, samples: Mapping[str, Sequence[Sample]]) -> None:
    """A table of the contenders."""
    print(f"\n{title}")
    print(f"  {'':<28}{'runs/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'noise':>8}")
    for name, rounds in samples.items():
        rate, p50, p99 = (
            statistics.median(values)
            for values in (
                [each.rate for each in rounds],
                [each.p50 for each in rounds],
                [each.p99 for each in rounds],
            )
        )
        noise = _spread([each.rate for each in rounds]) / 2
        print(f"  {name:<28}{rate:>9.1f}{p50:>9.2f}{p99:>9.2f}{noise:>7.0%}")


def show_ratio(text: str, over: Sequence[float], under: Sequence[float]) -> None:
    """The ratio of two figures, round by round."""
    print(f"  {text}: {_ratio(over, under)}")


def row(what: str, limit: Sequence[float], ours: Sequence[float], *, aim: str = "", digits: int = 0) -> Row:
    """A line of figures of rounds."""
    low, high = (f"{statistics.median(values):,.{digits}f}" for values in (limit, ours))
    return Row(what, low, high, _ratio(ours, limit), aim)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them (0.5: half) do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def rates(rounds: Sequence[Sample]) -> list[float]:
    """Of each round, per second."""
    return [each.rate for each in rounds]


def medians(rounds: Sequence[Sample]) -> list[float]:
    """Of each round, the latency that half of the calls were below."""
    return [each.p50 for each in rounds]


def _ratio(over: Sequence[float], under: Sequence[float]) -> str:
    ratios = [one / other for one, other in zip(over, under, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
