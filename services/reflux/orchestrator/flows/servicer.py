"""`reflux.api.flow.v1.FlowService`: translate, call, translate back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf.empty_pb2 import Empty

from reflux.api.flow.v1 import flow_service_pb2 as pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceServicer
from reflux.core.errors import InvalidArgument, Violation
from reflux.core.names import FlowId, is_name
from reflux.core.reasons import Reason
from reflux.orchestrator.flows import changes, views
from reflux.orchestrator.flows.cache import flow_not_found, version_not_found
from reflux.orchestrator.flows.compiling import compile_document
from reflux.orchestrator.flows.plan import plan_flow
from reflux.orchestrator.flows.store import NO_VERSION
from reflux.orchestrator.flows.subflows import subflow_problems
from reflux.orchestrator.handles import request_id
from reflux.runtime import pages
from reflux.runtime.callers import actor
from reflux.runtime.ids import uuid7

if TYPE_CHECKING:
    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

    from reflux.core.document import JsonValue
    from reflux.orchestrator.flows.cache import FlowCache
    from reflux.orchestrator.flows.plan import Catalog
    from reflux.orchestrator.flows.store import FlowStore, StoredFlow
    from reflux.orchestrator.triggers.planning import TriggerPlanner
    from reflux.runtime.clock import Clock


class FlowServicer(FlowServiceServicer):
    """Every method may also raise psycopg.Error when the database is away."""

    def __init__(
        self,
        store: FlowStore,
        cache: FlowCache,
        catalog: Catalog,
        clock: Clock,
        triggers: TriggerPlanner,
    ) -> None:
        self._store = store
        self._cache = cache
        self._catalog = catalog
        self._clock = clock
        self._triggers = triggers

    async def CreateFlow(self, request: pb.CreateFlowRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises InvalidArgument, AlreadyExists."""
        document = changes.read_document(request.document)
        saved = await changes.judge(document, len(request.document.data))
        handle = (request_id(request.request_id), saved.request_digest) if request.request_id else None
        return await self._create(saved, actor(context), handle)

    async def GetFlow(self, request: pb.GetFlowRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises NotFound."""
        del context
        return views.flow_body(await self._find(request.flow_id))

    async def ListFlows(self, request: pb.ListFlowsRequest, context: Any) -> pb.ListFlowsResponse:  # noqa: N802
        """Raises InvalidArgument."""
        del context
        size = pages.page_size(request.page_size)
        after = pages.read_token("flows", request.page_token, first="")
        found = await self._store.flows(after, size + 1)
        token = pages.write_token("flows", found[size - 1].name) if len(found) > size else ""
        flows = [views.flow_summary(flow) for flow in found[:size]]
        return pb.ListFlowsResponse(flows=flows, next_page_token=token)

    async def ReplaceFlow(self, request: pb.ReplaceFlowRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises InvalidArgument, NotFound, Conflict, AlreadyExists."""
        document = changes.read_document(request.document)
        saved = await changes.judge(document, len(request.document.data))
        may_create = request.allow_missing and not request.etag and is_name(request.flow_id)
        if may_create and await self._store.current(request.flow_id) is None:
            _refuse_other_name(saved.name, request.flow_id)
            return await self._create(saved, actor(context), None)

        async def replace(flow: StoredFlow) -> changes.Saved:
            del flow
            return saved

        return await self._change(request.flow_id, replace, request.etag, actor(context))

    async def UpdateFlow(self, request: pb.UpdateFlowRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises InvalidArgument, NotFound, Conflict, AlreadyExists."""
        document = changes.read_document(request.document)

        async def update(flow: StoredFlow) -> changes.Saved:
            merged = changes.merge(flow, document, request.update_mask)
            return await changes.judge(merged, changes.size_of(merged))

        return await self._change(request.flow_id, update, request.etag, actor(context))

    async def DeleteFlow(self, request: pb.DeleteFlowRequest, context: Any) -> Empty:  # noqa: N802
        """Raises NotFound."""
        del context
        flow_id = await self._store.delete(request.flow_id)
        if flow_id is None:
            raise flow_not_found(request.flow_id)
        self._cache.forget(flow_id)
        return Empty()

    async def ListFlowVersions(  # noqa: N802
        self, request: pb.ListFlowVersionsRequest, context: Any
    ) -> pb.ListFlowVersionsResponse:
        """Raises InvalidArgument, NotFound."""
        del context
        size = pages.page_size(request.page_size)
        flow_id = (await self._cache.identify(request.flow_id)).flow_id
        listing = f"versions of {flow_id}"
        before = pages.read_token(listing, request.page_token, first=NO_VERSION, parse=pages.place)
        found = await self._store.versions(flow_id, before, size + 1)
        token = pages.write_token(listing, str(found[size - 1].version)) if len(found) > size else ""
        versions = [views.version_summary(version) for version in found[:size]]
        return pb.ListFlowVersionsResponse(versions=versions, next_page_token=token)

    async def GetFlowVersion(self, request: pb.GetFlowVersionRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises NotFound."""
        del context
        return views.version_body(await self._find_version(request.flow_id, request.version))

    async def RollbackFlow(self, request: pb.RollbackFlowRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises NotFound, Conflict, AlreadyExists. A rollback to what is current anyway changes nothing."""

        async def roll_back(flow: StoredFlow) -> changes.Saved:
            former = await self._find_version(flow.id, request.version)
            compiled = await self._cache.get(flow.id, request.version)
            return changes.Saved(flow.name, former.content, compiled.triggers, compiled.limits)

        return await self._change(request.flow_id, roll_back, request.etag, actor(context))

    async def PlanFlow(self, request: pb.PlanFlowRequest, context: Any) -> pb.PlanFlowResponse:  # noqa: N802
        """Raises InvalidArgument when the document cannot be read, NotFound."""
        del context
        flow = await self._find(request.flow_id) if request.flow_id else None
        document: JsonValue
        if flow is not None and not request.document.data.strip():
            document = {"name": flow.name, "spec": orjson.loads(flow.content.spec)}
            size = len(flow.content.spec)
        else:
            document = changes.read_document(request.document)
            size = len(request.document.data)
        result = await compile_document(document, size)
        named = document.get("name") if isinstance(document, dict) else None
        hooks = await self._triggers.problems(result.triggers, flow.id if flow else str(named))
        others = await subflow_problems(result, flow.name if flow else str(named), self._cache)
        plan = await plan_flow(document, result, self._catalog, [*hooks, *others])
        return views.plan_response(plan)

    async def _create(self, saved: changes.Saved, author: str, handle: tuple[str, str] | None) -> HttpBody:
        flow_id = FlowId(uuid7(self._clock.now()))
        made = await self._store.create(
            flow_id, saved.name, saved.content, author, handle, triggers=saved.triggers
        )
        return views.flow_body(await self._find(made))

    async def _change(self, key: str, change: changes.Change, etag: str, author: str) -> HttpBody:
        flow = await changes.apply_change(self._store, key, change, etag=etag, author=author)
        self._cache.forget(flow.id)
        return views.flow_body(flow)

    async def _find(self, key: str) -> StoredFlow:
        flow = await self._store.find(key)
        if flow is None:
            raise flow_not_found(key)
        return flow

    async def _find_version(self, key: str, version: int) -> StoredFlow:
        flow = await self._store.find(key, version)
        if flow is None:
            raise version_not_found((await self._cache.identify(key)).name, version)
        return flow


def _refuse_other_name(name: str, key: str) -> None:
    """A flow that is made by its name has that name."""
    if name != key:
        message = f"the flow is called {name} and would be made as {key}: give it one name"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation("/name", message)])
