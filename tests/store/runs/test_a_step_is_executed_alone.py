"""One step of a flow, in a run of its own: with an input, a context, or what it saw in another run."""

import asyncio

import grpc
import pytest

from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from tests.support.operations import execute_step, replay_step, retry

PURE = {"node": "work.pure"}
STEPS = (
    {"id": "open", **PURE},
    {
        "id": "lines",
        "foreach": {"in": "{{ input.lines }}", "as": "line"},
        "steps": [{"id": "price", **PURE, "when": "{{ false }}", "with": {"n": "{{ line }}"}}],
    },
    {"id": "sum", "set": {"of": "{{ steps.open.output.step }}", "n": "{{ size(input.lines) }}"}},
    {"id": "end", **PURE, "with": {"o": "{{ steps.open.output.step }}"}, "needs": ["sum"]},
)


async def echo(given, envelope, context):
    """Says which step it was, and what it was given."""
    return {"step": envelope["x-reflux-step"], "given": given}


async def refused(call) -> Reason:
    """Why a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return rpc.to_error(error.value).reason


async def test_a_step_of_a_flow_is_executed_with_an_input(begin, mesh):
    """Nothing else of the flow is done, and the input is data: nothing in it is evaluated."""
    mesh.script = echo
    async with begin() as client:
        flow = await client.save("alone", *STEPS)
        run = await execute_step(client, "alone", "end", input={"o": "{{ 1 + 1 }}"})
        steps = await client.steps(run["id"])

    assert run["state"] == "SUCCEEDED"
    assert run["flow_id"] == flow
    assert run["output"] == {"step": "end", "given": {"o": "{{ 1 + 1 }}"}}
    assert run["origin"]["operation"] == "execute_step"
    assert run["origin"]["steps"] == ["end"]
    assert list(steps) == ["end"]
    assert len(mesh.calls) == 1


async def test_a_step_of_a_flow_is_executed_with_a_context(begin, mesh):
    """Its expressions see what they are given; its `when` does not count, and what is inside comes along."""
    mesh.script = echo
    async with begin() as client:
        await client.save("context", *STEPS)
        context = {"input": {"lines": [1, 2]}, "steps": {"open": {"output": {"step": "by hand"}}}}
        end = await execute_step(client, "context", "end", context=context)
        total = await execute_step(client, "context", "sum", context=context)
        price = await execute_step(client, "context", "price", context={"line": 7, "index": 3})
        lines = await execute_step(client, "context", "lines", context={"input": {"lines": [5]}})

    assert end["output"]["given"] == {"o": "by hand"}
    assert total["output"] == {"of": "by hand", "n": 2}
    assert price["output"]["given"] == {"n": 7}
    assert lines["output"] == [None]


async def test_a_step_of_a_run_is_executed_with_what_it_saw(begin, mesh):
    """Again and again, in runs of their own; the run itself stays as it is."""
    mesh.script = echo
    async with begin() as client:
        flow = await client.save("recorded", *STEPS)
        run = await client.start(flow, {"lines": [4, 5]}, wait="10s")
        end = await replay_step(client, run["id"], "end")
        total = await replay_step(client, run["id"], "sum")
        price = await replay_step(client, run["id"], "lines[1]/price")
        same = await replay_step(client, run["id"], "price", path="lines[1]/price")
        pinned = await replay_step(client, run["id"], "end", input={"o": 1}, node_version="1.0.0")
        after = await client.run(run["id"])

    assert end["output"]["given"] == {"o": "open"}
    assert end["input"] == {"lines": [4, 5]}
    assert end["origin"] == {
        "operation": "execute_step",
        "run_id": run["id"],
        "steps": ["end"],
        "flow_version": 1,
        "kept": 0,
        "attempt": 1,
    }
    assert total["output"] == {"of": "open", "n": 2}
    assert price["output"] == same["output"] == {"step": "price", "given": {"n": 5}}
    assert pinned["versions"] == {"end": "1.0.0"}
    assert after == run


async def test_a_step_that_was_kept_with_its_container_is_executed_from_the_run_that_did_it(begin, mesh):
    """The run that keeps it has not come to it, and says which one has."""
    mesh.script = echo
    box = {"id": "box", "if": {"when": "{{ true }}", "then": [{"id": "x", "node": "work.pure"}]}}
    async with begin() as client:
        flow = await client.save("boxed", box, {"id": "z", "fail": {"message": "no"}})
        run = await client.start(flow, wait="10s")
        again = await client.until((await retry(client, run["id"]))["run"]["id"], "FAILED")
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await replay_step(client, again["id"], "x")
        done = await client.until((await replay_step(client, run["id"], "x"))["id"], "SUCCEEDED")

    assert f"keeps step x from run {run['id']}: execute it from that run" in str(told.value.details())
    assert done["origin"]["run_id"] == run["id"]


async def test_a_step_alone_survives_its_orchestrator(begin, mesh):
    """What it is given is part of its journal, so whoever takes it over walks the same one step."""
    reached = asyncio.Event()

    async def hang_once(given, envelope, context):
        if not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return {"given": given}

    mesh.script = hang_once
    async with begin() as client:
        await client.save("survives", *STEPS)
        started = asyncio.create_task(execute_step(client, "survives", "end", input={"o": 8}, request_id="r"))
        await reached.wait()
        started.cancel()
    async with begin() as client:
        run = await execute_step(client, "survives", "end", input={"o": 8}, request_id="r")

    assert run["state"] == "SUCCEEDED"
    assert run["output"] == {"given": {"o": 8}}
    assert mesh.count("end") == 2


async def test_what_cannot_be_executed_is_refused(begin, mesh):
    """Each with its own reason."""
    mesh.script = echo
    async with begin() as client:
        flow = await client.save(
            "refuses",
            *STEPS,
            {"id": "i", "if": {"when": "{{ true }}", "then": [], "else": [{"id": "e", **PURE}]}},
        )
        run = await client.start(flow, {"lines": []}, wait="10s")
        reasons = [
            await refused(execute_step(client, "refuses", "ned")),
            await refused(execute_step(client, "nothing", "end")),
            await refused(execute_step(client, "refuses", "sum", input={})),
            await refused(execute_step(client, "refuses", "end", input={}, context={})),
            await refused(execute_step(client, "refuses", "end", context={"line": 1})),
            await refused(execute_step(client, "refuses", "end", context={"steps": {"opne": {}}})),
            await refused(execute_step(client, "refuses", "end", input={}, node_version="7")),
            await refused(execute_step(client, "refuses", "end", flow_version=7)),
            await refused(replay_step(client, run["id"], "e")),
            await refused(replay_step(client, run["id"], "lines[0]/price")),
            await refused(replay_step(client, run["id"], "end", path="lines[0]/price")),
        ]

    assert reasons == [
        Reason.STEP_NOT_FOUND,
        Reason.FLOW_NOT_FOUND,
        Reason.ARGUMENT_INVALID,
        Reason.ARGUMENT_INVALID,
        Reason.ARGUMENT_INVALID,
        Reason.STEP_NOT_FOUND,
        Reason.NODE_VERSION_NOT_FOUND,
        Reason.FLOW_VERSION_NOT_FOUND,
        Reason.STEP_NEVER_RAN,
        Reason.STEP_NOT_FOUND,
        Reason.ARGUMENT_INVALID,
    ]


async def test_what_a_flow_says_of_its_runs_is_not_said_of_a_step_alone(begin, mesh):
    """Its output, who hears of its failures, its limits: there is no whole run to work them out of."""
    mesh.script = echo
    async with begin() as client:
        await client.save("tell", {"id": "a", **PURE})
        await client.save(
            "whole",
            {"id": "first", **PURE},
            {"id": "end", **PURE, "with": {"shop": "{{ input.shop }}"}},
            {"id": "bad", "fail": {"message": "no"}},
            output="{{ steps.first.output }}",
            policies={
                "concurrency": {"key": "{{ input.shop }}", "limit": 1, "overflow": "reject"},
                "on_failure": {"flow": "tell"},
            },
        )
        end = await execute_step(client, "whole", "end", input={"shop": "s"})
        bad = await execute_step(client, "whole", "bad", context={})
        listed = (await client.runs.ListRuns(run_pb.ListRunsRequest())).runs
    assert (end["state"], end["output"]) == ("SUCCEEDED", {"step": "end", "given": {"shop": "s"}})
    assert (bad["state"], bad["failure_run_id"]) == ("FAILED", "")
    assert {run.id for run in listed} == {end["id"], bad["id"]}
