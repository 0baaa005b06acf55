"""TriggerService in memory: a webhook, a schedule and a form."""

from __future__ import annotations

from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody

from reflux.api.trigger.v1 import trigger_service_pb2 as trigger_pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceServicer
from reflux.core.errors import NotFound
from reflux.core.reasons import Reason
from reflux.runtime import documents
from tests.unit.cli.shapes import a_run


class Triggers(TriggerServiceServicer):
    """A webhook, a schedule that has failed once, and a form."""

    def __init__(self) -> None:
        self.webhook = trigger_pb.Trigger(
            id="incoming",
            flow_name="orders",
            flow_version=3,
            type=trigger_pb.Trigger.WEBHOOK,
            method="POST",
            path="/hooks/orders",
            auth="hmac",
            response=trigger_pb.Trigger.RUN,
        )
        self.night = trigger_pb.Trigger(
            id="night",
            flow_name="orders",
            flow_version=3,
            type=trigger_pb.Trigger.CRON,
            schedule=trigger_pb.Schedule(
                cron="0 2 * * *",
                timezone="Europe/Oslo",
                jitter="0s",
                catchup="last",
                overlap="skip",
                last_run_id="r1",
                last_error=trigger_pb.FiringError(reason="INPUT_INVALID", message="does not fit"),
                fired_count=7,
                failed_count=1,
            ),
        )
        self.night.schedule.next.fire_time.FromJsonString("2026-03-01T01:00:00Z")
        self.form = trigger_pb.Trigger(
            id="refund",
            flow_name="orders",
            flow_version=3,
            type=trigger_pb.Trigger.MANUAL,
            title="Refund an order",
            form='{"type":"object"}',
        )
        self.fired: list[trigger_pb.FireTriggerRequest] = []

    def ListTriggers(self, request: Any, context: Any) -> trigger_pb.ListTriggersResponse:
        shown = request.flow_id in ("", "orders")
        return trigger_pb.ListTriggersResponse(
            triggers=[self.webhook, self.night, self.form] if shown else []
        )

    def GetTrigger(self, request: Any, context: Any) -> trigger_pb.Trigger:
        for trigger in (self.webhook, self.night, self.form):
            if (request.flow_id, request.trigger_id) == ("orders", trigger.id):
                return trigger
        raise NotFound(Reason.FLOW_NOT_FOUND, "there is no such trigger")

    def PauseTrigger(self, request: Any, context: Any) -> trigger_pb.Trigger:
        self.night.schedule.paused = True
        return self.GetTrigger(request, context)

    def ResumeTrigger(self, request: Any, context: Any) -> trigger_pb.Trigger:
        self.night.schedule.paused = False
        return self.GetTrigger(request, context)

    def FireTrigger(self, request: trigger_pb.FireTriggerRequest, context: Any) -> HttpBody:
        self.fired.append(request)
        run = a_run("RUNNING", input=documents.parse(request.form, what="the form") or {})
        return HttpBody(content_type="application/json", data=orjson.dumps(run))

    def PreviewTrigger(self, request: Any, context: Any) -> trigger_pb.PreviewTriggerResponse:
        answer = trigger_pb.PreviewTriggerResponse()
        for day in range(request.count):
            firing = answer.firings.add()
            firing.scheduled_for.FromJsonString(f"2026-03-{day + 1:02}T01:00:00Z")
            firing.fire_time.FromJsonString(f"2026-03-{day + 1:02}T01:00:07Z")
        return answer
