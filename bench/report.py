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
    ratios = [one / other for one, other in zip(over, under, strict=True)]
    print(f"  {text}: {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def rates(rounds: Sequence[Sample]) -> list[float]:
    """Of each round, per second."""
    return [each.rate for each in rounds]


def medians(rounds: Sequence[Sample]) -> list[float]:
    """Of each round, the latency that half of the calls were below."""
    return [each.p50 for each in rounds]


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
