"""A mesh in one server, for tests of the orchestrator alone: registry, control plane, and scripted nodes.

It speaks the real contracts; that the real registry, control plane and Envoy keep them too is what tests/e2e
proves.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToDict

from reflux.api.effect.v1 import effect_service_pb2 as effect_pb
from reflux.api.effect.v1.effect_service_pb2_grpc import EffectServiceStub
from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.node.v1.node_service_pb2_grpc import (
    NodeServiceServicer,
    add_NodeServiceServicer_to_server,
)
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import (
    EndpointServiceServicer,
    add_EndpointServiceServicer_to_server,
)
from reflux.api.routing.v1 import routing_service_pb2 as routing_pb
from reflux.api.routing.v1.routing_service_pb2_grpc import (
    RoutingServiceServicer,
    add_RoutingServiceServicer_to_server,
)
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from reflux.runtime import rpc
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address

Script = Callable[[dict[str, Any], dict[str, str], grpc.aio.ServicerContext], Awaitable[Any]]

Together = Callable[
    [node_pb.ExecuteBatchRequest, grpc.aio.ServicerContext], AsyncIterator[node_pb.ExecuteBatchResponse]
]

NODES = {
    "work.pure": node_pb.Effect.PURE,
    "work.keyed": node_pb.Effect.IDEMPOTENT,
    "work.once": node_pb.Effect.AT_MOST_ONCE,
    "work.batch": node_pb.Effect.PURE,
}
"""`work.batch` takes several attempts in one call."""


@dataclass
class Mesh(NodeServiceServicer, EndpointServiceServicer, RoutingServiceServicer):
    """Registry, control plane and every node in one server; `script` is what the nodes do."""

    script: Script | None = None
    together: Together | None = None
    """What the nodes do with several attempts; else each is answered by its input."""
    batches: list[node_pb.ExecuteBatchRequest] = field(default_factory=list)
    calls: list[dict[str, str]] = field(default_factory=list)
    address: Address = Address("127.0.0.1", 0)

    async def Execute(self, request, context):
        envelope = {key: str(value) for key, value in context.invocation_metadata()}
        self.calls.append(envelope)
        output = {"ok": True}
        if self.script is not None:
            output = await self.script(orjson.loads(request.input), envelope, context)
        return node_pb.ExecuteResponse(output=orjson.dumps(output))

    async def ExecuteBatch(self, request, context):
        self.batches.append(request)
        if self.together is not None:
            async for response in self.together(request, context):
                yield response
            return
        yield answer(request, *range(len(request.items)))

    async def WatchCatalog(self, request, context):
        versions = []
        for name, effect in NODES.items():
            version = registry_pb.NodeVersion(node=name, version="1.0.0", digest=name, max_concurrency=1000)
            version.batchable = name == "work.batch"
            setattr(version.effect, "class", effect)
            versions.append(version)
        yield registry_pb.Catalog(revision=1, versions=versions)
        await asyncio.get_running_loop().create_future()

    async def WatchRoutes(self, request, context):
        target = routing_pb.Target(version="1.0.0", weight=10_000)
        routes = [routing_pb.Route(node=name, revision=1, targets=[target]) for name in NODES]
        yield routing_pb.WatchRoutesResponse(routes=routes)
        await asyncio.get_running_loop().create_future()

    def count(self, step: str) -> int:
        """How often a step's node was called."""
        return sum(call["x-reflux-step"] == step for call in self.calls)

    def runs(self, step: str) -> set[str]:
        """The runs whose step's node was called, however often: a pure one may be called again."""
        return {call["x-reflux-run-id"] for call in self.calls if call["x-reflux-step"] == step}


def answer(request: node_pb.ExecuteBatchRequest, *places: int) -> node_pb.ExecuteBatchResponse:
    """Answers these items with their inputs."""
    results = [node_pb.BatchResult(index=place, output=request.items[place].input) for place in places]
    return node_pb.ExecuteBatchResponse(results=results)


@asynccontextmanager
async def running_mesh() -> AsyncIterator[Mesh]:
    """A mesh that serves within the block."""
    mesh = Mesh()
    register = [
        lambda server: add_NodeServiceServicer_to_server(mesh, server),
        lambda server: add_EndpointServiceServicer_to_server(mesh, server),
        lambda server: add_RoutingServiceServicer_to_server(mesh, server),
    ]
    async with grpc_server(address=mesh.address, register=register, services=(), drain_seconds=0) as bound:
        mesh.address = bound
        yield mesh


