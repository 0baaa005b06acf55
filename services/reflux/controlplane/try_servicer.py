"""TryService: what the proxies told of tries, for orchestrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.api.routing.v1 import try_service_pb2 as pb
from reflux.api.routing.v1.try_service_pb2_grpc import TryServiceServicer as Servicer
from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from reflux.controlplane.tries import Try, TryKeeper

MAX_CALLS: Final = 5_000
"""In one question."""


class TryServicer(Servicer):
    """May also raise psycopg.Error when the database is away."""

    def __init__(self, keeper: TryKeeper) -> None:
        self._keeper = keeper

    async def ListFailedTries(  # noqa: N802 - the name in the contract
        self, request: pb.ListFailedTriesRequest, context: Any
    ) -> pb.ListFailedTriesResponse:
        """Raises InvalidArgument."""
        del context
        if len(request.calls) > MAX_CALLS:
            message = f"{len(request.calls)} calls; at most {MAX_CALLS} at once"
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
        tries = await self._keeper.of([call for call in request.calls if "\0" not in call])
        return pb.ListFailedTriesResponse(tries=[_shown(each) for each in tries])


def _shown(of: Try) -> pb.FailedTry:
    shown = pb.FailedTry(
        call=of.call,
        version=of.leaf.partition("@")[2],
        endpoint=of.endpoint,
        code=of.code,
        flags=of.flags,
    )
    shown.start_time.FromDatetime(of.started_at)
    shown.duration.FromMicroseconds(of.took_us)
    return shown
