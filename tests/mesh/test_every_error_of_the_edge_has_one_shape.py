"""Whoever answers, a service or Envoy itself: `{code, message, details}` with one ErrorInfo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.core.reasons import Reason
from tests.mesh.support.proxy import envoy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mesh.support.edge import Edge
    from tests.support.rest import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = [
    (("GET", "/nope", None), 404, 5, "Could not resolve"),
    (("GET", "/api/nope", None), 404, 5, "Could not resolve"),
    (("PUT", "/api/flows", b"{}"), 404, 5, "Could not resolve"),
    (("POST", "/nowhere/orders", b"{}"), 404, 5, "Could not resolve"),
    (("POST", "/reflux.api.flow.v1.FlowService/CreateFlow", b"{}"), 404, 5, "Could not resolve"),
    (("GET", "/api/runs//steps/x", None), 404, 5, "Could not resolve"),
    (("POST", "/hooks/a%2Fb", b"{}"), 400, 3, "encoded slash"),
    (("GET", "/api/runs/%00", None), 400, 3, "NUL"),
    (("GET", "/api/runs?stat=FAILED", None), 400, 3, "stat"),
    (("GET", "/api/runs?state=NOPE", None), 400, 3, "NOPE"),
    (("GET", "/api/runs?page_size=many", None), 400, 3, "many"),
    (("GET", "/api/runs?created_after=yesterday", None), 400, 3, "timestamp"),
    (("POST", "/api/flows", b" " * 2_500_000), 413, 8, "limit"),
]


def _info(reply: Answer) -> dict[str, Any]:
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"code", "message", "details"}
    (info,) = (each for each in reply.json["details"] if each["@type"].endswith("google.rpc.ErrorInfo"))
    assert info["domain"] == "reflux.dev"
    return info


@pytest.mark.parametrize(("asked", "status", "code", "words"), BAD)
async def test_envoys_own(
    edge: Edge, asked: tuple[str, str, bytes | None], status: int, code: int, words: str
) -> None:
    """A typo is an error with its place, never ignored and never an HTML page."""
    reply = await edge.http(*asked, content_type="application/json")
    assert (reply.status, reply.json["code"]) == (status, code)
    assert words in reply.json["message"]
    info = _info(reply)
    assert info["reason"] == Reason.EDGE_REFUSED
    assert info["metadata"]["cause"]


async def test_a_services(edge: Edge) -> None:
    """Status, code, reason and message of the service itself."""
    reply = await edge.http("GET", "/api/flows/none")
    assert (reply.status, reply.json["code"], reply.json["message"]) == (404, 5, "no flow none")
    assert _info(reply)["reason"] == Reason.FLOW_NOT_FOUND


@pytest.mark.parametrize(("seconds", "header"), [("299.2", "300"), ("7", "7"), ("0", "0")])
async def test_a_refusal_says_when_to_come_again(edge: Edge, seconds: str, header: str) -> None:
    """429 has the header that every HTTP client knows, and the exact time in its details."""
    reply = await edge.http("GET", f"/api/runs/{seconds}")
    assert (reply.status, reply.headers["retry-after"]) == (429, header)
    assert _info(reply)["reason"] == Reason.RATE_LIMIT
    (delay,) = (each["retry_delay"] for each in reply.json["details"] if each["@type"].endswith("RetryInfo"))
    assert float(delay.removesuffix("s")) == float(seconds)


async def test_an_error_that_lasts_names_no_time(edge: Edge) -> None:
    """Who asks again for what is not there gets the same answer."""
    reply = await edge.http("GET", "/api/flows/none")
    assert "retry-after" not in reply.headers


async def test_a_service_that_is_away(tmp_path: Path, edge: Edge) -> None:
    """REST: 503 in the same shape, after Envoy has tried for a while. gRPC: UNAVAILABLE, with plain text.

    The control plane is away too here: the edge comes up without it.
    """
    async with envoy(tmp_path, cluster="edge", name="lonely") as lonely:
        alone = type(edge)(lonely, edge.heard, edge.channel)
        reply = await alone.http("GET", "/api/runs")
        assert (reply.status, reply.json["code"]) == (503, 14)
        assert _info(reply)["reason"] == Reason.EDGE_REFUSED
        async with grpc.aio.insecure_channel(f"127.0.0.1:{lonely.edge}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await FlowServiceStub(channel).GetFlow(flow_pb.GetFlowRequest(), timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not (refused.value.details() or "").startswith("{")
