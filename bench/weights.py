"""Weights change while calls are made: how soon has each change its effect, and does a call fail for it?

Two versions share the calls of a node, each call with a draw of its own; every change deals the shares anew,
through the API. A reply tells the revision that chose, so every one of them is held against the shares of its
revision and its draw. Measured from the moment at which a change was asked for:

- the first reply that was chosen by the new shares;
- the begin of the last call that was chosen by older ones: from then on the change has effect everywhere;
- the answer to who asked, which comes when the proxy has acknowledged.

The bare limit is what a change cannot do without: a row that is committed, an answer through the edge, and a
call that shows it, in turns with the changes and under the same load.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from bench.bare import bare_limit
from bench.calls import DRAWS, Reply, caller, failures
from bench.client import connected
from bench.processes import serving
from bench.report import BrokenPromise, Row, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.bare import Bare
    from bench.calls import Caller
    from bench.client import Client
    from bench.report import Plan
    from bench.stack import Stack

NODE: Final = "bench.shared"
VERSIONS: Final = ("1.0.0", "2.0.0")
CHANGES: Final = 1_000
CALLERS: Final = 8
PROMISED_MS: Final = 30
SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was made; times as `time.perf_counter` has them."""

    revision: int
    share: int
    """Basis points of the first version."""
    asked: float
    answered: float


@dataclass(frozen=True, slots=True)
class Effect:
    """Milliseconds from the question."""

    first: float
    everywhere: float
    answered: float


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print.

    Raises:
        BrokenPromise: a call failed, or was given to a version that its draw does not lead to.
    """
    replies: list[Reply] = []
    limits: list[float] = []
    async with (
        serving(stack, *(f"{NODE}@{version}" for version in VERSIONS)),
        connected(stack) as client,
        caller(stack, NODE) as calls,
        bare_limit(stack) as bare,
    ):
        for version in VERSIONS:
            await calls.reached(version)
        changes = [await _change(client, calls, DRAWS, [])]
        dice = random.Random(SEED)
        async with calls.calling(CALLERS, replies.append):
            for _ in range(plan.of(CHANGES)):
                limits.append(await _limit(bare, client, calls, replies))
                changes.append(await _change(client, calls, dice.randrange(DRAWS + 1), replies))
    effects = _effects(changes, replies)
    lost, wrong = failures(replies), _misled(changes, replies)
    _show(effects, limits, len(replies), len(lost), len(wrong))
    if lost or wrong:
        raise BrokenPromise(f"weights: {len(lost)} calls failed, {len(wrong)} were misled; {lost[:3]}")
    return [_row(effects, limits, len(replies), len(lost))]


async def _change(client: Client, calls: Caller, share: int, replies: list[Reply]) -> Change:
    """Deal the shares, and see that it has effect."""
    first, second = VERSIONS
    asked = time.perf_counter()
    revision = await client.route(
        NODE, {"version": first, "weight": share}, {"version": second, "weight": DRAWS - share}
    )
    answered = time.perf_counter()
    while True:
        replies.append(await calls.call())
        if replies[-1].revision == revision or replies[-1].failure:
            return Change(revision, share, asked, answered)


async def _limit(bare: Bare, client: Client, calls: Caller, replies: list[Reply]) -> float:
    """The bare limit, once, in milliseconds."""
    began = time.perf_counter()
    await bare.commit()
    await client.read_route(NODE)
    replies.append(await calls.call())
    return (time.perf_counter() - began) * 1000


def _effects(changes: Sequence[Change], replies: Sequence[Reply]) -> list[Effect]:
    """Of every change but the first, before which nobody called."""
    ends: dict[int, float] = {}
    begins: dict[int, float] = {}
    for each in replies:
        ends[each.revision] = min(each.ended, ends.get(each.revision, each.ended))
        begins[each.revision] = max(each.began, begins.get(each.revision, each.began))
    return [
        Effect(
            first=(ends[now.revision] - now.asked) * 1000,
            everywhere=max(0.0, begins.get(former.revision, now.asked) - now.asked) * 1000,
            answered=(now.answered - now.asked) * 1000,
        )
        for former, now in pairwise(changes)
        if now.revision in ends
    ]


def _misled(changes: Sequence[Change], replies: Sequence[Reply]) -> list[Reply]:
    """Calls that another version answered than the one their draw leads to."""
    shares = {each.revision: each.share for each in changes}
    first, second = VERSIONS
    return [
        each
        for each in replies
        if not each.failure and each.answered_by != (first if each.draw < shares[each.revision] else second)
    ]


def _show(effects: Sequence[Effect], limits: Sequence[float], calls: int, lost: int, wrong: int) -> None:
    print(f"\nWeights: {len(effects):,} changes while {CALLERS} callers made {calls:,} calls")
    print(f"  {'ms from the question':<44}{'p50':>9}{'p99':>9}")
    for text, values in (
        ("bare limit: row, answer and call", limits),
        ("first call by the new shares", [each.first for each in effects]),
        ("last call by older shares begins", [each.everywhere for each in effects]),
        ("answered: acknowledged by the proxy", [each.answered for each in effects]),
    ):
        print(f"  {text:<44}{quantile(values, 0.5):>9.1f}{quantile(values, 0.99):>9.1f}")
    print(f"  failed calls: {lost}, calls given to the wrong version: {wrong} (promise: none)")


def _row(effects: Sequence[Effect], limits: Sequence[float], calls: int, lost: int) -> Row:
    everywhere = [each.everywhere for each in effects]
    return Row(
        f"weight change to effect everywhere, p50, p99 ms ({len(effects):,} changes under load)",
        _pair(limits),
        _pair(everywhere),
        f"{quantile(everywhere, 0.5) / quantile(limits, 0.5):.1f}; {lost} of {calls:,} calls failed",
        f"{PROMISED_MS} at p99, none failed",
    )


def _pair(values: Sequence[float]) -> str:
    return f"{quantile(values, 0.5):.0f}, {quantile(values, 0.99):.0f}"
