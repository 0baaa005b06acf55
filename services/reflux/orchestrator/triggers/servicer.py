"""`reflux.api.trigger.v1.TriggerService`: translate, call, translate back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceServicer
from reflux.core.document import Json
from reflux.core.errors import InvalidArgument, NotFound, Violation
from reflux.core.flow.webhook import Respond
from reflux.core.names import is_name
from reflux.core.reasons import Reason
from reflux.orchestrator import run_view
from reflux.orchestrator.flows.cache import flow_not_found
from reflux.orchestrator.handles import request_id
from reflux.orchestrator.triggers import byhand, views
from reflux.orchestrator.triggers.requests import Delivery, joined
from reflux.orchestrator.triggers.schedules import key_of
from reflux.runtime import documents, pages
from reflux.runtime.callers import actor, traceparent

if TYPE_CHECKING:
    from reflux.core.flow.triggers import Trigger
    from reflux.core.names import FlowId
    from reflux.orchestrator.flows.cache import FlowCache, Resolved
    from reflux.orchestrator.flows.store import FlowStore
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.launcher import Launcher
    from reflux.orchestrator.triggers.deliveries import Deliveries
    from reflux.orchestrator.triggers.schedules import ScheduleStore
    from reflux.orchestrator.triggers.store import TriggerStore
    from reflux.orchestrator.waiting import Waiter
    from reflux.runtime.clock import Clock

MAX_PREVIEW: Final = 100
PREVIEW: Final = 10
"""Firings that are shown when nobody says how many."""


class TriggerServicer(TriggerServiceServicer):
    """Every method may also raise psycopg.Error when the database is away."""

    def __init__(
        self,
        *,
        flows: FlowStore,
        cache: FlowCache,
        store: TriggerStore,
        schedules: ScheduleStore,
        deliveries: Deliveries,
        launcher: Launcher,
        waiter: Waiter,
        reader: JournalReader,
        clock: Clock,
    ) -> None:
        self._flows = flows
        self._cache = cache
        self._store = store
        self._schedules = schedules
        self._deliveries = deliveries
        self._launcher = launcher
        self._waiter = waiter
        self._reader = reader
        self._clock = clock

    async def GetTrigger(self, request: pb.GetTriggerRequest, context: Any) -> pb.Trigger:  # noqa: N802
        """Raises NotFound."""
        del context
        return await self._shown(await self._flow_id(request.flow_id), request.trigger_id)

    async def ListTriggers(  # noqa: N802
        self, request: pb.ListTriggersRequest, context: Any
    ) -> pb.ListTriggersResponse:
        """Raises InvalidArgument, NotFound."""
        del context
        size = pages.page_size(request.page_size)
        flow_id = await self._flow_id(request.flow_id) if request.flow_id else None
        listing = f"triggers of {flow_id or 'all'}"
        after = pages.read_token(listing, request.page_token, first=("", ""), parse=_key)
        found = await self._store.page(flow_id, after, size + 1)
        last = found[size - 1] if len(found) > size else None
        token = pages.write_token(listing, f"{last.flow_name} {last.id}") if last else ""
        return pb.ListTriggersResponse(
            triggers=map(views.trigger_message, found[:size]), next_page_token=token
        )

    async def DeliverWebhook(  # noqa: N802
        self, request: pb.DeliverWebhookRequest, context: Any
    ) -> pb.DeliverWebhookResponse:
        """Raises NotFound, Unauthenticated, InvalidArgument, AlreadyExists, Exhausted, Unavailable."""
        del context
        headers = joined((field.name, field.value) for field in request.headers)
        delivery = Delivery(request.method, request.path, request.query, headers, request.body)
        delivered = await self._deliveries.deliver(delivery)
        hook, launched = delivered.hook, delivered.launched
        respond = Respond.ACCEPTED if request.do_not_wait else hook.respond
        answer = pb.DeliverWebhookResponse(
            run_id=launched.run_id, duplicate=launched.first is None, response=views.RESPONSES[respond]
        )
        if respond is Respond.RUN:
            state = await self._waiter.settled(launched.run_id, hook.timeout)
            answer.run = run_view.run_document(state)
        return answer

    async def PauseTrigger(self, request: pb.PauseTriggerRequest, context: Any) -> pb.Trigger:  # noqa: N802
        """Raises NotFound, Refused."""
        del context
        flow, trigger = await self._declared(request.flow_id, request.trigger_id)
        await self._schedules.pause(flow.flow_id, byhand.as_schedule(flow, trigger).id)
        return await self._shown(flow.flow_id, trigger.id)

    async def ResumeTrigger(self, request: pb.ResumeTriggerRequest, context: Any) -> pb.Trigger:  # noqa: N802
        """Raises NotFound, Refused."""
        del context
        flow, trigger = await self._declared(request.flow_id, request.trigger_id)
        await self._schedules.resume(flow.flow_id, byhand.as_schedule(flow, trigger))
        return await self._shown(flow.flow_id, trigger.id)

    async def PreviewTrigger(  # noqa: N802
        self, request: pb.PreviewTriggerRequest, context: Any
    ) -> pb.PreviewTriggerResponse:
        """Raises InvalidArgument, NotFound, Refused."""
        del context
        if not 0 <= request.count <= MAX_PREVIEW:
            message = f"count is between 1 and {MAX_PREVIEW}"
            violations = [Violation("count", message)]
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=violations)
        flow, trigger = await self._declared(request.flow_id, request.trigger_id)
        schedule = byhand.as_schedule(flow, trigger).schedule
        key = key_of(flow.flow_id, trigger.id)
        upcoming = schedule.upcoming(self._clock.now(), request.count or PREVIEW)
        firings = [views.firing_message(moment, schedule.fires_at(moment, key)) for moment in upcoming]
        return pb.PreviewTriggerResponse(firings=filter(None, firings))

    async def FireTrigger(self, request: pb.FireTriggerRequest, context: Any) -> HttpBody:  # noqa: N802
        """Raises InvalidArgument, NotFound, AlreadyExists, Refused, Exhausted, Unavailable."""
        handle = request_id(request.request_id)
        value = documents.parse(request.form, what="the form")
        sent = bool(request.form.data.strip())
        flow, trigger = await self._declared(request.flow_id, request.trigger_id)
        launched = await byhand.fire(
            self._launcher,
            self._clock,
            flow,
            trigger,
            Json.of(value) if sent else None,
            request_id=handle,
            actor=actor(context),
            traceparent=traceparent(context),
        )
        state = launched.first or await self._reader.state(launched.run_id)
        return HttpBody(content_type="application/json", data=run_view.run_document(state))

    async def _declared(self, flow_key: str, trigger_id: str) -> tuple[Resolved, Trigger]:
        """A trigger as the flow's current version declares it.

        Raises:
            NotFound: there is no such flow or trigger.
        """
        flow_id = await self._flow_id(flow_key)
        self._cache.forget(flow_id)  # whoever pauses what has just come shall find it, wherever it was saved
        flow = await self._cache.resolve(flow_id)
        trigger = flow.flow.trigger(trigger_id)
        if trigger is None:
            raise _no_trigger(flow_id, flow_key, trigger_id)
        return flow, trigger

    async def _shown(self, flow_id: FlowId, trigger_id: str) -> pb.Trigger:
        found = await self._store.get(flow_id, trigger_id) if is_name(trigger_id) else None
        if found is None:
            raise _no_trigger(flow_id, flow_id, trigger_id)
        return views.trigger_message(found)

    async def _flow_id(self, key: str) -> FlowId:
        current = await self._flows.current(key)
        if current is None:
            raise flow_not_found(key)
        return current.flow_id


def _no_trigger(flow_id: FlowId, named: str, trigger_id: str) -> NotFound:
    shown = trigger_id[:100]
    metadata = {"flow_id": flow_id, "trigger_id": shown}
    return NotFound(Reason.TRIGGER_NOT_FOUND, f"flow {named} has no trigger {shown!r}", metadata=metadata)


def _key(text: str) -> tuple[str, str]:
    flow_name, trigger_id = text.split(" ")
    if not (is_name(flow_name) and is_name(trigger_id)):
        raise ValueError("no page of triggers ends there")
    return flow_name, trigger_id
