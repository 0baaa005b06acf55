"""Firing a trigger by hand: a manual one with its form, a schedule as if its time had come.

A person decides, so neither a pause nor `overlap` stands in the way, and the run is the person's: it has
their name as its actor, and is none of the runs that a schedule's overlap looks at.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from reflux.core.document import MAX_DOCUMENT_BYTES, Json
from reflux.core.errors import InvalidArgument, Refused
from reflux.core.expression import ExpressionError
from reflux.core.flow.manual import MANUAL_TYPE, Manual
from reflux.core.flow.scheduled import Scheduled
from reflux.core.flow.webhook import Webhook
from reflux.core.reasons import Reason
from reflux.orchestrator.launcher import Cause, Launched, StartOnce
from reflux.orchestrator.triggers.scheduler import make_input

if TYPE_CHECKING:
    from datetime import datetime

    from reflux.core.flow.triggers import Trigger
    from reflux.orchestrator.flows.cache import Resolved
    from reflux.orchestrator.launcher import Launcher
    from reflux.runtime.clock import Clock


async def fire(
    launcher: Launcher,
    clock: Clock,
    flow: Resolved,
    trigger: Trigger,
    form: Json | None,
    *,
    request_id: str,
    actor: str,
    traceparent: str,
) -> Launched:
    """The run of a trigger that a person fires, durable when this returns.

    Args:
        launcher: starts it.
        clock: says what time the schedule fires at.
        flow: whose trigger it is.
        trigger: as the flow declares it.
        form: what the person sent; None: nothing.
        request_id: the start-once handle; empty: each time another run.
        actor: who fires it.
        traceparent: of the request, if it brought one.

    Raises:
        Refused: TRIGGER_TYPE_UNSUITED for a webhook.
        InvalidArgument: INPUT_INVALID, EXPRESSION_FAILED, DOCUMENT_TOO_LARGE; ARGUMENT_INVALID for a schedule
            that was sent something.
        RefluxError: what the launcher raises.
    """
    if isinstance(trigger, Webhook):
        message = f"trigger {trigger.id} is a webhook: it is fired by a request to /hooks/{trigger.path}"
        raise unsuited(flow, trigger.id, message)
    if form is not None and not isinstance(trigger, Manual):
        message = f"trigger {trigger.id} is a schedule, which has no form: send nothing"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
    sent = b"" if form is None else form.raw
    scope = f"fire:{flow.flow_id}/{trigger.id}"
    once = StartOnce(scope, request_id, sha256(sent).digest()) if request_id else None
    try:
        document, cause = _asked(flow, trigger, form, clock.now())
        return await launcher.launch(
            flow, document, once=once, actor=actor, cause=cause, traceparent=traceparent
        )
    except InvalidArgument as error:
        return await launcher.launched_before(once, error)


def as_schedule(flow: Resolved, trigger: Trigger) -> Scheduled:
    """The trigger, which has to be one of time.

    Raises:
        Refused: TRIGGER_TYPE_UNSUITED.
    """
    if isinstance(trigger, Scheduled):
        return trigger
    kind = "webhook" if isinstance(trigger, Webhook) else MANUAL_TYPE
    message = f"trigger {trigger.id} is of type {kind} and no schedule: only cron and interval are"
    raise unsuited(flow, trigger.id, message)


def unsuited(flow: Resolved, trigger_id: str, message: str) -> Refused:
    """The trigger cannot do what was asked of it."""
    metadata = {"flow_id": flow.flow_id, "trigger_id": trigger_id}
    return Refused(Reason.TRIGGER_TYPE_UNSUITED, message, metadata=metadata)


def _asked(
    flow: Resolved, trigger: Manual | Scheduled, form: Json | None, now: datetime
) -> tuple[Json, Cause]:
    """The input of the run, and what starts it."""
    if isinstance(trigger, Manual):
        return _filled_in(flow, trigger, form or Json(b"{}")), Cause(trigger.id, MANUAL_TYPE)
    return make_input(flow, trigger, now, now), Cause(trigger.id, trigger.type, now)


def _filled_in(flow: Resolved, trigger: Manual, form: Json) -> Json:
    violations = trigger.form.violations(form.value) if trigger.form is not None else ()
    if violations:
        message = f"this does not fit the form of trigger {trigger.id}: {violations[0].message}"
        raise InvalidArgument(Reason.INPUT_INVALID, message, violations=violations)
    if trigger.input is None:
        return form
    try:
        document = trigger.input.document({"vars": flow.flow.vars, "form": form.value})
    except ExpressionError as error:
        message = f"the input of trigger {trigger.id} cannot be made of this form: {error.render()}"
        raise InvalidArgument(Reason.EXPRESSION_FAILED, message) from None
    if len(document.raw) > MAX_DOCUMENT_BYTES:
        message = f"the input made of this form has {len(document.raw)} bytes, at most {MAX_DOCUMENT_BYTES}"
        raise InvalidArgument(Reason.DOCUMENT_TOO_LARGE, message)
    return document
