"""One port for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub, RegistryServiceStub
from reflux.api.routing.v1 import routing_service_pb2 as routing_pb
from reflux.api.routing.v1 import try_service_pb2 as try_pb
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from reflux.api.routing.v1.try_service_pb2_grpc import TryServiceStub
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from reflux.api.shadow.v1 import shadow_service_pb2 as shadow_pb
from reflux.api.shadow.v1.shadow_service_pb2_grpc import ShadowServiceStub

if TYPE_CHECKING:
    from tests.mesh.support.edge import Edge


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_rest(edge: Edge) -> None:
    """Fields have their names of the API, defaults are written, enums are names."""
    reply = await edge.http("GET", "/api/runs")
    assert reply.status == 200
    (run,) = reply.json["runs"]
    assert (run["id"], run["state"], run["flow_version"]) == ("r", "SUCCEEDED", 0)
    assert reply.json["next_page_token"] == ""


async def test_a_document_crosses_as_its_own_bytes(edge: Edge) -> None:
    """Spelling, big numbers and content type arrive as they were sent; parameters stand in the query."""
    raw = b'{"name": "x",  "n": 9007199254740993}'
    reply = await edge.http("POST", "/api/flows?request_id=once", raw, content_type="application/json")
    assert (reply.status, reply.body) == (200, raw)
    request = edge.heard.requests[-1]
    assert (request.document.content_type, request.request_id) == ("application/json", "once")
    await edge.http("POST", "/api/flows", b"name: x", content_type="application/yaml; charset=utf-8")
    assert edge.heard.requests[-1].document.content_type.startswith("application/yaml")


async def test_execute_takes_the_input_as_its_body_or_none(edge: Edge) -> None:
    """`execute` without a body is how most people start."""
    assert (await edge.http("POST", "/api/flows/my_first_flow/execute")).status == 200
    assert edge.heard.requests[-1].flow_id == "my_first_flow"
    path = "/api/flows/my_first_flow/execute?wait=10s&request_id=r1"
    assert (await edge.http("POST", path, b'{"a": 1}', content_type="application/json")).status == 200
    request = edge.heard.requests[-1]
    assert (request.input.data, request.wait, request.request_id) == (b'{"a": 1}', "10s", "r1")


async def test_times_and_states_in_a_query_have_their_json_form(edge: Edge) -> None:
    """RFC 3339 with any offset, an enum by its name."""
    query = "state=SUCCEEDED&created_after=2026-01-01T00:00:00Z&created_before=2026-01-02T02:00:00%2B02:00"
    assert (await edge.http("GET", f"/api/runs?{query}&page_size=3")).status == 200
    request = edge.heard.requests[-1]
    assert request.state == run_pb.Run.SUCCEEDED
    assert request.created_before.seconds - request.created_after.seconds == 86_400
    assert request.page_size == 3


async def test_grpc_streams_included(edge: Edge) -> None:
    """The same service as REST, without translation."""
    reply = await RunServiceStub(edge.channel).ListRuns(run_pb.ListRunsRequest(), timeout=10)
    assert reply.runs[0].id == "r"
    watched = RunServiceStub(edge.channel).WatchRun(run_pb.WatchRunRequest(run_id="r"), timeout=10)
    assert [each.seq async for each in watched] == [1, 2, 3]
    nodes = await RegistryServiceStub(edge.channel).ListNodes(registry_pb.ListNodesRequest(), timeout=10)
    assert nodes.nodes[0].name == "http.request"


async def test_grpc_web(edge: Edge) -> None:
    """What a browser sends: a frame in, a frame and the trailers as a frame out."""
    path = "/reflux.api.run.v1.RunService/ListRuns"
    reply = await edge.http("POST", path, bytes(5), content_type="application/grpc-web+proto", x_grpc_web="1")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/grpc-web+proto")
    length = int.from_bytes(reply.body[1:5])
    assert run_pb.ListRunsResponse.FromString(reply.body[5 : 5 + length]).runs[0].id == "r"
    assert b"grpc-status:0" in reply.body[5 + length :]


async def test_reflection_and_health(edge: Edge) -> None:
    """A client can find out what is served, and whether it is."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    replies = reflection_pb2_grpc.ServerReflectionStub(edge.channel).ServerReflectionInfo(
        iter([request]), timeout=10
    )
    listed = [each async for each in replies]
    names = {each.name for each in listed[0].list_services_response.service}
    assert "reflux.api.flow.v1.FlowService" in names
    health = await health_pb2_grpc.HealthStub(edge.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_gateways_paths_are_not_transcoded(edge: Edge) -> None:
    """Server-sent events, the API's own document, the start page and the page for approvals."""
    own = ("/", "/openapi.yaml", "/approve", "/approve.css", "/approve.js")
    for path in (*own, "/api/runs/0198/x:watch".replace("/x", "")):
        reply = await edge.http("GET", path)
        assert (reply.status, reply.body) == (200, f"gateway {path}".encode())


async def test_what_is_internal_is_not_reachable(edge: Edge) -> None:
    """Registering endpoints and watching routes is not for the outside."""
    calls = (
        EndpointServiceStub(edge.channel).RenewEndpoint(registry_pb.RenewEndpointRequest(), timeout=10),
        anext(
            aiter(RoutingServiceStub(edge.channel).WatchRoutes(routing_pb.WatchRoutesRequest(), timeout=10))
        ),
        ShadowServiceStub(edge.channel).ReportShadow(shadow_pb.ReportShadowRequest(), timeout=10),
        TryServiceStub(edge.channel).ListFailedTries(try_pb.ListFailedTriesRequest(), timeout=10),
    )
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "Nothing is served here" in (refused.value.details() or "")
    assert not edge.heard.requests
