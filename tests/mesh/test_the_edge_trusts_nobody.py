"""There is no authentication yet, so nothing a client says about itself counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mesh.support.edge import Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

ELSEWHERE = "https://evil.example"


async def test_our_own_headers_are_taken_away(edge: Edge) -> None:
    """Everybody is anonymous, and nobody tells Envoy or a service what only we may tell."""
    faults = {
        "x_envoy_fault_abort_grpc_request": "14",
        "x_envoy_fault_delay_request": "9000",
        "x_reflux_fault": "1",
        "x_reflux_fault_abort": "14",
    }
    ours = {"x_reflux_actor": "root", "X_Reflux_Node": "n", "x_envoy_max_retries": "9", **faults}
    await edge.http("GET", "/api/runs", **ours)
    metadata = edge.heard.metadata[-1]
    assert metadata["x-reflux-actor"] == "anonymous"
    assert "x-reflux-node" not in metadata
    assert "x-envoy-max-retries" not in metadata
    assert not [name for name in metadata if "fault" in name]


async def test_a_page_from_elsewhere_can_change_nothing(edge: Edge) -> None:
    """A browser sends `origin`; a program on the command line does not and is served."""
    reply = await edge.http("POST", "/api/flows/f/execute", origin=ELSEWHERE)
    assert (reply.status, reply.json["code"]) == (403, 7)
    assert not edge.heard.requests
    for origin in (f"http://127.0.0.1:{edge.proxy.edge}", "http://localhost:5173"):
        assert (await edge.http("POST", "/api/flows/f/execute", origin=origin)).status == 200


async def test_a_name_pointed_at_this_machine_gets_nothing(edge: Edge) -> None:
    """DNS rebinding: to the browser such a page is of our own origin, so only the name tells."""
    port = edge.proxy.edge
    for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3.4.5"):
        for method, path in (
            ("GET", "/api/runs"),
            ("POST", "/api/flows/f/execute"),
            ("GET", "/openapi.yaml"),
        ):
            own = {"host": f"{name}:{port}", "origin": f"http://{name}:{port}"}
            reply = await edge.http(method, path, **own)
            assert (reply.status, reply.json["code"]) == (403, 7)
            assert "localhost" in reply.json["message"]
    assert not edge.heard.requests
    for name in ("localhost", "app.localhost", "edge", "10.1.2.3", "[::1]"):
        for host in (name, f"{name}:{port}"):
            assert (await edge.http("GET", "/api/runs", host=host)).status == 200


async def test_an_approvals_link_works_under_any_name(edge: Edge) -> None:
    """Who has it is outside: the page and the two calls that take a token, and nothing else."""
    host = {"host": "flows.example.org"}
    own = {**host, "origin": "https://flows.example.org", "content_type": "application/json"}
    for path in ("/approve", "/approve.css", "/approve.js"):
        reply = await edge.http("GET", path, **host)
        assert (reply.status, reply.body) == (200, f"gateway {path}".encode())
        assert (await edge.http("POST", path, **own)).status == 403
    for verb in ("show", "answer"):
        reply = await edge.http("POST", f"/api/approvals:{verb}", b'{"token": "t"}', **own)
        assert (reply.status, edge.heard.requests[-1].document.data) == (200, b'{"token": "t"}')
        heard = len(edge.heard.requests)
        for method, path in (
            ("GET", f"/api/approvals:{verb}"),
            ("POST", f"/api/approvals:{verb}/x"),
            ("POST", "/api/runs/r/steps/ok:answer"),
            ("GET", "/api/runs/r/steps/ok:token"),
            ("GET", "/approve/x"),
        ):
            assert (await edge.http(method, path, **own)).status >= 400
        assert (await edge.http("POST", f"/api/approvals:{verb}?token=t", b"{}", **own)).status == 400
        assert len(edge.heard.requests) == heard
        # A proxy in front may send another host than the page's origin. Pages from elsewhere have no token,
        # and do not even read the refusal.
        reply = await edge.http("POST", f"/api/approvals:{verb}", b"{}", **{**own, "host": "localhost"})
        assert (reply.status, "access-control-allow-origin" in reply.headers) == (200, False)
        foreign = {**own, "host": "localhost", "origin": ELSEWHERE}
        assert (await edge.http("POST", "/api/flows/f/execute", **foreign)).status == 403


async def test_a_page_from_elsewhere_can_read_nothing(edge: Edge) -> None:
    """Preflights are answered for pages of this machine only."""
    asked = {"access_control_request_method": "PUT"}
    reply = await edge.http("OPTIONS", "/api/flows/f", origin="http://localhost:5173", **asked)
    assert reply.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert "PUT" in reply.headers["access-control-allow-methods"]
    reply = await edge.http("OPTIONS", "/api/flows/f", origin=ELSEWHERE, **asked)
    assert "access-control-allow-origin" not in reply.headers


async def test_a_path_has_one_spelling(edge: Edge) -> None:
    """Escaped slashes and dots cannot walk around a rule."""
    assert (await edge.http("GET", "/api/flows/a%2Fb")).status == 400
    assert (await edge.http("GET", "/api/x/../runs")).status == 200


@pytest.mark.parametrize(
    "query", ["flow_id=other", "flowId=other", "wait=1s&flow_id=other", "flow%5fid=other"]
)
async def test_the_query_cannot_change_what_the_path_names(edge: Edge, query: str) -> None:
    """Envoy would let it win, and another flow would be executed than the one that logs and people see."""
    reply = await edge.http("POST", f"/api/flows/f/execute?{query}")
    assert reply.status == 400
    assert not edge.heard.requests
    assert (await edge.http("GET", "/api/runs?flow_id=f")).status == 200


@pytest.mark.parametrize("query", ["revision=9", "note=x&revision=9", "node=other"])
async def test_the_query_cannot_change_which_revision_is_gone_back_to(edge: Edge, query: str) -> None:
    """Nor whose; expected_revision and a note are no repetition of the path."""
    path = "/api/routes/n/revisions/1:rollback"
    assert (await edge.http("POST", f"{path}?{query}")).status == 400
    assert not edge.heard.requests
    reply = await edge.http("POST", f"{path}?expected_revision=3&note=a%20revision%26more")
    assert reply.json["note"] == "a revision&more"
    (asked,) = edge.heard.requests
    assert (asked.node, asked.revision, asked.expected_revision) == ("n", 1, 3)
