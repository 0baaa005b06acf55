"""A caller that asks the result cache first. An outcome from there says so: its reason is `cache`."""

from dataclasses import replace
from typing import Final, Protocol

import grpc

from reflux.core.attempt import AttemptResult
from reflux.core.event import Outcome
from reflux.orchestrator.caller import Order
from reflux.orchestrator.result_cache import ResultCache
from reflux.runtime.clock import Clock

CACHED: Final = "cache"


class Caller(Protocol):
    """Who carries an order out."""

    @property
    def channel(self) -> grpc.aio.Channel:
        """To the mesh, for calls that carry several."""
        ...

    async def call(self, order: Order) -> AttemptResult:
        """Carries it out and gives its outcome; never raises for what the other side does."""
        ...


class CachedCaller:
    """Answers orders with a cache entry from there when it can, and keeps what the caller gave."""

    def __init__(self, caller: Caller, cache: ResultCache, clock: Clock) -> None:
        self._caller = caller
        self._cache = cache
        self._clock = clock

    @property
    def channel(self) -> grpc.aio.Channel:
        """The caller's own: what travels in company is never kept."""
        return self._caller.channel

    async def call(self, order: Order) -> AttemptResult:
        """Carries it out, perhaps without a call."""
        if order.cache is None:
            return await self._caller.call(order)
        start = self._clock.now()
        found = await self._cache.find(order.cache)
        if found is not None:
            version, output = found
            assignment = replace(order.assignment, answered_by=version, reason=CACHED)
            return AttemptResult(Outcome.DONE, assignment, start, self._clock.now(), output=output)
        result = await self._caller.call(order)
        if result.outcome is Outcome.DONE and result.output is not None:
            await self._cache.keep(order.cache, result.assignment.answered_by, result.output)
        return result
