"""What may be repeated: a token bucket per node version, so that retries never become the load themselves.

Two layers repeat. Envoy makes further tries of a version inside an attempt (a target's `tries`), the
orchestrator makes further attempts of a step. Both are paid for here, by the version that they go to:

- A first attempt that a version is given earns it `SHARE` of a token, up to `BURST` tokens. So in the long
  run a version receives at most 1 + `SHARE` requests for each attempt assigned to it.
- What Envoy may repeat is taken before the call leaves and what it did not use is given back. When there is
  not enough the call goes out with `x-envoy-max-retries: 0`. Only where its chain holds no other version:
  handing over to the next one is not a repetition, and must not be lost to a budget.
- An attempt that follows one which reached a node and failed takes one token before it leaves, and waits
  for it: by turns of flows, at most until the step's total time is over.
- A version begins with `BURST` tokens, and without traffic it is lent `TRICKLE` tokens a second. What first
  attempts earn pays loans back before it pays for more.

**Recovery.** While a version fails, what is held back goes out at that trickle, and so is its probe. From the
first success after its last failure the trickle doubles every second, up to `MOST`: what has gathered leaves
in a ramp, not as a herd, and one more failure puts it back to the beginning.

A failure is the version's own unless it is a TargetFault: what an input names may be dead without anybody
being overloaded. What was never sent (no healthy endpoint, superseded, refused in company) costs nothing.
An orchestrator knows its own attempts alone; each keeps the ratio, so all of them together keep it.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reflux.orchestrator import metrics
from reflux.orchestrator.fairness import FairQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.attempt import AttemptResult
    from reflux.core.names import StepPath
    from reflux.core.state import RunState
    from reflux.orchestrator.caller import Order
    from reflux.orchestrator.fairness import Turn
    from reflux.orchestrator.mesh_view import MeshView, TargetView

SHARE: Final = 0.2
"""Repetitions per first attempt."""

BURST: Final = 10.0
"""Tokens that a version may have saved, and is lent at first: a quiet flow retries as its author wrote it."""

TRICKLE: Final = 1.0
"""Tokens a second of a version that nothing earns any."""

MOST: Final = 1_000.0
"""Tokens a second at the end of a ramp."""

_DUST: Final = 1e-6
"""Five fifths are not quite one in floating point."""

BUCKETS: Final = 10_000
"""Versions that are remembered; above it those that are full, and so as good as new, are forgotten."""


def repeats(state: RunState, path: StepPath) -> bool:
    """Whether the next attempt of a step repeats one that reached a node and failed there."""
    run = state.steps[path]
    last = run.finished[-1] if run.finished else None
    return last is not None and last.counted


@dataclass(slots=True, eq=False)
class _Waiter:
    turn: Turn
    free: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Bucket:
    """The tokens of one version. Times are seconds of `now`'s clock."""

    now: Callable[[], float]
    tokens: float = BURST
    waiting: FairQueue[_Waiter] = field(default_factory=lambda: FairQueue(lambda one: one.turn))
    _at: float = 0.0
    _lead: float = -BURST
    """What first attempts earned and nobody needed to lend it; below 0 what they owe. Between the bursts."""
    _well_since: float | None = None
    """The first success after its last failure."""
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self._at = self.now()

    def earn(self) -> None:
        """It was given a first attempt."""
        self._refill()
        self._add(SHARE - min(max(-self._lead, 0.0), SHARE))
        self._lead = min(self._lead + SHARE, BURST)
        self._release()

    def take(self, number: int) -> bool:
        """Takes so many tokens if they are there and nobody waits for them."""
        self._refill()
        if self.waiting or self.tokens < number - _DUST:
            return False
        self.tokens -= number
        return True

    def give(self, number: int) -> None:
        """Gives unused tokens back."""
        self._refill()
        self._add(number)
        self._release()

    async def wait(self, turn: Turn) -> None:
        """Takes a token as soon as there is one."""
        if self.take(1):
            return
        waiter = _Waiter(turn, asyncio.get_running_loop().create_future())
        self.waiting.append(waiter)
        self._release()
        try:
            await waiter.free
        except asyncio.CancelledError:
            if waiter.free.done() and not waiter.free.cancelled():
                self.give(1)
            raise

    def told(self, *, ill: bool) -> None:
        """It answered: well, or with a failure of its own."""
        self._refill()
        if ill:
            self._well_since = None
        elif self._well_since is None:
            self._well_since = self.now()
        self._release()

    @property
    def rate(self) -> float:
        """Tokens a second that it gets without earning them."""
        if self._well_since is None:
            return TRICKLE
        seconds = min(self.now() - self._well_since, 30.0)
        return min(TRICKLE * math.exp2(seconds), MOST)

    def _refill(self) -> None:
        now = self.now()
        due = (now - self._at) * self.rate
        self._at = now
        self._add(due - min(max(self._lead, 0.0), due))
        self._lead = max(self._lead - due, -BURST)

    def _add(self, number: float) -> None:
        self.tokens = min(self.tokens + number, BURST)

    def _release(self) -> None:
        """Lets go whoever has a token, and comes back when the next one is due."""
        while self.waiting and self.tokens >= 1 - _DUST:
            waiter = self.waiting.popleft()
            if not waiter.free.done():
                self.tokens -= 1
                waiter.free.set_result(None)
        if self.waiting and self._timer is None:
            seconds = max((1 - self.tokens + max(self._lead, 0.0)) / self.rate, 0.001)
            # A ramp gets steeper while the timer runs.
            self._timer = asyncio.get_running_loop().call_later(min(seconds, 0.25), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._refill()
        self._release()


class RetryBudgets:
    """The buckets of all versions that this orchestrator calls."""

    def __init__(self, mesh: MeshView, now: Callable[[], float] | None = None) -> None:
        self._mesh = mesh
        self._now = now or asyncio.get_running_loop().time
        self._buckets: dict[tuple[str, str], Bucket] = {}

    async def wait(self, order: Order) -> None:
        """Holds an order back that repeats, until its version has a token for it."""
        target = self._target(order) if order.repeats else None
        if target is None:
            return
        bucket = self._bucket(order.node, target.version)
        if not bucket.take(1):
            metrics.RETRIES_HELD.at(order.node).add()
            await bucket.wait(order.turn)

    def leaves(self, order: Order) -> Order:
        """The order as it goes out: what it earns and what Envoy may repeat of it is accounted for.

        What becomes of it is told to `landed`. Attempts in company are one call: the first one stands for it.
        """
        target = self._target(order)
        if target is None:
            return order
        bucket = self._bucket(order.node, target.version)
        if not order.repeats and order.cache is None:
            bucket.earn()
        more = (order.tries or target.tries) - 1
        alone = order.version is not None or not target.fallback
        if not more or not alone:
            return order
        if bucket.take(more):
            return replace(order, reserved=more)
        metrics.TRIES_WITHHELD.at(order.node).add()
        return replace(order, single=True)

    def landed(self, order: Order, result: AttemptResult) -> None:
        """What became of an order that has left."""
        target = self._target(order)
        if target is None:
            return
        assignment, failure = result.assignment, result.failure
        bucket = self._bucket(order.node, assignment.chosen or target.version)
        if order.cache is not None and not order.repeats and assignment.tries:
            bucket.earn()
        unused = order.reserved - max(0, assignment.tries - 1)
        if unused > 0:
            self._bucket(order.node, target.version).give(unused)
        if result.own or (failure is None and assignment.answered_by == assignment.chosen):
            bucket.told(ill=False)
        elif assignment.tries:
            bucket.told(ill=True)

    def _target(self, order: Order) -> TargetView | None:
        """Whom the route gives an order to; None while that is not known."""
        return self._mesh.reach(order.node, order.version).target_of(order.assignment.draw)

    def _bucket(self, node: str, version: str) -> Bucket:
        key = (node, version)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= BUCKETS:
                full = (key for key, one in self._buckets.items() if one.tokens >= BURST and not one.waiting)
                for old in list(full):
                    del self._buckets[old]
            bucket = self._buckets[key] = Bucket(self._now)
        return bucket
