"""Sending what the walker ordered: alone or in company, when there is a place, and what became of it.

An attempt travels in company (`gathering`) when its order says with whom it may and its run is not traced: a
traced one has a call, and so spans, of its own. Every other has a task of its own here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from reflux.core.attempt import AttemptResult
from reflux.core.event import Outcome
from reflux.core.names import RunId
from reflux.orchestrator.cached_caller import Caller
from reflux.orchestrator.caller import Order
from reflux.orchestrator.dispatch import Places, too_late
from reflux.orchestrator.gathering import Gatherer, Landed
from reflux.orchestrator.retry_budget import RetryBudgets
from reflux.orchestrator.showing import Showing
from reflux.runtime.clock import Clock

Slow = Callable[[], None]
Held = Callable[[str, datetime | None], None]
"""Told what an attempt waits for, and until when at most; with an empty text that it has left."""


class Sent(Protocol):
    """An attempt on its way."""

    def cancel(self) -> object:
        """Nobody wants to know what becomes of it; `landed` will not be called."""


class Sender:
    """Sends orders. `tasks` owns the calls in flight.

    Args:
        tasks: what is cancelled with them.
        caller: the wire.
        clock: the database's.
        room: waits until what comes back can be written.
        traced: whether a run is traced.
        budgets: what may be repeated.
    """

    def __init__(
        self,
        *,
        tasks: asyncio.TaskGroup,
        caller: Caller,
        clock: Clock,
        room: Callable[[], Awaitable[None]],
        traced: Callable[[RunId], bool],
        budgets: RetryBudgets,
    ) -> None:
        self._tasks = tasks
        self._caller = caller
        self._clock = clock
        self._room = room
        self._traced = traced
        self._places = Places()
        self._budgets = budgets
        self._gatherer = Gatherer(
            tasks=tasks, caller=caller, places=self._places, clock=clock, room=room, budgets=budgets
        )

    def send(self, order: Order, landed: Landed, slow: Slow | None, held: Held) -> Sent:
        """Sends an attempt, and has `landed` told its outcome, in a later turn of the loop.

        Args:
            order: the attempt.
            landed: told once, unless it is cancelled.
            slow: called when it has been in flight for `SLOW_SECONDS`; None for one that is shown anyway.
            held: called when it cannot leave for so long; never of one that travels in company.
        """
        if order.group is not None and slow is not None and not self._traced(order.run_id):
            return self._gatherer.add(order, landed, slow)
        return self._tasks.create_task(self._alone(order, landed, slow, held))

    async def _alone(self, order: Order, landed: Landed, slow: Slow | None, held: Held) -> None:
        until = order.total_deadline or (order.again.until if order.again is not None else None)
        showing = Showing(slow, lambda why: held(why, until))
        result: AttemptResult | Exception
        try:
            result = await self._result(order, until, showing)
        except Exception as error:  # noqa: BLE001 - a defect of ours; the other runs go on
            result = error
        finally:
            showing.over()
        landed(result)

    async def _result(self, order: Order, until: datetime | None, showing: Showing) -> AttemptResult:
        """What became of an order, its wait for a place included."""
        now = self._clock.now()
        left = None if until is None else (until - now).total_seconds()
        try:
            async with asyncio.timeout(left):
                if why := self._budgets.why(order):
                    showing.waits(why)
                    await self._budgets.wait(order)
                showing.waits(f"all places for calls of {order.node} are taken")
                await self._places.take(order.node, order.turn)
                showing.leaves()
        except TimeoutError:
            return _waited_too_long(order, now, self._clock.now())
        try:
            await self._room()
            order = self._budgets.leaves(order)
            result = await self._caller.call(order)
            self._budgets.landed(order, result)
            return result
        finally:
            self._places.give(order.node)


def _waited_too_long(order: Order, start: datetime, now: datetime) -> AttemptResult:
    """What becomes of an order that could not leave while its step had time, or was patient."""
    if order.total_deadline is not None or order.again is None:
        return AttemptResult(Outcome.NOT_SENT, order.assignment, start, now, failure=too_late(order.step))
    failure = order.again.failure
    return AttemptResult(Outcome.NOT_SENT, order.assignment, start, now, failure=failure, counted=False)
