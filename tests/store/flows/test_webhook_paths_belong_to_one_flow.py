"""The rows of triggers follow the current versions of flows, whatever is done to a flow."""

from __future__ import annotations

import asyncio

import pytest

from reflux.api.flow.v1 import flow_service_pb2 as pb
from reflux.core.errors import AlreadyExists, InvalidArgument, RefluxError
from reflux.core.flow import compile_flow
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.store import TriggerStore, replace_triggers
from reflux.runtime.postgres import load_sql
from tests.store.flows.conftest import refusal


def hooked(name: str, *paths: str, value: int = 1, **hook: object):
    """A flow with a trigger for each path, which is the trigger's id too."""
    triggers = [{"id": path, "type": "webhook", "path": path, **hook} for path in paths]
    spec = {"triggers": triggers, "steps": [{"id": "a", "set": {"value": value}}]}
    return {"name": name, "spec": spec}


async def rows(flows):
    """Every trigger as (flow's name, id, method, path, version)."""
    page = await TriggerStore(flows.pool).page(None, ("", ""), 1000)
    return [(row.flow_name, row.id, row.method, row.path, row.flow_version) for row in page]


async def test_a_trigger_comes_changes_and_goes_with_its_flow(flows):
    """Create, replace, rename, update, roll back, delete: the rows are what the current version says."""
    await flows.create(hooked("one", "a", "b"))
    assert await rows(flows) == [("one", "a", "POST", "a", 1), ("one", "b", "POST", "b", 1)]
    await flows.replace("one", hooked("one", "b", "c", method="PUT"))
    assert await rows(flows) == [("one", "b", "PUT", "b", 2), ("one", "c", "PUT", "c", 2)]
    await flows.update("one", {"name": "uno"})
    assert await rows(flows) == [("uno", "b", "PUT", "b", 2), ("uno", "c", "PUT", "c", 2)]
    await flows.update("uno", {"description": "Said."})
    assert [row[-1] for row in await rows(flows)] == [3, 3]
    await flows.call("RollbackFlow", pb.RollbackFlowRequest(flow_id="uno", version=1))
    assert await rows(flows) == [("uno", "a", "POST", "a", 4), ("uno", "b", "POST", "b", 4)]
    await flows.update("uno", {"spec": {"steps": [{"id": "a", "set": {}}]}})
    assert await rows(flows) == []
    await flows.call("RollbackFlow", pb.RollbackFlowRequest(flow_id="uno", version=1))
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="uno"))
    assert await rows(flows) == []


async def test_a_trigger_keeps_the_time_it_came(flows):
    """Across versions, and although its path changes."""
    made = await flows.create(hooked("one", "a"))
    store = TriggerStore(flows.pool)
    before = await store.get(made["id"], "a")
    document = hooked("one", "a", "b")
    document["spec"]["triggers"][0]["path"] = "elsewhere"
    await flows.replace("one", document)
    after = await store.get(made["id"], "a")
    assert (after.path, after.created_at) == ("elsewhere", before.created_at)


async def test_two_triggers_of_a_flow_may_change_places(flows):
    """Nobody else had the paths meanwhile."""
    await flows.create(hooked("one", "a", "b"))
    document = hooked("one", "a", "b")
    document["spec"]["triggers"][0]["path"], document["spec"]["triggers"][1]["path"] = "b", "a"
    await flows.replace("one", document)
    assert [(row[1], row[3]) for row in await rows(flows)] == [("a", "b"), ("b", "a")]


async def test_a_taken_path_is_refused_and_names_its_owner(flows):
    """However the flow would come to it; and nothing of the flow is saved then."""
    owner = await flows.create(hooked("owner", "orders"))
    other = await flows.create(hooked("other", "elsewhere"))
    free = await flows.create(hooked("free", "orders", method="PUT"))
    attempts = [
        flows.create(hooked("third", "x", "orders")),
        flows.replace("other", hooked("other", "orders")),
        flows.update("free", {"spec": hooked("free", "orders")["spec"]}),
    ]
    for attempt in attempts:
        error = await refusal(attempt)
        assert isinstance(error, AlreadyExists)
        assert error.reason is Reason.WEBHOOK_PATH_TAKEN
        assert error.metadata == {
            "method": "POST",
            "path": "orders",
            "flow_id": owner["id"],
            "flow_name": "owner",
            "trigger_id": "orders",
        }
        assert "POST /hooks/orders belongs to" in error.message
    assert await flows.get("other") == other
    assert await flows.get("free") == free
    assert len(await rows(flows)) == 3


async def test_a_rollback_cannot_take_a_path_back(flows):
    """Somebody else has it by now."""
    await flows.create(hooked("one", "orders"))
    await flows.replace("one", hooked("one", "elsewhere"))
    await flows.create(hooked("two", "orders"))
    rollback = pb.RollbackFlowRequest(flow_id="one", version=1)
    error = await refusal(flows.call("RollbackFlow", rollback))
    assert (error.reason, error.metadata["flow_name"]) == (Reason.WEBHOOK_PATH_TAKEN, "two")
    assert (await flows.get("one"))["version"] == 2


