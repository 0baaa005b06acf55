"""Creating, reading, replacing, changing and deleting flows."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import datetime

import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.flow.v1 import flow_service_pb2 as pb
from reflux.core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from reflux.core.flow.limits import NO_LIMITS
from reflux.core.names import is_id
from reflux.core.reasons import Reason
from tests.store.flows.conftest import body, flow, read, refusal


async def test_a_saved_flow_is_answered_and_found_by_id_and_by_name(flows):
    """Flat JSON in snake_case, RFC 3339 times, version 1."""
    made = await flows.create(flow(description="Orders.", ui={"a": {"x": 1.5}}))
    assert is_id(made["id"])
    assert {key: made[key] for key in ("name", "description", "version", "ui")} == {
        "name": "orders",
        "description": "Orders.",
        "version": 1,
        "ui": {"a": {"x": 1.5}},
    }
    assert re.fullmatch(r"[0-9a-f]{64}", made["digest"])
    assert made["create_time"].endswith("Z")
    assert datetime.fromisoformat(made["create_time"]) == datetime.fromisoformat(made["update_time"])
    assert await flows.get(made["id"]) == await flows.get("orders") == made


async def test_documents_come_back_with_every_digit(flows):
    """Numbers that a double or a Struct would change, and the order of keys, are kept."""
    text = '{"name":"exact","spec":{"steps":[{"id":"a","set":{"z":9007199254740993,"b":0.1,"a":1.0}}]}}'
    request = pb.CreateFlowRequest(document=body(text))
    answer = await flows.call("CreateFlow", request)
    assert b'"set":{"z":9007199254740993,"b":0.1,"a":1.0}' in answer.data


async def test_yaml_is_read_by_its_content_type(flows):
    """The same model, whatever the language; `on` is a key, not a bool."""
    text = "name: y\nspec:\n  steps:\n  - {id: a, node: x, retry: {attempts: 2, on: [ABORTED]}}\n"
    request = pb.CreateFlowRequest(document=body(text, "application/yaml"))
    made = read(await flows.call("CreateFlow", request))
    assert made["spec"]["steps"][0]["retry"] == {"attempts": 2, "on": ["ABORTED"]}


async def test_older_spellings_are_saved_in_present_spelling(flows):
    """What is read back is what will be read for ever."""
    step = {"id": "a", "node": "http.request", "version": "1.0.0", "timeout": 5}
    made = await flows.create({"name": "older", "spec": {"steps": [step]}})
    assert made["spec"]["steps"] == [{"id": "a", "node": "http.request@1.0.0", "timeout": {"attempt": "5s"}}]


async def test_a_flow_with_problems_is_refused_with_each_of_them(flows):
    """One violation per problem, with its pointer, code, message and hint; nothing is saved."""
    document = {"name": "bad", "spec": {"steps": [{"id": "a", "nod": "x"}, {"id": "a", "node": "y"}]}}
    error = await refusal(flows.create(document))
    assert isinstance(error, InvalidArgument)
    assert error.reason is Reason.FLOW_INVALID
    assert error.metadata == {"problems": "3", "code": "NO_ACTION"}
    assert [(v.pointer, v.message.split(":")[0]) for v in error.violations] == [
        ("/spec/steps/0", "NO_ACTION"),
        ("/spec/steps/0/nod", "UNKNOWN_KEY"),
        ("/spec/steps/1/id", "DUPLICATE_ID"),
    ]
    assert "did you mean node?" in error.violations[1].message
    assert isinstance(await refusal(flows.get("bad")), NotFound)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (HttpBody(), Reason.DOCUMENT_UNREADABLE),
        (body("{"), Reason.DOCUMENT_UNREADABLE),
        (body('{"name":"a","name":"b"}'), Reason.DOCUMENT_UNREADABLE),
        (body("[" * 100 + "]" * 100), Reason.DOCUMENT_UNREADABLE),
        (body('"' + "x" * (1 << 20) + '"'), Reason.DOCUMENT_TOO_LARGE),
        (body("{}", "text/html"), Reason.CONTENT_TYPE_UNSUPPORTED),
        (body("[]"), Reason.FLOW_INVALID),
    ],
)
async def test_what_is_no_document_is_refused_by_its_kind(flows, document, reason):
    """Empty, broken, duplicate keys, too deep, too large, wrong type, no object."""
    error = await refusal(flows.call("CreateFlow", pb.CreateFlowRequest(document=document)))
    assert isinstance(error, InvalidArgument)
    assert error.reason is reason


async def test_a_name_is_given_once(flows):
    """Until the flow that has it is deleted."""
    made = await flows.create(flow())
    error = await refusal(flows.create(flow()))
    assert isinstance(error, AlreadyExists)
    assert error.reason is Reason.FLOW_NAME_TAKEN
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="orders"))
    assert (await flows.create(flow()))["id"] != made["id"]


async def test_what_is_not_there_is_not_found(flows):
    """By name, by id, and by what can be neither."""
    for key in ("missing", "00000000-0000-7000-8000-000000000000", "No Name", "a\x00b", ""):
        error = await refusal(flows.get(key))
        assert (type(error), error.reason) == (NotFound, Reason.FLOW_NOT_FOUND)
    for call in (flows.replace("missing", flow()), flows.update("missing", {"ui": 1})):
        assert (await refusal(call)).reason is Reason.FLOW_NOT_FOUND


async def test_replacing_makes_a_new_version_only_of_something_new(flows):
    """An equal document, also one sent back as it was read, changes nothing."""
    made = await flows.create(flow())
    assert await flows.replace("orders", made) == made
    changed = await flows.replace("orders", flow(value=2))
    assert (changed["version"], changed["id"]) == (2, made["id"])
    assert changed["digest"] != made["digest"]
    assert changed["create_time"] == made["create_time"]
    assert changed["update_time"] > made["update_time"]
    drawn = await flows.replace("orders", flow(value=2, ui={"a": [1, 2]}))
    assert (drawn["version"], drawn["digest"]) == (3, changed["digest"])


async def test_a_stale_etag_stops_a_change(flows):
    """What was read must still be so, whichever call changes it; without an etag the last one wins."""
    first = await flows.create(flow())
    second = await flows.replace("orders", flow(value=2), etag=first["etag"])
    back = pb.RollbackFlowRequest(flow_id="orders", version=1, etag=first["etag"])
    for call in (
        flows.replace("orders", flow(value=3), etag=first["etag"]),
        flows.update("orders", {"description": "x"}, etag=first["etag"]),
        flows.call("RollbackFlow", back),
    ):
        error = await refusal(call)
        assert (type(error), error.reason) == (Conflict, Reason.ETAG_STALE)
        assert error.metadata["etag"] == second["etag"]
    assert (await flows.replace("orders", flow(value=4)))["version"] == 3


async def test_every_change_makes_another_etag(flows):
    """Of the description, the layout or the name, and back; a digest is none. An equal document keeps it."""
    seen = [await flows.create(flow())]
    for change in (
        {"description": "x"},
        {"ui": {"a": 1}},
        {"name": "bills"},
        {"spec": flow(value=2)["spec"]},
        flow("bills", description="", ui=None),
    ):
        seen.append(await flows.update(seen[0]["id"], change, etag=seen[-1]["etag"]))
    assert len({each["etag"] for each in seen}) == len(seen)
    assert (
        await flows.replace("bills", seen[-1], etag=seen[-1]["etag"]) == seen[-1] == await flows.get("bills")
    )
    assert [each.etag for each in (await flows.call("ListFlows", pb.ListFlowsRequest())).flows] == [
        seen[-1]["etag"]
    ]
    for stale in (*(each["etag"] for each in seen[:-1]), seen[-1]["digest"]):
        error = await refusal(flows.replace("bills", flow("bills", value=9), etag=stale))
        assert error.reason is Reason.ETAG_STALE


async def test_a_flow_that_is_made_anew_has_another_etag(flows):
    """Under the same name, at the same version, with the same content: it is not the one that was read."""
    first = await flows.create(flow())
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="orders"))
    await flows.create(flow())
    error = await refusal(flows.replace("orders", flow(value=2), etag=first["etag"]))
    assert error.reason is Reason.ETAG_STALE


async def test_a_name_given_meanwhile_is_kept(flows):
    """A change that was worked out before it is made again, or told that it came second."""
    seen = await flows.store.find((await flows.create(flow()))["id"])
    await flows.update("orders", {"name": "bills"})
    content = replace(seen.content, description="x")
    for change in (content, None):
        assert not await flows.store.save(seen, "orders", change, "ann", triggers=(), limits=NO_LIMITS)
    assert (await flows.get("bills"))["version"] == 1


async def test_replacing_may_create(flows):
    """With allow_missing, under the name of the path and no other, and never by an id."""
    made = await flows.replace("orders", flow(), allow_missing=True)
    assert (made["version"], made["name"]) == (1, "orders")
    assert (await flows.replace("orders", flow(value=2), allow_missing=True))["version"] == 2
    other = await refusal(flows.replace("bills", flow(), allow_missing=True))
    assert (type(other), other.reason) == (InvalidArgument, Reason.ARGUMENT_INVALID)
    by_id = "00000000-0000-7000-8000-000000000000"
    assert isinstance(await refusal(flows.replace(by_id, flow("x"), allow_missing=True)), NotFound)


async def test_an_update_changes_the_named_fields(flows):
    """Those present by default; with a mask those named, and a named one that is absent is cleared."""
    await flows.create(flow(description="Orders.", ui={"a": 1}))
    changed = await flows.update("orders", {"description": "New."})
    assert (changed["description"], changed["ui"], changed["version"]) == ("New.", {"a": 1}, 2)
    masked = await flows.update("orders", {"description": "Not this.", "ui": {"b": 1}}, update_mask="ui")
    assert (masked["description"], masked["ui"]) == ("New.", {"b": 1})
    cleared = await flows.update("orders", {}, update_mask="description, ui")
    assert (cleared["description"], cleared["ui"], cleared["version"]) == ("", None, 4)


async def test_an_update_is_checked_as_a_whole(flows):
    """A mask names fields of a flow; a cleared spec, an unknown field or a wrong spec is refused."""
    await flows.create(flow())
    for document, mask, reason in (
        ({}, "spec", Reason.FLOW_INVALID),
        ({}, "id", Reason.ARGUMENT_INVALID),
        ({"titel": "x"}, "", Reason.FLOW_INVALID),
        ({"spec": {"steps": []}}, "", Reason.FLOW_INVALID),
        ([], "", Reason.FLOW_INVALID),
    ):
        error = await refusal(flows.update("orders", document, update_mask=mask))
        assert (type(error), error.reason) == (InvalidArgument, reason)
    assert (await flows.get("orders"))["version"] == 1


async def test_a_flow_is_renamed_in_place(flows):
    """The name belongs to the flow, not to its versions."""
    made = await flows.create(flow())
    await flows.create(flow("bills"))
    renamed = await flows.update("orders", {"name": "purchases"})
    assert (renamed["id"], renamed["name"], renamed["version"]) == (made["id"], "purchases", 1)
    assert isinstance(await refusal(flows.get("orders")), NotFound)
    taken = await refusal(flows.update("purchases", {"name": "bills"}))
    assert (type(taken), taken.reason) == (AlreadyExists, Reason.FLOW_NAME_TAKEN)


async def test_a_deleted_flow_is_gone_and_its_versions_stay_for_its_runs(flows):
    """Deleting twice is NOT_FOUND; a run that began with a version can still be read."""
    made = await flows.create(flow())
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id=made["id"]))
    assert isinstance(await refusal(flows.get(made["id"])), NotFound)
    again = flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id=made["id"]))
    assert isinstance(await refusal(again), NotFound)
    assert (await flows.cache.get(made["id"], 1)).digest == made["digest"]


async def test_changes_at_the_same_time_are_all_kept(flows):
    """Each is worked out on the version that the one before it made."""
    await flows.create(flow(description="0", ui={}))
    changes = [flows.update("orders", {"description": "1"}), flows.update("orders", {"ui": {"a": 1}})]
    await asyncio.gather(*changes)
    now = await flows.get("orders")
    assert (now["description"], now["ui"], now["version"]) == ("1", {"a": 1}, 3)
