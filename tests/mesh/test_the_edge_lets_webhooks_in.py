"""Webhooks come from outside, by any name and method; what starts runs inside is not reached from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub

if TYPE_CHECKING:
    from tests.mesh.support.edge import Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_hooks_are_served_by_the_gateway_under_any_name(edge: Edge) -> None:
    """Senders know a public name; any content type passes untouched. A GET is for names of this network."""
    for host in ("hooks.shop.example", "localhost", "10.1.2.3"):
        for method in ("POST", "GET", "PUT", "PATCH", "DELETE"):
            if (method, host) == ("GET", "hooks.shop.example"):
                continue
            body = None if method == "GET" else b"\x00"
            reply = await edge.http(method, "/hooks/shop/orders?flow_id=a", body, host=host)
            assert (reply.status, reply.body) == (200, b"gateway /hooks/shop/orders?flow_id=a")
    assert not edge.heard.requests


async def test_only_hooks_are_served_under_any_name(edge: Edge) -> None:
    """No path that looks like one, and none that is another once it is normal."""
    for path in ("/api/triggers", "/hooks", "/hooksx/a", "/hooks/../api/runs", "/hooks/%2e%2e/api/runs"):
        assert (await edge.http("GET", path, host="hooks.shop.example")).status == 403
    assert not edge.heard.requests


async def test_a_page_from_elsewhere_delivers_nothing(edge: Edge) -> None:
    """Not of another origin, and not of a name that its owner points at this machine."""
    own = {"host": "evil.example", "origin": "http://evil.example"}
    assert (await edge.http("POST", "/hooks/a", b"{}", **own)).status == 403
    assert (await edge.http("POST", "/hooks/a", b"{}", origin="https://evil.example")).status == 403
    assert (await edge.http("POST", "/hooks/a", b"{}", origin="http://localhost:5173")).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_browsers_send_without_an_origin_comes_by_no_foreign_name(edge: Edge, method: str) -> None:
    """A page whose owner points its name at this machine may get what it likes of its own origin."""
    for path in ("/hooks/a", "/hooks/a?x=1"):
        assert (await edge.http(method, path, host="evil.example")).status == 403
        assert (
            await edge.http(method, path, host="evil.example", sec_fetch_site="same-origin")
        ).status == 403


async def test_an_image_in_a_page_starts_no_run(edge: Edge) -> None:
    """Neither does a link or a form there; an address that somebody types, and a program, may."""
    for site in ("cross-site", "same-site", "none, cross-site", ""):
        assert (await edge.http("GET", "/hooks/a", sec_fetch_site=site)).status == 403
    for headers in ({}, {"sec_fetch_site": "none"}, {"sec_fetch_site": "same-origin"}):
        assert (await edge.http("GET", "/hooks/a", **headers)).body == b"gateway /hooks/a"
    ours = {"origin": "http://localhost:5173", "sec_fetch_site": "same-site"}
    assert (await edge.http("GET", "/hooks/a", **ours)).status == 200


async def test_a_path_of_a_hook_has_one_spelling(edge: Edge) -> None:
    """Escaped slashes are refused, dots and double slashes are gone before anything is decided."""
    assert (await edge.http("POST", "/hooks/a%2Fb", b"")).status == 400
    assert (await edge.http("POST", "/hooks//a/./b", b"")).body == b"gateway /hooks/a/b"


async def test_triggers_are_read_over_rest_and_grpc(edge: Edge) -> None:
    """By flow and id, in lists, with both bindings."""
    assert (await edge.http("GET", "/api/flows/f/triggers/hook")).json["id"] == "hook"
    assert edge.heard.requests[-1] == pb.GetTriggerRequest(flow_id="f", trigger_id="hook")
    for path in ("/api/triggers?flow_id=f", "/api/flows/f/triggers"):
        assert [trigger["id"] for trigger in (await edge.http("GET", path)).json["triggers"]] == ["hook"]
        assert edge.heard.requests[-1] == pb.ListTriggersRequest(flow_id="f")
    stub = TriggerServiceStub(edge.channel)
    assert (await stub.GetTrigger(pb.GetTriggerRequest(trigger_id="t"), timeout=10)).id == "t"


async def test_nobody_delivers_past_the_gateway(edge: Edge) -> None:
    """DeliverWebhook takes headers on trust, so it is not reached from outside, in any language."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await TriggerServiceStub(edge.channel).DeliverWebhook(pb.DeliverWebhookRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    path = "/reflux.api.trigger.v1.TriggerService/DeliverWebhook"
    assert (await edge.http("POST", path, b"{}", content_type="application/json")).status == 404
    assert not edge.heard.requests


@pytest.mark.parametrize("query", ["trigger_id=other", "triggerId=other", "flow_id=other"])
async def test_the_query_cannot_change_which_trigger_is_meant(edge: Edge, query: str) -> None:
    """As with flows and runs."""
    assert (await edge.http("GET", f"/api/flows/f/triggers/hook?{query}")).status == 400
    assert not edge.heard.requests
