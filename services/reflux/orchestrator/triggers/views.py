"""Triggers as messages of the API."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.core.flow.webhook import Respond

if TYPE_CHECKING:
    from reflux.orchestrator.triggers.schedules import StoredSchedule
    from reflux.orchestrator.triggers.store import StoredTrigger

RESPONSES: Final = {Respond.ACCEPTED: pb.Trigger.ACCEPTED, Respond.RUN: pb.Trigger.RUN}


def trigger_message(trigger: StoredTrigger) -> pb.Trigger:
    """A trigger of any type."""
    message = pb.Trigger(
        id=trigger.id,
        flow_id=trigger.flow_id,
        flow_name=trigger.flow_name,
        flow_version=trigger.flow_version,
        type=pb.Trigger.Type.Value(trigger.type.upper()),
        create_time=_stamp(trigger.created_at),
        title=trigger.title,
        description=trigger.description,
        form=trigger.form.decode(),
    )
    if trigger.path is not None:
        message.method = trigger.method or ""
        message.path = f"/hooks/{trigger.path}"
        message.auth = trigger.auth or ""
        message.response = RESPONSES[Respond(trigger.respond or "")]
    if trigger.schedule is not None:
        message.schedule.CopyFrom(_schedule(trigger.schedule))
    return message


def firing_message(scheduled_for: datetime | None, fire_time: datetime | None) -> pb.Firing | None:
    """A firing; None when there is none."""
    if scheduled_for is None or fire_time is None:
        return None
    return pb.Firing(scheduled_for=_stamp(scheduled_for), fire_time=_stamp(fire_time))


def _schedule(schedule: StoredSchedule) -> pb.Schedule:
    rule, problem = schedule.rule, schedule.problem
    message = pb.Schedule(
        cron=rule.get("cron", ""),
        timezone=rule.get("timezone", ""),
        every=rule.get("every", ""),
        jitter=rule["jitter"],
        catchup=schedule.catchup,
        overlap=schedule.overlap,
        paused=schedule.paused,
        next=None if schedule.paused else firing_message(schedule.scheduled_for, schedule.fire_at),
        last=firing_message(schedule.last_scheduled_for, schedule.last_fire_at),
        last_run_id=schedule.last_run_id or "",
        fired_count=schedule.fired,
        skipped_count=schedule.skipped,
        missed_count=schedule.missed,
        failed_count=schedule.failed,
    )
    if "anchor" in rule:
        message.anchor.FromDatetime(datetime.fromisoformat(rule["anchor"]))
    if problem is not None:
        message.last_error.CopyFrom(
            pb.FiringError(
                scheduled_for=_stamp(problem.scheduled_for),
                reason=problem.reason,
                message=problem.message,
                time=None if schedule.problem_at is None else _stamp(schedule.problem_at),
            )
        )
    return message


def _stamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
