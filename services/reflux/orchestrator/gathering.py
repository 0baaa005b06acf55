"""Who travels together: pure attempts that are ready at the same moment and are equal in their `Group`.

Nothing waits for company. What is ready in one turn of the loop leaves at its end. While `UNANSWERED` calls
of a group have not been answered at all, further attempts of it gather behind them, for about as long as a
first answer of the group takes of late, and for `PATIENCE_SECONDS` at most: under load this makes calls
fuller, the busier the fuller, as group commit does with rows; and a node that is slow holds nobody back. An
attempt that is ready alone travels alone, by `Execute`.

Each attempt keeps its place among those in flight until *it* is answered; so a slow one holds its own place
and nobody else's. One that is cancelled is forgotten here at once; the node, which has one call for all, may
go on with it, which harms nobody because it is pure. A call that nobody waits for is cancelled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from reflux.core.attempt import AttemptResult
from reflux.core.event import Outcome
from reflux.orchestrator.batch_call import MAX_BYTES, BatchCaller
from reflux.orchestrator.cached_caller import Caller
from reflux.orchestrator.caller import Group, Order
from reflux.orchestrator.dispatch import Places, too_late
from reflux.orchestrator.fairness import FairQueue
from reflux.orchestrator.retry_budget import RetryBudgets
from reflux.orchestrator.showing import SLOW_SECONDS
from reflux.runtime.clock import Clock

UNANSWERED: Final = 2
"""Calls of a group that may be without any answer before the next attempts gather behind them."""

PATIENCE_SECONDS: Final = 0.05
"""For how long a call that is not answered makes others gather, at most."""

FIRST_PATIENCE_SECONDS: Final = 0.005
"""For how long the first call of a group does."""

_MEMORY: Final = 0.8
"""What weight the former answers have when one more has come."""

QUEUES: Final = 256
"""Groups that are remembered while nothing of them is ready."""

Landed = Callable[[AttemptResult | Exception], None]
"""Told what became of an attempt, once; an exception is a defect of ours."""


@dataclass(slots=True, eq=False)
class Companion:
    """An attempt from its being ready to its outcome."""

    order: Order
    landed: Landed
    slow: Callable[[], None]
    """To be called once when it has been in flight for `SLOW_SECONDS`."""
    deadline: asyncio.TimerHandle | None = None
    """Of the step's total time; the call's own is the wire's business."""
    flight: "Flight | None" = None
    over: bool = False

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        if not self.over:
            self._end()

    def land(self, result: AttemptResult | Exception) -> None:
        """It has an outcome; one that comes after the first, or after `cancel`, is nobody's."""
        if not self.over:
            self._end()
            self.landed(result)

    def _end(self) -> None:
        self.over = True
        if self.deadline is not None:
            self.deadline.cancel()
        if self.flight is not None:
            self.flight.left_by_one()


@dataclass(slots=True, eq=False)
class Queue:
    """The attempts of one group that are ready."""

    group: Group
    ready: FairQueue[Companion] = field(default_factory=lambda: FairQueue(lambda one: one.order.turn))
    """Flows take turns here too: a call is full of one only while no other has anything to send."""
    unanswered: int = 0
    usual: float = FIRST_PATIENCE_SECONDS / 2
    """Seconds until a first answer, of late."""
    woken: bool = False
    """It will be looked at in the next turn of the loop."""

    def answered(self, seconds: float) -> None:
        """A first answer took so long."""
        self.usual = _MEMORY * self.usual + (1 - _MEMORY) * min(seconds, PATIENCE_SECONDS)

    @property
    def patience(self) -> float:
        """Seconds after which a call without any answer makes nobody gather any more."""
        return min(2 * self.usual, PATIENCE_SECONDS)

    def board(self) -> list[Companion]:
        """Takes as many out as one call may carry."""
        aboard: list[Companion] = []
        size = 0
        while self.ready and len(aboard) < self.group.most:
            companion = self.ready.popleft()
            if companion.over:
                continue
            size += len(companion.order.input.raw)
            if aboard and size > MAX_BYTES:
                self.ready.appendleft(companion)
                break
            aboard.append(companion)
        return aboard


