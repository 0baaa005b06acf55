"""Bugs in what runs have to do with each other: slots, firings, forks, batches, the cache; see `mutants`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

from reflux.api.node.v1.node_service_pb2 import BatchResult
from reflux.core.document import Json
from reflux.orchestrator import batch_call, caller, dispatch
from reflux.orchestrator.operations.derived import Derived
from reflux.orchestrator.result_cache import ResultCache
from reflux.orchestrator.store import slots
from reflux.orchestrator.triggers import scheduler
from reflux.orchestrator.triggers.scheduler import Scheduler
from tests.simulation.limit_tables import LimitTables


def takes_for_done() -> list[Any]:
    def rest(self: batch_call._Batch, report: Any, now: Any) -> Any:
        """As one that believes that a call which ends well has done everything."""
        left, reply = self._open.items(), BatchResult(output=b'{"by":"1"}')
        if report is not None:
            return [(place, self._failed(order, report, now, own=False)) for place, order in left]
        return [
            (place, caller.answered(order, self._assignment, reply, self._start, now))
            for place, order in left
        ]

    return [patch.object(batch_call._Batch, "rest", rest)]


def mixes_items_up() -> list[Any]:
    real = batch_call._Batch.outcomes

    def outcomes(self: Any, message: Any, now: Any) -> Any:
        """As one that counts results instead of reading whose they are."""
        for result in message.results:
            result.index = next(iter(self._open), result.index)
        return real(self, message, now)

    return [patch.object(batch_call._Batch, "outcomes", outcomes)]


def forgets_the_input() -> list[Any]:
    real = dispatch.entry_of

    def entry(flow_id: Any, command: Any, reach: Any) -> Any:
        found = real(flow_id, command, reach)
        return found and replace(found, key="the same")

    return [patch.object(dispatch, "entry_of", entry)]


def believes_the_damaged() -> list[Any]:
    real = ResultCache.find

    async def find(self: ResultCache, entry: Any) -> Any:
        """As if everything that is in the cache, or is not, were an output."""
        return await real(self, entry) or ("1", Json(b'{"by":"1"}'))

    return [patch.object(ResultCache, "find", find)]


async def never_admitted(*_: Any) -> slots.Queued:
    """As if a queued run that is told of its slot did not look whether it has it."""
    return slots.Queued(admitted=False, start_at=None)


def begins_too_soon() -> list[Any]:
    real = slots.queued

    async def queued(*place: Any) -> slots.Queued:
        """As if a run that has its slot, and is looked at, did not wait for its time."""
        found = await real(*place)
        return replace(found, admitted=found.admitted or found.start_at is not None)

    return [patch.object(slots, "queued", queued)]


def last_is_first() -> list[Any]:
    real = LimitTables.queue
    return [patch.object(LimitTables, "queue", lambda self, place: real(self, place)[::-1])]


def forgets_what_is_used_up() -> list[Any]:
    real = LimitTables.admit

    def admit(self: LimitTables, claims: Any, now: Any) -> Any:
        """As if each start found its rate unused."""
        for rate in self.rates.values():
            rate.full_at = None
        return real(self, claims, now)

    return [patch.object(LimitTables, "admit", admit)]


def fires_twice() -> list[Any]:
    real, numbers = scheduler._once, count()

    def once(key: str, moment: Any) -> Any:
        made = real(key, moment)
        return replace(made, key=f"{made.key} {next(numbers)}")

    return [patch.object(scheduler, "_once", once)]


def cancels_itself() -> list[Any]:
    real = Scheduler._cancel_earlier

    async def cancel(self: Scheduler, work: Any, newest: Any) -> None:
        """As one that does not know which run is that of the firing."""
        await real(self, work, newest - timedelta(days=1))

    return [patch.object(Scheduler, "_cancel_earlier", cancel)]


def moves_on() -> list[Any]:
    real = Scheduler._start

    async def start(self: Scheduler, work: Any, moment: Any, before: Any) -> Any:
        try:
            return await real(self, work, moment, before)
        except Exception:  # noqa: BLE001 - as one that takes whatever happens for a start
            return replace(before, fired=before.fired + 1)

    return [patch.object(Scheduler, "_start", start)]


def keeps_nothing() -> list[Any]:
    async def write(self: Derived, run_id: Any) -> None:
        """As if the outcomes were written some other time."""

    return [patch.object(Derived, "write", write)]
