"""An edge Envoy before small services that speak the real API and answer in ways a test can tell apart."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from reflux.api.flow.v1.flow_service_pb2_grpc import (
    FlowServiceServicer,
    add_FlowServiceServicer_to_server,
)
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import (
    EndpointServiceServicer,
    RegistryServiceServicer,
    add_EndpointServiceServicer_to_server,
    add_RegistryServiceServicer_to_server,
)
from reflux.api.routing.v1 import routing_service_pb2 as routing_pb
from reflux.api.routing.v1.routing_service_pb2_grpc import (
    RoutingServiceServicer,
    add_RoutingServiceServicer_to_server,
)
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server
from reflux.api.trigger.v1 import trigger_service_pb2 as trigger_pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import (
    TriggerServiceServicer,
    add_TriggerServiceServicer_to_server,
)
from reflux.controlplane import graph, server, snapshot
from reflux.controlplane.fleet import Fleet
from reflux.core.errors import Exhausted, NotFound
from reflux.core.reasons import Reason
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address
from tests.mesh.support.proxy import Proxy, envoy
from tests.support.rest import Answer, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@dataclass(slots=True)
class Heard:
    """What the services behind the edge were asked, newest last."""

    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)

    def note(self, request: Any, context: Any) -> None:
        """Remember a call."""
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))


@dataclass(slots=True)
class _Flows(FlowServiceServicer):
    heard: Heard

    async def CreateFlow(self, request: Any, context: Any) -> HttpBody:
        self.heard.note(request, context)
        return HttpBody(content_type="application/json", data=request.document.data)

    async def GetFlow(self, request: Any, context: Any) -> HttpBody:
        self.heard.note(request, context)
        raise NotFound(Reason.FLOW_NOT_FOUND, f"no flow {request.flow_id}")


@dataclass(slots=True)
class _Runs(RunServiceServicer):
    heard: Heard

    async def ExecuteFlow(self, request: Any, context: Any) -> HttpBody:
        self.heard.note(request, context)
        return HttpBody(content_type="application/json", data=b'{"id": "r"}')

    async def ListRuns(self, request: Any, context: Any) -> run_pb.ListRunsResponse:
        self.heard.note(request, context)
        return run_pb.ListRunsResponse(runs=[run_pb.Run(id="r", state=run_pb.Run.SUCCEEDED)])

    async def ShowApproval(self, request: Any, context: Any) -> HttpBody:
        self.heard.note(request, context)
        return HttpBody(content_type="application/json", data=b"{}")

    async def AnswerApproval(self, request: Any, context: Any) -> HttpBody:
        self.heard.note(request, context)
        return HttpBody(content_type="application/json", data=b"{}")

    async def CancelRun(self, request: Any, context: Any) -> HttpBody:
        self.heard.note(request, context)
        return HttpBody(content_type="application/json", data=b"{}")

    async def GetRun(self, request: Any, context: Any) -> HttpBody:
        self.heard.note(request, context)
        seconds = float(request.run_id) if request.run_id else None
        raise Exhausted(Reason.RATE_LIMIT, "too many", retry_seconds=seconds)

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[run_pb.WatchRunResponse]:
        self.heard.note(request, context)
        for seq in (1, 2, 3):
            yield run_pb.WatchRunResponse(seq=seq, last=seq == 3)
            await asyncio.sleep(0.01)


@dataclass(slots=True)
class _Triggers(TriggerServiceServicer):
    heard: Heard

    async def GetTrigger(self, request: Any, context: Any) -> trigger_pb.Trigger:
        self.heard.note(request, context)
        return trigger_pb.Trigger(id=request.trigger_id, type=trigger_pb.Trigger.WEBHOOK)

    async def ListTriggers(self, request: Any, context: Any) -> trigger_pb.ListTriggersResponse:
        self.heard.note(request, context)
        return trigger_pb.ListTriggersResponse(triggers=[trigger_pb.Trigger(id="hook")])

    async def DeliverWebhook(self, request: Any, context: Any) -> trigger_pb.DeliverWebhookResponse:
        self.heard.note(request, context)
        return trigger_pb.DeliverWebhookResponse(run_id="r")


@dataclass(slots=True)
class _Registry(RegistryServiceServicer, EndpointServiceServicer):
    heard: Heard

    async def ListNodes(self, request: Any, context: Any) -> registry_pb.ListNodesResponse:
        self.heard.note(request, context)
        return registry_pb.ListNodesResponse(nodes=[registry_pb.Node(name="http.request")])

    async def RenewEndpoint(self, request: Any, context: Any) -> registry_pb.RenewEndpointResponse:
        self.heard.note(request, context)
        return registry_pb.RenewEndpointResponse()


@dataclass(frozen=True, slots=True)
class Edge:
    """What a test holds."""

    proxy: Proxy
    heard: Heard
    channel: grpc.aio.Channel

    async def http(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; underscores in the names of `headers` become dashes."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.proxy.edge}{path}"
        return await asyncio.to_thread(send, method, url, body, names, seconds=20)


@dataclass(slots=True)
class _Routing(RoutingServiceServicer):
    heard: Heard

    async def RollbackRoute(self, request: Any, context: Any) -> routing_pb.Route:
        self.heard.note(request, context)
        return routing_pb.Route(node=request.node, note=request.note)


async def _gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP server that answers with the path it was asked for."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = b"gateway " + head.split(b" ", 2)[1]
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    writer.close()


@asynccontextmanager
async def edge_on(folder: Path) -> AsyncIterator[Edge]:
    """The edge with everything behind it."""
    heard = Heard()
    fleet = Fleet(lambda: None)
    fleet.publish(snapshot.build(graph.build([], [])))

    def service(*adders: Callable[[Any, Any], None], servicer: Any) -> Callable[[grpc.aio.Server], None]:
        def register(to: grpc.aio.Server) -> None:
            for add in adders:
                add(servicer, to)

        return register

    orchestrator = [
        service(add_FlowServiceServicer_to_server, servicer=_Flows(heard)),
        service(add_RunServiceServicer_to_server, servicer=_Runs(heard)),
        service(add_TriggerServiceServicer_to_server, servicer=_Triggers(heard)),
    ]
    registry = [
        service(
            add_RegistryServiceServicer_to_server,
            add_EndpointServiceServicer_to_server,
            servicer=_Registry(heard),
        ),
    ]
    routing = [
        service(add_RoutingServiceServicer_to_server, servicer=_Routing(heard)),
        lambda to: to.add_generic_rpc_handlers((server.handler(fleet),)),
    ]
    async with AsyncExitStack() as stack:
        bound = {}
        behind = {"orchestrator": orchestrator, "registry": registry, "controlplane": routing}
        for name, register in behind.items():
            listening = grpc_server(
                address=Address("127.0.0.1", 0),
                register=register,
                services=["reflux.api.flow.v1.FlowService"],
                drain_seconds=0,
            )
            bound[name] = (await stack.enter_async_context(listening)).port
        gateway = await stack.enter_async_context(await asyncio.start_server(_gateway, "127.0.0.1", 0))
        bound["gateway"] = gateway.sockets[0].getsockname()[1]
        proxy = await stack.enter_async_context(envoy(folder, cluster="edge", **bound))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{proxy.edge}"))
        yield Edge(proxy, heard, channel)
