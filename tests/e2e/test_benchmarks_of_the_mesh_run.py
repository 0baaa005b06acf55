"""Each benchmark of the mesh runs, in small: nothing is lost in it, and its line for the README is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import bench.stack
from bench import failover, shadow, storm, weights
from bench.report import Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.report import Row
    from tests.support.stack import Stack

SMALL = Plan(rounds=1, seconds=1.0, warmup=0.1, share=0.03)


@pytest.mark.parametrize("measure", [weights.measure, failover.measure, storm.measure])
async def test_it_measures_and_loses_nothing(
    stack: Stack, measure: Callable[[bench.stack.Stack, Plan], Awaitable[list[Row]]]
) -> None:
    """A call that failed, a run that was lost or a storm without kills would end it with `BrokenPromise`."""
    [row] = await measure(bench.stack.Stack.of(stack.data), SMALL)
    assert str(row).count("|") == 6


async def test_copies_are_made_while_a_shadow_is_measured(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every call here, since there are few; the benchmark itself asks that they compare as equal."""
    monkeypatch.setattr(shadow, "SHARE", 10_000)
    rows = await shadow.measure(bench.stack.Stack.of(stack.data), SMALL)
    assert len(rows) == len(shadow.IN_FLIGHT)