@dataclass
class Client:
    """What a client does with one orchestrator."""

    address: Address
    channel: grpc.aio.Channel

    @property
    def runs(self) -> RunServiceStub:
        """The typed stub."""
        return RunServiceStub(self.channel)

    async def save(self, name: str, *steps: dict[str, Any], **spec: Any) -> str:
        """Saves a flow; its id."""
        document = {"name": name, "spec": {"steps": list(steps), **spec}}
        body = HttpBody(content_type="application/json", data=orjson.dumps(document))
        answer = await FlowServiceStub(self.channel).CreateFlow(flow_pb.CreateFlowRequest(document=body))
        return orjson.loads(answer.data)["id"]

    async def replace(self, name: str, *steps: dict[str, Any], **spec: Any) -> int:
        """Saves a new version of a flow; its number."""
        document = {"name": name, "spec": {"steps": list(steps), **spec}}
        body = HttpBody(content_type="application/json", data=orjson.dumps(document))
        request = flow_pb.UpdateFlowRequest(flow_id=name, document=body)
        return int(orjson.loads((await FlowServiceStub(self.channel).UpdateFlow(request)).data)["version"])

    async def start(
        self, flow: str, given: Any = None, *, seconds: float = 30, **options: str
    ) -> dict[str, Any]:
        """Starts a run."""
        body = HttpBody(content_type="application/json", data=orjson.dumps({} if given is None else given))
        request = run_pb.ExecuteFlowRequest(flow_id=flow, input=body, **options)
        return orjson.loads((await self.runs.ExecuteFlow(request, timeout=seconds)).data)

    async def run(self, run_id: str, seconds: float | None = None) -> dict[str, Any]:
        """One run."""
        request = run_pb.GetRunRequest(run_id=run_id)
        return orjson.loads((await self.runs.GetRun(request, timeout=seconds)).data)

    async def steps(self, run_id: str) -> dict[str, Any]:
        """Its steps, by id."""
        answer = await self.runs.ListStepRuns(run_pb.ListStepRunsRequest(run_id=run_id))
        return {step["id"]: step for step in orjson.loads(answer.data)["steps"]}

    async def events(self, run_id: str) -> list[dict[str, Any]]:
        """Its journal."""
        answer = await self.runs.ListEvents(run_pb.ListEventsRequest(run_id=run_id, page_size=1000))
        return orjson.loads(answer.data)["events"]

    async def all_events(self, run_id: str) -> list[dict[str, Any]]:
        """Its journal, page by page."""
        events, token = [], ""
        while True:
            request = run_pb.ListEventsRequest(run_id=run_id, page_token=token)
            page = orjson.loads((await self.runs.ListEvents(request)).data)
            events += page["events"]
            token = page["next_page_token"]
            if not token:
                return events

    async def row(self, run_id: str, state: str, seconds: float = 20) -> dict[str, Any]:
        """The run as lists show it, once it is in this state."""
        wanted = run_pb.ListRunsRequest(state=run_pb.Run.State.Value(state))
        async with asyncio.timeout(seconds):
            while True:
                for run in (await self.runs.ListRuns(wanted)).runs:
                    if run.id == run_id:
                        return MessageToDict(run)
                await asyncio.sleep(0.05)

    async def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancels it."""
        return orjson.loads((await self.runs.CancelRun(run_pb.CancelRunRequest(run_id=run_id))).data)

    async def until(self, run_id: str, *states: str, seconds: float = 20) -> dict[str, Any]:
        """The run once it is in one of these states."""
        async with asyncio.timeout(seconds):
            while (run := await self.run(run_id))["state"] not in states:
                await asyncio.sleep(0.02)
        return run


async def claim(
    envelope: dict[str, str], *, execution: str = "e1", scope: str = "", seconds: float = 10
) -> None:
    """Claims an effect as a node does; raises `grpc.aio.AioRpcError` when it is refused."""
    async with rpc.channel(envelope["x-reflux-claim-address"]) as channel:
        await EffectServiceStub(channel).ClaimEffect(
            effect_pb.ClaimEffectRequest(
                run_id=envelope["x-reflux-run-id"],
                step=envelope["x-reflux-step"],
                attempt=int(envelope["x-reflux-attempt"]),
                fencing_token=int(envelope["x-reflux-fencing-token"]),
                execution_id=execution,
                scope=scope,
                node_version="work.once@1.0.0",
            ),
            timeout=seconds,
        )
