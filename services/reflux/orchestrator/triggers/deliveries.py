"""From what a sender has sent to a run: who it is, what it says, and whether it came before."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from reflux.core.document import MAX_DEPTH, MAX_DOCUMENT_BYTES, Json, TooDeep
from reflux.core.errors import AlreadyExists, InvalidArgument, Unavailable
from reflux.core.expression import ExpressionError
from reflux.core.flow.webhook import default_input
from reflux.core.reasons import Reason
from reflux.core.trace import valid_traceparent
from reflux.orchestrator.launcher import Cause, Launched, StartOnce
from reflux.orchestrator.triggers.signatures import SecretUnusable, key_of, verify
from reflux.runtime import documents, logs

if TYPE_CHECKING:
    from reflux.core.flow.webhook import Webhook
    from reflux.orchestrator.flows.cache import Resolved
    from reflux.orchestrator.launcher import Launcher
    from reflux.orchestrator.triggers.paths import WebhookPaths
    from reflux.orchestrator.triggers.requests import Delivery
    from reflux.orchestrator.triggers.signatures import Secrets
    from reflux.runtime.clock import Clock

log = logs.get_logger("triggers")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a delivery."""

    hook: Webhook
    launched: Launched


class Deliveries:
    """Makes runs of deliveries."""

    def __init__(self, *, paths: WebhookPaths, launcher: Launcher, secrets: Secrets, clock: Clock) -> None:
        self._paths = paths
        self._launcher = launcher
        self._secrets = secrets
        self._clock = clock

    async def deliver(self, delivery: Delivery) -> Delivered:
        """The run of a delivery, durable when this returns; the same one for a repetition within 7 days.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND.
            Unauthenticated: SIGNATURE_INVALID, DELIVERY_REPLAYED.
            InvalidArgument: the body or the input made of it is too large, unreadable or does not fit.
            AlreadyExists: the delivery id came before with another body.
            Unavailable: SECRET_MISSING, or what the launcher raises.
            Exhausted: what the launcher raises.
        """
        flow, hook = await self._paths.find(delivery.method, delivery.path)
        documents.check_size(delivery.body, what="the body")
        self._authenticate(flow, hook, delivery)
        once = _once(flow, hook, delivery)
        try:
            document = _input(flow, hook, delivery)
            launched = await self._launcher.launch(
                flow,
                document,
                once=once,
                actor=f"trigger:{hook.id}",
                cause=Cause(hook.id),
                traceparent=valid_traceparent(delivery.headers.get("traceparent", "")),
            )
        except InvalidArgument as error:
            launched = await self._launcher.launched_before(once, error)
        except AlreadyExists as error:
            message = "this delivery id came within 7 days with another body: a new delivery has a new id"
            raise AlreadyExists(error.reason, message, metadata=error.metadata) from None
        return Delivered(hook, launched)

    def _authenticate(self, flow: Resolved, hook: Webhook, delivery: Delivery) -> None:
        if hook.hmac is None:
            return
        try:
            key = key_of(hook.hmac, self._secrets)
        except SecretUnusable as error:
            log.warning("webhook_secret_missing", flow=flow.name, trigger=hook.id, error=str(error))
            message = (
                f"the secret of trigger {hook.id} is not set here; planning the flow says what is missing"
            )
            metadata = {"flow_id": flow.flow_id, "trigger_id": hook.id}
            raise Unavailable(Reason.SECRET_MISSING, message, metadata=metadata) from None
        verify(hook.hmac, key, delivery.headers, delivery.body, self._clock.now())


def _once(flow: Resolved, hook: Webhook, delivery: Delivery) -> StartOnce | None:
    """What makes a delivery the same as another one."""
    scope = f"trigger:{flow.flow_id}/{hook.id}"
    if hook.delivery_id is not None:
        named = delivery.named(hook.delivery_id)
        return None if named is None else StartOnce(scope, named, sha256(delivery.body).digest())
    # An id inside a verified body names what happened, not what is written of it: a later attempt may tell it
    # with other counters beside it (an event's `pending_webhooks`), and is the same delivery.
    event = delivery.named_in_body()
    return None if event is None else StartOnce(scope, event, sha256(event.encode()).digest())


def _input(flow: Resolved, hook: Webhook, delivery: Delivery) -> Json:
    request = delivery.value(hook.hmac.header if hook.hmac else None)
    if hook.input is None:
        try:
            document = Json.bounded(default_input(request["body"]))
        except TooDeep:
            message = f"the input made of this request nests deeper than {MAX_DEPTH} levels"
            raise InvalidArgument(Reason.DOCUMENT_TOO_LARGE, message) from None
    else:
        try:
            document = hook.input.document({"request": request, "vars": flow.flow.vars})
        except ExpressionError as error:
            message = f"the input of trigger {hook.id} cannot be made of this request: {error.render()}"
            raise InvalidArgument(Reason.EXPRESSION_FAILED, message) from None
    if len(document.raw) > MAX_DOCUMENT_BYTES:
        size = {"size": str(len(document.raw)), "limit": str(MAX_DOCUMENT_BYTES)}
        message = (
            f"the input made of this request has {len(document.raw)} bytes, "
            f"and a run takes at most {MAX_DOCUMENT_BYTES} (bytes that are no text grow by a third)"
        )
        raise InvalidArgument(Reason.DOCUMENT_TOO_LARGE, message, metadata=size)
    return document
