"""What may be repeated: a token bucket per node version, so that retries never become the load themselves.

Two layers repeat. Envoy makes further tries of a version inside an attempt (a target's `tries`), the
orchestrator makes further attempts of a step. Both are paid for here, by the version that they go to:

- A first attempt that has reached a version earns it `SHARE` of a token, up to `BURST` tokens. So in the long
  run a version receives at most 1 + `SHARE` requests for each attempt assigned to it.
- What Envoy may repeat is taken before the call leaves, from each version of its chain, and what it surely
  did not use is given back. When one of them has not enough, each version is tried once: pinned calls go out
  with `x-envoy-max-retries: 0`, others with `x-reflux-tries: once`, for which Envoy has the same chains
  without repetitions. Handing over to the next version is no repetition, and is not lost to a budget.
- A call that was handed over and answered there earns for the version that answered, as a first attempt does.
- An attempt that follows one which reached a node and failed takes one token before it leaves, and waits
  for it: by turns of flows, at most until the step's total time is over.
- A version begins with `BURST` tokens, and without traffic it is lent tokens at the rate of its ramp. What
  first attempts earn pays loans back before it pays for more.

What was never sent (no healthy endpoint, no route yet, a proxy that is away, superseded by a takeover) earns
nothing and costs no token: its version has not heard of it. It is *sent again*, while its step is patient.

**Recovery.** Whatever waits for a version leaves in a ramp (`reflux.orchestrator.ramp`), not as a herd. While
the version fails or cannot be reached, one attempt a second goes out, and so is its probe; from its first
success on the rate doubles every second. What repeats begins at one a second: each of those is a request more
than the version was given steps. What is sent again begins at `AGAIN`: it is one that the version was to get
anyhow. An orchestrator that takes runs over knows nothing of the version yet, so what it sends again is in
such a ramp from the first moment.

A failure is the version's own unless it is a TargetFault: what an input names may be dead without anybody
being overloaded. A node that is full (`NODE_FULL`) is well: it is asked again by the step's own backoff.
An orchestrator knows its own attempts alone; each keeps the ratio, so all of them together keep it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reflux.core.attempt import patience_over
from reflux.core.reasons import Reason
from reflux.orchestrator import metrics
from reflux.orchestrator.caller import Again
from reflux.orchestrator.fairness import FairQueue
from reflux.orchestrator.ramp import PROBE, Ramp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from reflux.core.attempt import AttemptResult
    from reflux.core.event import Assignment
    from reflux.core.names import StepPath
    from reflux.core.state import RunState
    from reflux.orchestrator.caller import Order
    from reflux.orchestrator.fairness import Turn
    from reflux.orchestrator.mesh_view import MeshView, TargetView

SHARE: Final = 0.2
"""Repetitions per first attempt."""

BURST: Final = 10.0
"""Tokens that a version may have saved, and is lent at first: a quiet flow retries as its author wrote it."""

AGAIN: Final = 50.0
"""Attempts a second that are sent again, at the beginning of a ramp."""

_DUST: Final = 1e-6
"""Five fifths are not quite one in floating point."""

BUDGETS: Final = 10_000
"""Versions that are remembered; above it those whose budget is as good as new are forgotten."""


def repeats(state: RunState, path: StepPath) -> bool:
    """Whether the next attempt of a step repeats one that reached a node and failed there."""
    run = state.steps[path]
    last = run.finished[-1] if run.finished else None
    return last is not None and last.counted


def sent_again(state: RunState, path: StepPath, *, taken_over: bool) -> Again | None:
    """How the next attempt of a step is sent again, because the one before never left; None: it is not.

    What is handed over, or failed in company and goes alone, is not: nobody has gathered behind it. Of a run
    that was just taken over everything is: it may have left, but all of its like come back at once.
    """
    run = state.steps[path]
    last = run.finished[-1] if run.finished else None
    if last is not None and last.counted:
        return None
    if last is None or last.next_version or last.assignment.batch_id:
        return Again() if taken_over else None
    failure = last.failure
    if failure is not None and failure.reason == Reason.NODE_FULL:
        return None
    return Again(patience_over(run), failure)


@dataclass(slots=True, eq=False)
class _Waiter:
    turn: Turn
    free: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Bucket:
    """The tokens of one version. Times are seconds of `now`'s clock."""

    now: Callable[[], float]
    ramp: Ramp
    tokens: float = BURST
    waiting: FairQueue[_Waiter] = field(default_factory=lambda: FairQueue(lambda one: one.turn))
    _at: float = 0.0
    _lead: float = -BURST
    """What first attempts earned and nobody needed to lend it; below 0 what they owe. Between the bursts."""
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
        self.ramp.told(self.now(), ill=ill)
        self._release()

    def _refill(self) -> None:
        now = self.now()
        due = (now - self._at) * self.ramp.rate(now)
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
            seconds = max((1 - self.tokens + max(self._lead, 0.0)) / self.ramp.rate(self.now()), 0.001)
            # A ramp gets steeper while the timer runs.
            self._timer = asyncio.get_running_loop().call_later(min(seconds, 0.25), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._refill()
        self._release()


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one version."""

    repeats: Bucket
    again: Bucket
    """What is sent again: nothing earns here, so its tokens are those of its ramp alone."""

    @property
    def new(self) -> bool:
        """Whether it is as good as one that was just made."""
        both = (self.repeats, self.again)
        return all(one.tokens >= BURST and not one.waiting for one in both)


_SAYS_NOTHING: Final = frozenset({Reason.NODE_FULL, Reason.NODE_DRAINING, Reason.CLAIM_REFUSED})
"""Refusals of one call, from which nothing follows for what waits."""


def _unused(reserved: Sequence[tuple[str, int]], assignment: Assignment) -> Iterator[tuple[str, int]]:
    """What was surely not used of it: one try was the first, and none came after who answered.

    Which version each try met is not known, so of several all that a version may have had is kept.
    """
    most = max(0, assignment.tries - 1)
    over = False
    for version, number in reserved:
        used = 0 if over else min(number, most)
        over = over or version == assignment.answered_by
        if number > used:
            yield version, number - used


class RetryBudgets:
    """The budgets of all versions that this orchestrator calls."""

    def __init__(self, mesh: MeshView, now: Callable[[], float] | None = None) -> None:
        self._mesh = mesh
        self._now = now or asyncio.get_running_loop().time
        self._budgets: dict[tuple[str, str], Budget] = {}

    def why(self, order: Order) -> str:
        """What an order may have to wait for, in people's words; empty for one that need not."""
        if not order.repeats and order.again is None:
            return ""
        target = self._target(order)
        if target is None:
            return ""
        name = f"{order.node}@{target.version}"
        if order.repeats:
            return f"the retry budget of {name} is empty"
        return f"{name} takes no calls, or is just coming back"

    async def wait(self, order: Order) -> None:
        """Holds an order back that repeats or is sent again, until its version has a token for it."""
        if not order.repeats and order.again is None:
            return
        target = self._target(order)
        if target is None:
            return
        budget = self._budget(order.node, target.version)
        bucket, held = (
            (budget.repeats, metrics.RETRIES_HELD)
            if order.repeats
            else (budget.again, metrics.SENT_AGAIN_HELD)
        )
        if not bucket.take(1):
            held.at(order.node).add()
            await bucket.wait(order.turn)

    def leaves(self, order: Order) -> Order:
        """The order as it goes out: what Envoy may repeat of it is accounted for.

        What becomes of it is told to `landed`. Attempts in company are one call: the first one stands for it.
        """
        target = self._target(order)
        if target is None:
            return order
        taken: list[tuple[str, int]] = []
        for version, more in self._repetitions(order, target):
            if not self._budget(order.node, version).repeats.take(more):
                self._give(order.node, taken)
                metrics.TRIES_WITHHELD.at(order.node).add()
                return replace(order, single=True)
            taken.append((version, more))
        return replace(order, reserved=tuple(taken)) if taken else order

    def landed(self, order: Order, result: AttemptResult) -> None:
        """What became of an order that has left."""
        target = self._target(order)
        if target is None:
            return
        assignment, failure = result.assignment, result.failure
        budget = self._budget(order.node, assignment.chosen or target.version)
        called = order.cache is None or assignment.tries
        by_another = order.version is None and assignment.answered_by not in ("", assignment.chosen)
        passed_over = by_another and assignment.tries == 1
        if not order.repeats and called and not passed_over and (result.counted or assignment.batch_id):
            budget.repeats.earn()
        self._give(order.node, _unused(order.reserved, assignment))
        if by_another:
            self._budget(order.node, assignment.answered_by).repeats.earn()
        if result.own or (failure is None and assignment.answered_by == assignment.chosen):
            budget.repeats.told(ill=False)
            budget.again.told(ill=False)
            return
        if assignment.tries:
            budget.repeats.told(ill=True)
        if failure is None or failure.reason not in _SAYS_NOTHING:
            budget.again.told(ill=True)

    def _repetitions(self, order: Order, target: TargetView) -> list[tuple[str, int]]:
        """How often Envoy may repeat each version of the order's chain."""
        if order.version is not None:
            tries = [(target.version, order.tries or target.tries)]
        else:
            others = ((name, self._mesh.reach(order.node, name).targets) for name in target.fallback)
            tries = [(target.version, target.tries)]
            tries += [(name, targets[0].tries) for name, targets in others if targets]
        return [(version, number - 1) for version, number in tries if number > 1]

    def _give(self, node: str, tokens: Iterable[tuple[str, int]]) -> None:
        for version, number in tokens:
            self._budget(node, version).repeats.give(number)

    def _target(self, order: Order) -> TargetView | None:
        """Whom the route gives an order to; None while that is not known."""
        return self._mesh.reach(order.node, order.version).target_of(order.assignment.draw)

    def _budget(self, node: str, version: str) -> Budget:
        key = (node, version)
        budget = self._budgets.get(key)
        if budget is None:
            if len(self._budgets) >= BUDGETS:
                for old in [key for key, one in self._budgets.items() if one.new]:
                    del self._budgets[old]
            repeats = Bucket(self._now, Ramp(PROBE))
            again = Bucket(self._now, Ramp(AGAIN, well_since=self._now()))
            budget = self._budgets[key] = Budget(repeats, again)
        return budget
