"""What a run or a node has no room for is said clearly, and stops nobody else."""

import grpc
import psycopg
import pytest
from grpc_status import rpc_status

from reflux.core import mapping
from reflux.core.reasons import Reason
from reflux.runtime import rpc

PURE = {"node": "work.pure"}


async def test_a_full_node_costs_a_step_nothing_but_patience(begin, mesh):
    """NODE_FULL means that nothing was done: the step is sent again, though it asks for no retry."""

    async def full_twice(given, envelope, context):
        if envelope["x-reflux-attempt"] in ("1", "2"):
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            status = rpc.make_status(code, "full", reason=Reason.NODE_FULL, metadata={})
            await context.abort_with_status(rpc_status.to_status(status))
        return {}

    mesh.script = full_twice
    async with begin() as client:
        run = await client.start(await client.save("crowd", {"id": "a", **PURE}), wait="20s")
        attempts = (await client.steps(run["id"]))["a"]["attempts"]

    assert run["state"] == "SUCCEEDED"
    assert [each["outcome"] for each in attempts] == ["NOT_SENT", "NOT_SENT", "DONE"]


@pytest.mark.parametrize("action", [PURE, {"set": {"v": "{{ steps.a.output }}"}}], ids=["node", "set"])
async def test_a_run_may_hold_so_much_and_no_more(begin, mesh, monkeypatch, action):
    """The step whose output is too much fails by name; what a node did is done, and not done again."""
    monkeypatch.setattr(mapping, "MAX_RUN_BYTES", 1500)

    async def wordy(given, envelope, context):
        return {"text": "x" * 1000}

    mesh.script = wordy
    async with begin() as client:
        flow = await client.save("wordy", {"id": "a", **PURE}, {"id": "b", **action})
        run = await client.start(flow, wait="20s")

    assert run["state"] == "FAILED"
    assert (run["error"]["reason"], run["error"]["step"]) == ("OUTPUT_TOO_LARGE", "b")
    assert mesh.count("b") <= 1


async def test_an_expression_of_a_megabyte_is_refused_with_its_place(begin):
    """Before anything is compiled."""
    async with begin() as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.save("endless", {"id": "a", "set": {"v": "{{ 1" + " + 1" * 250_000 + " }}"}})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "/spec/steps/0/set/v" in str(rpc.read(caught.value))


async def test_many_large_outputs_are_shown_in_pages(begin, mesh):
    """Answers are bounded; whoever asks on sees everything, each event once."""

    async def large(given, envelope, context):
        return {"text": "x" * 900_000}

    mesh.script = large
    async with begin() as client:
        steps = [{"id": f"s{n}", **PURE} for n in range(8)]
        run = await client.start(await client.save("large", *steps), wait="20s")
        shown = await client.steps(run["id"])
        events = await client.all_events(run["id"])

    assert run["state"] == "SUCCEEDED"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["kind"] for event in events].count("AttemptFinished") == 8
    assert shown["s0"]["output"] is not None
    assert [step["omitted"] for step in shown.values()].count(True) > 0


async def test_a_damaged_journal_parks_its_run_once_and_can_be_cancelled(begin, mesh, database_dsn):
    """Nobody can fold it, so a person must look; a cancel ends it all the same."""
    async with begin() as client:
        step = {"id": "a", **PURE, "retry": {"attempts": 2, "delay": "1h", "jitter": "none"}}

        async def ill(given, envelope, context):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "ill")

        mesh.script = ill
        run = await client.start(await client.save("damaged", step))
        while (await client.run(run["id"]))["waiting"]["until"] is None:
            pass
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin:
        await admin.execute("UPDATE orchestrator.journal SET payload = '\\xff' WHERE seq = 2")
        await admin.execute("UPDATE orchestrator.runs SET wake_at = now()")
    async with begin() as client:
        parked = await client.row(run["id"], "PARKED")
        with pytest.raises(grpc.aio.AioRpcError):
            await client.cancel(run["id"])
        cancelled = await client.row(run["id"], "CANCELED")

    assert parked["error"]["reason"] == "RUN_BROKEN"
    assert cancelled["state"] == "CANCELED"
