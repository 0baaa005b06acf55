"""A schedule as clients see it: the trigger `often` of the flow `timed`, and what it has started."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
from reflux.core.errors import RefluxError
from reflux.runtime import rpc

if TYPE_CHECKING:
    from tests.support.scripted_mesh import Client

STEP = {"id": "a", "node": "work.pure", "with": {"trigger": "{{ trigger }}", "given": "{{ input }}"}}


def every(duration: str = "1s", **keys: Any) -> dict[str, Any]:
    return {"id": "often", "type": "interval", "every": duration, **keys}


async def call(client: Client, method: str, **fields: Any) -> Any:
    """One call of the TriggerService; raises the error that the server raised."""
    request = getattr(pb, f"{method}Request")(**{"flow_id": "timed", "trigger_id": "often", **fields})
    try:
        return await getattr(TriggerServiceStub(client.channel), method)(request, timeout=60)
    except grpc.RpcError as error:
        raise rpc.to_error(error) from None


async def refusal(awaitable: Any) -> RefluxError:
    with pytest.raises(RefluxError) as caught:
        await awaitable
    return caught.value


async def shown(client: Client) -> pb.Schedule:
    """How the schedule stands."""
    return (await call(client, "GetTrigger")).schedule


async def until(client: Client, holds: Any, seconds: float = 30) -> pb.Schedule:
    """The schedule once it is so."""
    async with asyncio.timeout(seconds):
        while not holds(schedule := await shown(client)):
            await asyncio.sleep(0.05)
    return schedule


async def started(client: Client) -> list[dict[str, Any]]:
    """What each run says of its start, oldest first, that a schedule started by itself."""
    page = await client.runs.ListRuns(run_pb.ListRunsRequest(page_size=1000))
    found = [run for run in reversed(page.runs) if run.actor == "trigger:often"]
    starts = [(await client.events(run.id))[0] for run in found]
    return [
        start["data"] | {"run": run.id, "recorded": start["time"]}
        for run, start in zip(found, starts, strict=True)
    ]


def moments(runs: list[dict[str, Any]]) -> list[datetime]:
    return [datetime.fromisoformat(run["scheduled_for"]) for run in runs]


async def replace(client: Client, **spec: Any) -> None:
    document = orjson.dumps({"name": "timed", "spec": {"steps": [STEP], **spec}})
    body = HttpBody(content_type="application/json", data=document)
    request = flow_pb.ReplaceFlowRequest(flow_id="timed", document=body)
    await FlowServiceStub(client.channel).ReplaceFlow(request)
