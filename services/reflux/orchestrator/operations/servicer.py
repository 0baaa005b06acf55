"""`reflux.api.operation.v1.OperationService`: translate, call, translate back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.operation.v1.operation_service_pb2_grpc import OperationServiceServicer
from reflux.orchestrator import live_view
from reflux.orchestrator.handles import request_id
from reflux.orchestrator.operations import requests, search, views
from reflux.orchestrator.operations.acts import Asked
from reflux.orchestrator.waiting import parse_wait
from reflux.runtime.callers import actor, traceparent

if TYPE_CHECKING:
    from reflux.api.operation.v1 import operation_service_pb2 as pb
    from reflux.orchestrator.flows.cache import FlowCache
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.operations.alone import Execution, Steps
    from reflux.orchestrator.operations.bulk import Bulks
    from reflux.orchestrator.operations.forks import Forked, Forks, Going
    from reflux.orchestrator.waiting import Waiter
    from reflux.runtime.clock import Clock
    from reflux.runtime.postgres import Pool


class OperationServicer(OperationServiceServicer):
    """Every method may also raise psycopg.Error when the database is away."""

    def __init__(
        self,
        *,
        pool: Pool,
        flows: FlowCache,
        clock: Clock,
        forks: Forks,
        steps: Steps,
        bulks: Bulks,
        reader: JournalReader,
        waiter: Waiter,
    ) -> None:
        self._pool = pool
        self._flows = flows
        self._clock = clock
        self._forks = forks
        self._steps = steps
        self._bulks = bulks
        self._reader = reader
        self._waiter = waiter

    async def ForkRun(self, request: pb.ForkRunRequest, context: Any) -> HttpBody:  # noqa: N802
        """A new run from a step on."""
        going = requests.fork(request.run_id, request.document)
        return await self._go_on(going, request.request_id, context)

    async def RetryRun(self, request: pb.RetryRunRequest, context: Any) -> HttpBody:  # noqa: N802
        """A new run from what failed on."""
        going = requests.retry(request.run_id, request.document)
        return await self._go_on(going, request.request_id, context)

    async def BulkRuns(self, request: pb.BulkRunsRequest, context: Any) -> HttpBody:  # noqa: N802
        """A page of runs, each done with."""
        asked = Asked(actor(context), request_id(request.request_id), traceparent(context))
        result = await self._bulks.do(request.document, request.page_token, asked)
        return HttpBody(content_type="application/json", data=orjson.dumps(result))

    async def ListFingerprints(  # noqa: N802
        self, request: pb.ListFingerprintsRequest, context: Any
    ) -> pb.ListFingerprintsResponse:
        """A page of failures, grouped."""
        del context
        return await search.list_fingerprints(self._pool, self._flows, self._clock, request)

    async def ExecuteStep(self, request: pb.ExecuteStepRequest, context: Any) -> HttpBody:  # noqa: N802
        """A run of one step of a flow."""
        execution = requests.execution(request.document, request.step, flow=request.flow_id)
        return await self._execute(execution, request, context)

    async def ReplayStep(self, request: pb.ReplayStepRequest, context: Any) -> HttpBody:  # noqa: N802
        """A run of one step of another run."""
        execution = requests.execution(request.document, request.step, run_id=request.run_id)
        return await self._execute(execution, request, context)

    async def _execute(
        self, execution: Execution, request: pb.ExecuteStepRequest | pb.ReplayStepRequest, context: Any
    ) -> HttpBody:
        wait = parse_wait(request.wait)
        launched = await self._steps.execute(
            execution,
            actor=actor(context),
            request_id=request_id(request.request_id),
            traceparent=traceparent(context),
        )
        if wait is not None:
            state = await self._waiter.settled(launched.run_id, wait)
        else:
            state = launched.first or await self._reader.state(launched.run_id)
        document = await live_view.run_document(self._pool, state)
        return HttpBody(content_type="application/json", data=document)

    async def _go_on(self, going: Going, handle: str, context: Any) -> HttpBody:
        forked = await self._forks.go_on(
            going, actor=actor(context), request_id=request_id(handle), traceparent=traceparent(context)
        )
        document = {"run": await self._run(forked), "plan": views.plan(going, forked)}
        return HttpBody(content_type="application/json", data=orjson.dumps(document))

    async def _run(self, forked: Forked) -> orjson.Fragment | None:
        if forked.run_id is None:
            return None
        state = forked.first or await self._reader.state(forked.run_id)
        return orjson.Fragment(await live_view.run_document(self._pool, state))
