"""`reflux.api.trigger.v1.TriggerService`: translate, call, translate back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceServicer
from reflux.core.errors import NotFound
from reflux.core.flow.webhook import Respond
from reflux.core.names import is_name
from reflux.core.reasons import Reason
from reflux.orchestrator import run_view
from reflux.orchestrator.flows.cache import flow_not_found
from reflux.orchestrator.triggers.requests import Delivery, joined
from reflux.runtime import pages

if TYPE_CHECKING:
    from reflux.core.names import FlowId
    from reflux.orchestrator.flows.store import FlowStore
    from reflux.orchestrator.triggers.deliveries import Deliveries
    from reflux.orchestrator.triggers.store import StoredTrigger, TriggerStore
    from reflux.orchestrator.waiting import Waiter

_RESPONSES = {Respond.ACCEPTED: pb.Trigger.ACCEPTED, Respond.RUN: pb.Trigger.RUN}


class TriggerServicer(TriggerServiceServicer):
    """Every method may also raise psycopg.Error when the database is away."""

    def __init__(
        self, *, flows: FlowStore, store: TriggerStore, deliveries: Deliveries, waiter: Waiter
    ) -> None:
        self._flows = flows
        self._store = store
        self._deliveries = deliveries
        self._waiter = waiter

    async def GetTrigger(self, request: pb.GetTriggerRequest, context: Any) -> pb.Trigger:  # noqa: N802
        """Raises NotFound."""
        del context
        flow_id = await self._flow_id(request.flow_id)
        known = is_name(request.trigger_id)
        trigger = await self._store.get(flow_id, request.trigger_id) if known else None
        if trigger is None:
            shown = request.trigger_id[:100]
            message = f"flow {request.flow_id} has no trigger {shown!r}"
            metadata = {"flow_id": flow_id, "trigger_id": shown}
            raise NotFound(Reason.TRIGGER_NOT_FOUND, message, metadata=metadata)
        return _message(trigger)

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
        return pb.ListTriggersResponse(triggers=map(_message, found[:size]), next_page_token=token)

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
            run_id=launched.run_id, duplicate=launched.first is None, response=_RESPONSES[respond]
        )
        if respond is Respond.RUN:
            state = await self._waiter.settled(launched.run_id, hook.timeout)
            answer.run = run_view.run_document(state)
        return answer

    async def _flow_id(self, key: str) -> FlowId:
        current = await self._flows.current(key)
        if current is None:
            raise flow_not_found(key)
        return current.flow_id


def _key(text: str) -> tuple[str, str]:
    flow_name, trigger_id = text.split(" ")
    if not (is_name(flow_name) and is_name(trigger_id)):
        raise ValueError("no page of triggers ends there")
    return flow_name, trigger_id


def _message(trigger: StoredTrigger) -> pb.Trigger:
    message = pb.Trigger(
        id=trigger.id,
        flow_id=trigger.flow_id,
        flow_name=trigger.flow_name,
        flow_version=trigger.flow_version,
        type=pb.Trigger.WEBHOOK,
        method=trigger.method,
        path=f"/hooks/{trigger.path}",
        auth=trigger.auth,
        response=_RESPONSES[Respond(trigger.respond)],
    )
    message.create_time.FromDatetime(trigger.created_at)
    return message
