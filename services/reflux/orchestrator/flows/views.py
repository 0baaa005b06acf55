"""Flows as clients see them: the messages of `reflux.api.flow.v1`, as JSON where documents are inside.

A spec and a layout go into the answer byte for byte as they were saved.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.flow.v1 import flow_service_pb2 as pb
from reflux.orchestrator.flows.changes import etag_of

if TYPE_CHECKING:
    from datetime import datetime

    from reflux.orchestrator.flows.plan import Plan
    from reflux.orchestrator.flows.store import FlowSummary, StoredFlow, VersionSummary


def flow_body(flow: StoredFlow) -> HttpBody:
    """A Flow."""
    return _body(
        {
            "id": flow.id,
            "name": flow.name,
            "description": flow.content.description,
            "version": flow.version,
            "digest": flow.content.digest,
            "etag": etag_of(flow),
            "spec": orjson.Fragment(flow.content.spec),
            "ui": orjson.Fragment(flow.content.ui),
            "create_time": _stamp(flow.created_at),
            "update_time": _stamp(flow.version_created_at),
        }
    )


def version_body(flow: StoredFlow) -> HttpBody:
    """A FlowVersion."""
    return _body(
        {
            "flow_id": flow.id,
            "version": flow.version,
            "digest": flow.content.digest,
            "spec": orjson.Fragment(flow.content.spec),
            "create_time": _stamp(flow.version_created_at),
            "author": flow.author,
        }
    )


def flow_summary(flow: FlowSummary) -> pb.Flow:
    """A Flow without its documents."""
    message = pb.Flow(
        id=flow.id,
        name=flow.name,
        description=flow.description,
        version=flow.version,
        digest=flow.digest,
        etag=etag_of(flow),
    )
    message.create_time.FromDatetime(flow.created_at)
    message.update_time.FromDatetime(flow.version_created_at)
    return message


def version_summary(version: VersionSummary) -> pb.FlowVersion:
    """A FlowVersion without its spec."""
    message = pb.FlowVersion(
        flow_id=version.flow_id, version=version.version, digest=version.digest, author=version.author
    )
    message.create_time.FromDatetime(version.created_at)
    return message


def plan_response(plan: Plan) -> pb.PlanFlowResponse:
    """A PlanFlowResponse."""
    return pb.PlanFlowResponse(
        valid=not plan.problems,
        problems=[
            pb.Problem(
                code=problem.code.value, pointer=problem.pointer, message=problem.message, hint=problem.hint
            )
            for problem in plan.problems
        ],
        steps=[
            pb.PlannedStep(
                step=step.step,
                node=step.node,
                versions=[
                    pb.PlannedVersion(
                        version=v.version, weight=v.weight, endpoints=v.endpoints, credentials=v.slots
                    )
                    for v in step.versions
                ],
                effect=step.effect,
                lane=step.lane,
                needs=step.needs,
                credentials=dict(step.credentials),
            )
            for step in plan.steps
        ],
    )


def _body(document: dict[str, object]) -> HttpBody:
    return HttpBody(content_type="application/json", data=orjson.dumps(document))


def _stamp(time: datetime) -> str:
    """RFC 3339 in UTC, e.g. `2026-01-31T12:00:00.123456Z`."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
