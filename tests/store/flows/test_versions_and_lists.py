"""Versions, rollback, and pages of lists."""

from __future__ import annotations

import pytest

from reflux.api.flow.v1 import flow_service_pb2 as pb
from reflux.core.errors import InvalidArgument, NotFound
from reflux.core.reasons import Reason
from tests.store.flows.conftest import flow, read, refusal


async def names(flows, size, token=""):
    page = await flows.call("ListFlows", pb.ListFlowsRequest(page_size=size, page_token=token))
    return [each.name for each in page.flows], page.next_page_token


async def test_flows_are_listed_by_name_in_pages_without_their_documents(flows):
    """Every flow once; the last page has no token; deleted ones are left out."""
    for name in ("c", "a", "e", "b", "d"):
        await flows.create(flow(name, description=f"Flow {name}."))
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="d"))
    first, token = await names(flows, 2)
    second, end = await names(flows, 2, token)
    assert (first, second, end) == (["a", "b"], ["c", "e"], "")
    (page,) = [await flows.call("ListFlows", pb.ListFlowsRequest())]
    assert [each.description for each in page.flows] == [f"Flow {name}." for name in "abce"]
    assert not any(each.HasField("spec") or each.HasField("ui") for each in page.flows)
    assert all(each.HasField("create_time") and each.version == 1 for each in page.flows)


async def test_a_flow_made_between_two_pages_moves_nothing(flows):
    """A page begins after a name, not at an offset."""
    for name in ("b", "d", "f"):
        await flows.create(flow(name))
    _, token = await names(flows, 2)
    await flows.create(flow("a"))
    assert await names(flows, 2, token) == (["f"], "")


async def test_versions_are_listed_newest_first_with_their_authors(flows):
    """Without specs; each names who made it."""
    await flows.create(flow(), **{"x-reflux-actor": "ann"})
    await flows.replace("orders", flow(value=2))
    await flows.replace("orders", flow(value=3))
    request = pb.ListFlowVersionsRequest(flow_id="orders", page_size=2)
    page = await flows.call("ListFlowVersions", request)
    assert [(each.version, each.author) for each in page.versions] == [(3, "anonymous"), (2, "anonymous")]
    request.page_token = page.next_page_token
    page = await flows.call("ListFlowVersions", request)
    assert [(each.version, each.author, page.next_page_token) for each in page.versions] == [(1, "ann", "")]


async def test_a_version_is_read_with_its_spec(flows):
    """Also an older one; the flow itself shows the current one."""
    made = await flows.create(flow())
    await flows.replace("orders", flow(value=2))
    request = pb.GetFlowVersionRequest(flow_id="orders", version=1)
    version = read(await flows.call("GetFlowVersion", request))
    assert version == {
        "flow_id": made["id"],
        "version": 1,
        "digest": made["digest"],
        "spec": made["spec"],
        "create_time": made["update_time"],
        "author": "anonymous",
    }


async def test_a_rollback_is_a_new_version_that_equals_the_older_one(flows):
    """History is never rewritten, and going back to where one is changes nothing."""
    made = await flows.create(flow(description="Good.", ui={"a": 1}))
    await flows.replace("orders", flow(value=2))
    request = pb.RollbackFlowRequest(flow_id="orders", version=1)
    for _ in range(2):
        back = read(await flows.call("RollbackFlow", request))
        assert (back["version"], back["digest"]) == (3, made["digest"])
        assert (back["description"], back["ui"]) == ("Good.", {"a": 1})


async def test_versions_of_a_deleted_flow_are_read_by_its_id(flows):
    """Its runs walk them still. The name is free, and nothing can be changed."""
    made = await flows.create(flow())
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="orders"))
    request = pb.GetFlowVersionRequest(flow_id=made["id"].upper(), version=1)
    listed = await flows.call("ListFlowVersions", pb.ListFlowVersionsRequest(flow_id=made["id"]))
    assert read(await flows.call("GetFlowVersion", request))["spec"] == made["spec"]
    assert [each.version for each in listed.versions] == [1]
    for method, kind, key, version, reason in (
        ("GetFlowVersion", pb.GetFlowVersionRequest, made["id"], 2, Reason.FLOW_VERSION_NOT_FOUND),
        ("GetFlowVersion", pb.GetFlowVersionRequest, "orders", 1, Reason.FLOW_NOT_FOUND),
        ("RollbackFlow", pb.RollbackFlowRequest, made["id"], 1, Reason.FLOW_NOT_FOUND),
    ):
        error = await refusal(flows.call(method, kind(flow_id=key, version=version)))
        assert (type(error), error.reason) == (NotFound, reason)


async def test_a_version_that_is_not_there_is_not_found(flows):
    """The reason tells a missing flow from a missing version."""
    await flows.create(flow())
    for version in (0, -1, 2):
        for method, kind in (
            ("GetFlowVersion", pb.GetFlowVersionRequest),
            ("RollbackFlow", pb.RollbackFlowRequest),
        ):
            error = await refusal(flows.call(method, kind(flow_id="orders", version=version)))
            assert (type(error), error.reason) == (NotFound, Reason.FLOW_VERSION_NOT_FOUND)
            error = await refusal(flows.call(method, kind(flow_id="missing", version=version)))
            assert error.reason is Reason.FLOW_NOT_FOUND
    missing = flows.call("ListFlowVersions", pb.ListFlowVersionsRequest(flow_id="missing"))
    assert (await refusal(missing)).reason is Reason.FLOW_NOT_FOUND


@pytest.mark.parametrize("token", ["x", "====", "AAAA", "WyJydW5zIiwgImEiXQ", "é"])
async def test_a_token_that_is_not_of_this_list_is_refused(flows, token):
    """Nobody can build one, or take it from another list."""
    error = await refusal(names(flows, 2, token))
    assert (type(error), error.reason) == (InvalidArgument, Reason.PAGE_TOKEN_INVALID)


async def test_a_token_of_one_flow_does_not_fit_another(flows):
    """Lists of versions are different lists."""
    for name in ("a", "b"):
        await flows.create(flow(name))
        await flows.replace(name, flow(name, value=2))
    request = pb.ListFlowVersionsRequest(flow_id="a", page_size=1)
    token = (await flows.call("ListFlowVersions", request)).next_page_token
    other = pb.ListFlowVersionsRequest(flow_id="b", page_size=1, page_token=token)
    assert (await refusal(flows.call("ListFlowVersions", other))).reason is Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize("size", [-1, 1001])
async def test_a_page_has_bounds(flows, size):
    """At most 1000."""
    error = await refusal(names(flows, size))
    assert (type(error), error.reason) == (InvalidArgument, Reason.ARGUMENT_INVALID)
