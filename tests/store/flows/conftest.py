"""FlowService on a real gRPC server and a real database, with a catalog in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.flow.v1 import flow_service_pb2 as pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub, add_FlowServiceServicer_to_server
from reflux.core.effect import EffectClass
from reflux.core.errors import RefluxError
from reflux.orchestrator.flows.cache import FlowCache
from reflux.orchestrator.flows.servicer import FlowServicer
from reflux.orchestrator.flows.store import FlowStore
from reflux.orchestrator.mesh_view import Reach, RouteView, TargetView, VersionView
from reflux.orchestrator.triggers.planning import TriggerPlanner
from reflux.orchestrator.triggers.store import TriggerStore
from reflux.runtime import rpc
from reflux.runtime.clock import DatabaseClock
from reflux.runtime.postgres import Pool, open_pool
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from reflux.core.expression import Expression


@dataclass
class Mesh:
    """A catalog in memory: what `MeshView` knows from its streams."""

    known: dict[str, dict[str, VersionView]] = field(default_factory=dict)
    routes: dict[str, RouteView] = field(default_factory=dict)
    schemas: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    outputs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add(
        self,
        node: str,
        version: str,
        *,
        effect: EffectClass | Expression = EffectClass.PURE,
        schema: dict[str, Any] | None = None,
        slots: tuple[str, ...] = (),
        output: dict[str, Any] | None = None,
    ) -> None:
        view = VersionView(node, version, f"{node}@{version}", effect, None, endpoints=2, slots=slots)
        self.known.setdefault(node, {})[version] = view
        if schema is not None:
            self.schemas[node, version] = schema
        if output is not None:
            self.outputs[node, version] = output

    def send(self, node: str, *targets: TargetView) -> None:
        self.routes[node] = RouteView(node, 1, targets)

    def nodes(self) -> tuple[str, ...]:
        return tuple(self.known)

    def versions(self, node: str) -> Mapping[str, VersionView]:
        return self.known.get(node, {})

    def route(self, node: str) -> RouteView | None:
        return self.routes.get(node)

    def reach(self, node: str, pin: str | None) -> Reach:
        route, versions = self.route(node), self.versions(node)
        names = (pin,) if pin else route.reachable if route else ()
        return Reach(tuple(versions[name] for name in names if name in versions), None)

    async def input_schema(self, node: str, version: str) -> dict[str, Any] | None:
        return self.schemas.get((node, version))

    async def output_schema(self, node: str, version: str) -> dict[str, Any] | None:
        return self.outputs.get((node, version))


@dataclass
class Flows:
    """The service as a client has it, and what lies behind it."""

    stub: Any
    store: FlowStore
    cache: FlowCache
    mesh: Mesh
    pool: Pool
    secrets: dict[str, str]
    """The environment as triggers see it."""

    async def call(self, method: str, request: Any, **metadata: str) -> Any:
        """One call; raises the error that the server raised."""
        try:
            return await getattr(self.stub, method)(request, timeout=30, metadata=tuple(metadata.items()))
        except grpc.RpcError as error:
            raise rpc.to_error(error) from None

    async def create(self, document: object, request_id: str = "", **metadata: str) -> dict[str, Any]:
        request = pb.CreateFlowRequest(document=body(document), request_id=request_id)
        return read(await self.call("CreateFlow", request, **metadata))

    async def get(self, flow_id: str) -> dict[str, Any]:
        return read(await self.call("GetFlow", pb.GetFlowRequest(flow_id=flow_id)))

    async def replace(self, flow_id: str, document: object, **fields: Any) -> dict[str, Any]:
        request = pb.ReplaceFlowRequest(flow_id=flow_id, document=body(document), **fields)
        return read(await self.call("ReplaceFlow", request))

    async def update(self, flow_id: str, document: object, **fields: Any) -> dict[str, Any]:
        request = pb.UpdateFlowRequest(flow_id=flow_id, document=body(document), **fields)
        return read(await self.call("UpdateFlow", request))

    async def plan(self, document: object = None, flow_id: str = "") -> pb.PlanFlowResponse:
        sent = HttpBody() if document is None else body(document)
        planned: pb.PlanFlowResponse = await self.call(
            "PlanFlow", pb.PlanFlowRequest(flow_id=flow_id, document=sent)
        )
        return planned


def body(document: object, content_type: str = "application/json") -> HttpBody:
    """A document as it crosses the API; text goes as it is."""
    data = document if isinstance(document, str) else json.dumps(document)
    return HttpBody(content_type=content_type, data=data.encode())


def read(answer: HttpBody) -> dict[str, Any]:
    """The document of an answer."""
    assert answer.content_type == "application/json"
    document: dict[str, Any] = json.loads(answer.data)
    return document


def flow(name: str = "orders", *, value: object = 1, **document: object) -> dict[str, Any]:
    """A small flow; `value` makes specs differ."""
    return {"name": name, "spec": {"steps": [{"id": "a", "set": {"value": value}}]}, **document}


async def refusal(awaitable: Any) -> RefluxError:
    """The error that a call ends with."""
    with pytest.raises(RefluxError) as caught:
        await awaitable
    return caught.value


@pytest.fixture
async def flows(database_dsn: str) -> AsyncIterator[Flows]:
    """A running FlowService with an empty database."""
    async with open_pool(database_dsn, service="orchestrator", max_size=4) as pool:
        store, mesh = FlowStore(pool), Mesh()
        cache = FlowCache(store)
        secrets: dict[str, str] = {}
        planner = TriggerPlanner(TriggerStore(pool), secrets.get)
        servicer = FlowServicer(store, cache, mesh, DatabaseClock(), planner)
        server = grpc_server(
            address=Address("127.0.0.1", 0),
            register=[lambda server: add_FlowServiceServicer_to_server(servicer, server)],
            services=["reflux.api.flow.v1.FlowService"],
            drain_seconds=1.0,
        )
        async with server as address, rpc.channel(address) as channel:
            yield Flows(FlowServiceStub(channel), store, cache, mesh, pool, secrets)