async def test_a_path_is_free_when_its_flow_lets_go_of_it(flows):
    """By another version, or by being deleted."""
    await flows.create(hooked("one", "orders"))
    await flows.replace("one", hooked("one", "elsewhere"))
    await flows.create(hooked("two", "orders"))
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="two"))
    await flows.create(hooked("three", "orders"))


async def test_what_was_saved_while_the_flow_was_deleted_goes_too(flows):
    """Deleting waits for who is saving, and takes along what that has saved."""
    made = await flows.create(hooked("one", "a"))
    compiled = compile_flow(hooked("one", "b")).flow
    values = {"flow_id": made["id"], "name": "one", "seen_name": "one", "seen_version": 1, "author": "x"}
    content = {"digest": "d", "description": "", "spec": b"{}", "ui": b"{}"}
    async with flows.pool.connection() as saver:
        async with saver.transaction():
            await saver.execute(load_sql("reflux.orchestrator.flows", "save_version"), values | content)
            await replace_triggers(saver, made["id"], 2, compiled.triggers)
            deleting = asyncio.ensure_future(flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="one")))
            await blocked(flows, saver)
        await deleting
    assert await rows(flows) == []
    await flows.create(hooked("heir", "b"))


async def test_a_deleted_flow_owns_nothing(flows):
    """Whatever is left of it: nobody is told to change a flow that is not there."""
    made = await flows.create(hooked("one", "a"))
    async with flows.pool.connection() as connection:
        await connection.execute(
            "UPDATE flows SET deleted_at = clock_timestamp() WHERE id = %(id)s", {"id": made["id"]}
        )
    assert await TriggerStore(flows.pool).owners([("POST", "a")]) == []


async def blocked(flows, holder):
    """Returns once somebody waits for what `holder` has locked."""
    query = "SELECT 1 FROM pg_stat_activity WHERE %(pid)s = ANY(pg_blocking_pids(pid))"
    async with asyncio.timeout(30), flows.pool.connection() as connection:
        while await (await connection.execute(query, {"pid": holder.info.backend_pid})).fetchone() is None:
            await asyncio.sleep(0.01)


async def test_of_many_who_want_a_path_at_once_one_gets_it(flows):
    """In whatever order they name two of them: no deadlock, one winner."""
    paths = [("a", "b"), ("b", "a")]
    documents = [hooked(f"flow-{n}", *paths[n % 2]) for n in range(10)]
    answers = await asyncio.gather(*map(flows.create, documents), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) == 9
    assert all(isinstance(e, RefluxError) and e.reason is Reason.WEBHOOK_PATH_TAKEN for e in refused)
    assert len({row[0] for row in await rows(flows)}) == 1


async def test_a_taken_name_is_still_a_taken_name(flows):
    """Of two things that are taken, each has its own reason."""
    await flows.create(hooked("one", "a"))
    assert (await refusal(flows.create(hooked("one", "b")))).reason is Reason.FLOW_NAME_TAKEN


async def test_plan_tells_taken_paths_and_missing_secrets(flows):
    """All at once, at their places; a flow's own paths are not taken from it."""
    await flows.create(hooked("owner", "orders"))
    signed = {"auth": "hmac", "secret": {"env": "KEY"}}
    draft = hooked("draft", "free", "orders", **signed)
    planned = await flows.plan(draft)
    assert not planned.valid
    assert [(problem.code, problem.pointer) for problem in planned.problems] == [
        ("SECRET_MISSING", "/spec/triggers/0/secret/env"),
        ("PATH_TAKEN", "/spec/triggers/1/path"),
        ("SECRET_MISSING", "/spec/triggers/1/secret/env"),
    ]
    assert all(problem.hint for problem in planned.problems)
    flows.secrets["KEY"] = "whsec_a2V5"
    assert (await flows.plan(hooked("draft", "free", **signed))).valid
    assert (await flows.plan(flow_id="owner")).valid
    assert (await flows.plan(hooked("owner", "orders", value=2))).valid
    assert (await flows.plan(hooked("renamed", "orders"), flow_id="owner")).valid


async def test_a_flow_with_a_missing_secret_may_be_saved(flows):
    """The secret may come later, as nodes may."""
    await flows.create(hooked("one", "a", auth="hmac", secret={"env": "LATER"}))


async def test_a_step_of_the_older_spelling_is_saved_as_a_trigger(flows):
    """And has a row as any other one; planning it looks at the right steps."""
    step = {"id": "hook", "node": "webhook.trigger", "with": {"path": "older"}}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    flows.mesh.add("work", "1.0.0", schema=schema)
    work = {"id": "a", "node": "work@1.0.0", "with": {"n": "text"}}
    planned = await flows.plan({"name": "older", "spec": {"steps": [step, work]}})
    assert [problem.pointer for problem in planned.problems] == ["/spec/steps/1/with/n"]
    made = await flows.create({"name": "older", "spec": {"steps": [step, work]}})
    assert made["spec"]["triggers"] == [{"id": "hook", "type": "webhook", "path": "older"}]
    assert [row[3] for row in await rows(flows)] == ["older"]


@pytest.mark.parametrize("path", ["Orders", "a//b", "../x", ""])
async def test_a_path_that_is_none_is_never_saved(flows, path):
    """What the gateway could not find again."""
    document = hooked("bad", "a")
    document["spec"]["triggers"][0]["path"] = path
    assert isinstance(await refusal(flows.create(document)), InvalidArgument)