class Flight:
    """One call of a group, from its wish for places to its end."""

    def __init__(self, gatherer: "Gatherer", queue: Queue, aboard: Sequence[Companion]) -> None:
        self._gatherer = gatherer
        self._queue = queue
        self._aboard = aboard
        self._places = 0
        self._waited_for = len(aboard)
        self._counts = True
        """It is one of the group's unanswered calls."""
        self._telling = False
        self._sent: float | None = None
        self._head: Order | None = None
        """Until the first answer."""
        self._task: asyncio.Task[None] | None = None
        queue.unanswered += 1

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Goes on by itself."""
        for companion in self._aboard:
            companion.flight = self
        self._task = tasks.create_task(self._fly())
        self._task.add_done_callback(self._ended)

    def left_by_one(self) -> None:
        """Nobody waits for one of its attempts any more."""
        self._waited_for -= 1
        if self._places:
            self._give(1)
        if not self._waited_for and not self._telling and self._task is not None:
            self._task.cancel()

    async def _fly(self) -> None:
        loop = asyncio.get_running_loop()
        timers = []
        try:
            await self._wait_for_places()
            self._sent = loop.time()
            timers = [
                loop.call_later(self._queue.patience, self._free),
                loop.call_later(SLOW_SECONDS, self._show_slow),
            ]
            orders = self._leave()
            if len(orders) > 1:
                await self._gatherer.batches.call(orders, self._told)
            elif orders:
                result = await self._gatherer.caller.call(orders[0])
                self._told([(0, result)])
        except Exception as error:  # noqa: BLE001 - a defect of ours; the other runs go on
            self._told([(place, error) for place in range(len(self._aboard))])
        finally:
            for timer in timers:
                timer.cancel()

    def _ended(self, _: asyncio.Task[None]) -> None:
        """No `finally` of `_fly`: a task that is cancelled before its first step comes to none."""
        self._free()
        self._give(self._places)

    def _leave(self) -> list[Order]:
        """The orders as they go out: one call, and its first attempt stands for it in the retry budget."""
        orders = [companion.order for companion in self._aboard]
        if orders:
            orders[0] = self._head = self._gatherer.budgets.leaves(orders[0])
        return orders

    async def _wait_for_places(self) -> None:
        """Takes as many aboard as there are places; the others are ready again, before everybody else."""
        await self._gatherer.room()
        wanted = len(self._aboard)
        turn = self._aboard[0].order.turn
        taken = await self._gatherer.places.take(self._queue.group.node, turn, wanted)
        aboard = [companion for companion in self._aboard if not companion.over]
        self._aboard, rest = aboard[:taken], aboard[taken:]
        self._places = taken
        self._give(taken - len(self._aboard))
        for companion in reversed(rest):
            companion.flight = None
            self._waited_for -= 1
            self._queue.ready.appendleft(companion)
        if rest:
            self._gatherer.wake(self._queue)

    def _told(self, results: Sequence[tuple[int, AttemptResult | Exception]]) -> bool:
        if self._sent is not None:
            self._queue.answered(asyncio.get_running_loop().time() - self._sent)
            self._sent = None
        self._free()
        if self._head is not None and results and isinstance(first := results[0][1], AttemptResult):
            self._gatherer.budgets.landed(self._head, first)
            self._head = None
        self._telling = True
        for place, result in results:
            self._aboard[place].land(result)
        self._telling = False
        return self._waited_for > 0

    def _free(self) -> None:
        """The next call of the group may leave."""
        if self._counts:
            self._counts = False
            self._queue.unanswered -= 1
            self._gatherer.wake(self._queue)

    def _give(self, number: int) -> None:
        if number:
            self._places -= number
            self._gatherer.places.give(self._queue.group.node, number)

    def _show_slow(self) -> None:
        for companion in self._aboard:
            if not companion.over:
                companion.slow()


class Gatherer:
    """Sends attempts in company. `tasks` owns the calls in flight."""

    def __init__(
        self,
        *,
        tasks: asyncio.TaskGroup,
        caller: Caller,
        places: Places,
        clock: Clock,
        room: Callable[[], Awaitable[None]],
        budgets: RetryBudgets,
    ) -> None:
        self.budgets = budgets
        self.caller = caller
        self.batches = BatchCaller(caller.channel, clock)
        self.places = places
        self.room = room
        self._tasks = tasks
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queues: dict[Group, Queue] = {}

    def add(self, order: Order, landed: Landed, slow: Callable[[], None]) -> Companion:
        """Sends an attempt at the end of this turn of the loop, or a little later; see above."""
        assert order.group is not None, f"step {order.step} travels alone"
        companion = Companion(order, landed, slow)
        if order.total_deadline is not None:
            left = (order.total_deadline - self._clock.now()).total_seconds()
            companion.deadline = self._loop.call_later(max(0.0, left), self._out_of_time, companion)
        queue = self._queues.get(order.group)
        if queue is None:
            queue = self._queues[order.group] = Queue(order.group)
        queue.ready.append(companion)
        self.wake(queue)
        return companion

    def wake(self, queue: Queue) -> None:
        """Sees to it that what is ready leaves as soon as it may."""
        if not queue.woken and queue.unanswered < UNANSWERED:
            queue.woken = True
            self._loop.call_soon(self._depart, queue)

    def _depart(self, queue: Queue) -> None:
        queue.woken = False
        if aboard := queue.board():
            Flight(self, queue, aboard).begin(self._tasks)
        if queue.ready:
            self.wake(queue)
        elif not queue.unanswered and len(self._queues) > QUEUES:
            self._queues.pop(queue.group, None)

    def _out_of_time(self, companion: Companion) -> None:
        """The step's total time is over, wherever the attempt is."""
        now, order = self._clock.now(), companion.order
        sent = companion.flight is not None
        outcome = Outcome.NO_EFFECT if sent else Outcome.NOT_SENT
        result = AttemptResult(outcome, order.assignment, now, now, failure=too_late(order.step))
        companion.land(result)
