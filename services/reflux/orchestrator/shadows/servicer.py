"""ShadowService: reports in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflux.api.shadow.v1 import shadow_service_pb2 as pb
from reflux.api.shadow.v1.shadow_service_pb2_grpc import ShadowServiceServicer as Servicer
from reflux.core.errors import InvalidArgument
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.orchestrator.shadows import store
from reflux.orchestrator.shadows.desk import MAX_OUTPUT, Desk, Report

if TYPE_CHECKING:
    from reflux.runtime.postgres import Pool


class ShadowServicer(Servicer):
    """May also raise psycopg.Error when the database is away."""

    def __init__(self, pool: Pool, desk: Desk) -> None:
        self._pool = pool
        self._desk = desk

    async def ReportShadow(  # noqa: N802 - the name in the contract
        self, request: pb.ReportShadowRequest, context: Any
    ) -> pb.ReportShadowResponse:
        """Raises InvalidArgument."""
        del context
        if len(request.output) > MAX_OUTPUT:
            message = f"an output of {len(request.output)} bytes; send its digest above {MAX_OUTPUT}"
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
        failure = request.failure[:200].replace("\0", "\ufffd")
        report = Report(request.version, request.output, request.digest, failure)
        self._desk.reported(RunId(request.run_id), StepPath(request.step), request.attempt, report)
        return pb.ReportShadowResponse()

    async def ListShadows(  # noqa: N802 - the name in the contract
        self, request: pb.ListShadowsRequest, context: Any
    ) -> pb.ListShadowsResponse:
        """What is known of a node's shadows."""
        del context
        shadows: dict[str, pb.Shadow] = {}
        for row in await store.of_node(self._pool, request.node):
            shadow = shadows.setdefault(row.version, pb.Shadow(version=row.version))
            if row.pointer == store.TOTAL:
                setattr(shadow, row.kind, row.count)
                continue
            examples = [pb.ShadowExample(**each) for each in row.examples]
            place = shadow.differences.add(
                pointer=row.pointer, kind=row.kind, count=row.count, examples=examples
            )
            place.last_time.FromDatetime(row.seen_at)
        return pb.ListShadowsResponse(shadows=list(shadows.values()))
