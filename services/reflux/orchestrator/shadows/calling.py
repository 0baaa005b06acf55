"""A caller that tells the desk what the real call gave, when it has a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

    from reflux.core.attempt import AttemptResult
    from reflux.orchestrator.cached_caller import Caller
    from reflux.orchestrator.caller import Order
    from reflux.orchestrator.shadows.desk import Desk


class ShadowedCaller:
    """Between the wire and everybody else."""

    def __init__(self, caller: Caller, desk: Desk) -> None:
        self._caller = caller
        self._desk = desk

    @property
    def channel(self) -> grpc.aio.Channel:
        """The caller's own: what travels in company has no copy."""
        return self._caller.channel

    async def call(self, order: Order) -> AttemptResult:
        """Carries it out."""
        result = await self._caller.call(order)
        if order.shadow is not None:
            self._desk.answered(order, result)
        return result
