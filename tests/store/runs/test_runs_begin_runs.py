"""Sub-flows and error flows over the real stores: begun once, waited for, told, through kills."""

import asyncio

import grpc
import psycopg
import pytest

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.orchestrator import metrics, resting
from reflux.orchestrator.children import Children
from reflux.orchestrator.store.start import Starter
from tests.store.runs.speaking import say
from tests.support.scripted_mesh import claim

PURE = {"node": "work.pure"}
DEAF = """
    CREATE FUNCTION deaf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER deaf BEFORE INSERT ON orchestrator.inbox FOR EACH ROW EXECUTE FUNCTION deaf();
"""


async def children_of(dsn, run_id):
    """The runs that there are beside one, oldest first, with their states."""
    async with await psycopg.AsyncConnection.connect(dsn) as database:
        rows = await database.execute(
            "SELECT id::text, state FROM orchestrator.runs WHERE id <> %s ORDER BY id", (run_id,)
        )
        return await rows.fetchall()


async def every_word_is_heard(dsn):
    """Wait until none is left."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database, asyncio.timeout(20):
        while True:
            rows = await database.execute("SELECT count(*) FROM orchestrator.inbox")
            if await rows.fetchone() == (0,):
                return
            await asyncio.sleep(0.05)


async def test_a_child_is_a_run_and_its_output_comes_up(begin, mesh, database_dsn):
    """In the same shard, with the version it began with; both show each other."""

    async def double(given, envelope, context):
        return {"double": 2 * given["n"]}

    mesh.script = double
    async with begin() as client:
        inner = {"id": "work", **PURE, "with": {"n": "{{ input.n }}"}}
        await client.save("inner", inner, output="{{ steps.work.output.double }}")
        flow = await client.save(
            "outer",
            {"id": "sub", "flow": "inner@1", "with": {"n": "{{ input.n }}"}},
            {"id": "s", "set": {"got": "{{ steps.sub.output }}"}},
        )
        run = await client.start(flow, {"n": 21}, wait="20s")
        step = (await client.steps(run["id"]))["sub"]
        child = await client.run(step["child_run_id"])
        await every_word_is_heard(database_dsn)

    assert (run["state"], run["output"]) == ("SUCCEEDED", {"got": 42})
    assert (step["action"], step["input"], step["output"]) == ("flow", {"n": 21}, 42)
    assert child["parent"] == {"run_id": run["id"], "step": "sub"}
    assert (child["flow_name"], child["flow_version"], child["output"]) == ("inner", 1, 42)


async def test_a_waiting_parent_leaves_memory_and_the_word_brings_it_back(begin, mesh):
    """It costs nothing while its child works, and goes on as soon as that has finished."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(given, envelope, context):
        reached.set()
        await go.wait()
        return {}

    mesh.script = wait
    async with begin() as client:
        await client.save("inner", {"id": "work", **PURE})
        run = await client.start(await client.save("outer", {"id": "sub", "flow": "inner"}))
        await asyncio.wait_for(reached.wait(), 10)
        async with asyncio.timeout(10):
            while metrics.RUNS_LOADED.series() != {(): 1}:
                await asyncio.sleep(0.02)
        step = (await client.steps(run["id"]))["sub"]
        waiting = (await client.run(run["id"]))["waiting"]
        go.set()
        final = await client.until(run["id"], "SUCCEEDED", seconds=5)
        events = await client.events(run["id"])

    assert waiting["why"] == f"step sub: waits for run {step['child_run_id']}"
    assert final["state"] == "SUCCEEDED"
    assert "RunRecovered" not in {event["kind"] for event in events}


async def test_a_detached_child_goes_on_alone(begin, mesh):
    """Its id is the output of the step, and the run does not wait for it."""
    go = asyncio.Event()

    async def wait(given, envelope, context):
        await go.wait()
        return {}

    mesh.script = wait
    async with begin() as client:
        await client.save("inner", {"id": "work", **PURE})
        flow = await client.save("outer", {"id": "sub", "flow": "inner", "wait": "detached"})
        run = await client.start(flow, wait="10s")
        child = await client.run(run["output"]["run_id"])
        go.set()
        await client.until(child["id"], "SUCCEEDED")

    assert (run["state"], child["state"]) == ("SUCCEEDED", "RUNNING")


@pytest.mark.parametrize(
    ("step", "reason", "code"),
    [
        ({"flow": "nobody"}, "FLOW_NOT_FOUND", "NOT_FOUND"),
        ({"flow": "inner@7"}, "FLOW_VERSION_NOT_FOUND", "NOT_FOUND"),
        ({"flow": "inner", "with": {"n": "x"}}, "INPUT_INVALID", "INVALID_ARGUMENT"),
    ],
)
async def test_a_child_that_cannot_begin_fails_the_step_with_the_reason(begin, mesh, step, reason, code):
    """At once, and as a typed error that a catch can take."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    async with begin() as client:
        await client.save("inner", {"id": "s", "set": {"n": 1}}, input=schema)
        run = await client.start(await client.save("outer", {"id": "sub", **step}), wait="10s")

    assert run["state"] == "FAILED"
    assert (run["error"]["reason"], run["error"]["code"], run["error"]["step"]) == (reason, code, "sub")


async def test_an_error_comes_up_and_a_cancel_goes_down(begin, mesh):
    """Two levels: the failure names the way to the step; the cancel ends all three runs."""
    reached = asyncio.Event()

    async def hang(given, envelope, context):
        reached.set()
        await asyncio.sleep(60)

    mesh.script = hang
    async with begin() as client:
        await client.save(
            "low",
            {
                "id": "c",
                "if": {
                    "when": "{{ input.fail }}",
                    "then": [{"id": "bad", "fail": {"message": "no", "code": "NOT_FOUND"}}],
                },
            },
            {"id": "w", **PURE},
        )
        give = {"with": {"fail": "{{ input.fail }}"}}
        await client.save("middle", {"id": "m", "flow": "low", **give})
        top = await client.save("top", {"id": "t", "flow": "middle", **give})
        failed = await client.start(top, {"fail": True}, wait="20s")
        run = await client.start(top, {"fail": False})
        await asyncio.wait_for(reached.wait(), 10)
        await client.cancel(run["id"])
        final = await client.until(run["id"], "CANCELED")
        middle = await client.run((await client.steps(run["id"]))["t"]["child_run_id"])
        low = await client.run((await client.steps(middle["id"]))["m"]["child_run_id"])

    assert (failed["error"]["code"], failed["error"]["step"]) == ("NOT_FOUND", "t/m/bad")
    assert (final["state"], middle["state"], low["state"]) == ("CANCELED",) * 3


async def lost(given, envelope, context):
    """Claims its effect, and nobody hears what became of it."""
    await claim(envelope)
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")


async def child_of(client, run_id, step):
    """The run that a step has begun, once it says so."""
    async with asyncio.timeout(20):
        while not (child := (await client.steps(run_id)).get(step, {}).get("child_run_id")):
            await asyncio.sleep(0.02)
    return child


async def parked_child(client, mesh, **timeout):
    """A run, its child, and the child of that, in which a step is PARKED."""
    mesh.script = lost
    await client.save("pay", {"id": "charge", "node": "work.once"})
    await client.save("order", {"id": "paying", "flow": "pay"})
    top = await client.save("top", {"id": "t", "flow": "order", **timeout})
    run = await client.start(top)
    middle = await child_of(client, run["id"], "t")
    low = await child_of(client, middle, "paying")
    await client.until(low, "PARKED")
    return run["id"], middle, low


async def test_a_time_that_is_over_does_not_decide_about_an_effect(begin, mesh):
    """The step fails with TIMEOUT only when a person has said what became of it, two runs below."""
    async with begin() as client:
        run, middle, low = await parked_child(client, mesh, timeout={"total": "2s"})
        await client.until(middle, "CANCELING")
        await asyncio.sleep(0.5)
        waits = [(await client.run(each))["state"] for each in (run, middle, low)]
        unresolved = (await client.run(low))["unresolved_effects"]
        await say(client, "CompleteStep", low, "charge", choice="confirm")
        ended = await client.until(run, "FAILED", "SUCCEEDED")
        ends = [await client.run(each) for each in (middle, low)]
        charge = (await client.steps(low))["charge"]

    assert (waits, unresolved) == (["RUNNING", "CANCELING", "PARKED"], ["charge"])
    assert (ended["state"], ended["error"]["reason"]) == ("FAILED", "TIMEOUT")
    assert [(each["state"], each["unresolved_effects"]) for each in ends] == [("CANCELED", [])] * 2
    assert charge["state"] == "SUCCEEDED"


async def test_a_cancel_ends_a_child_that_waits_for_a_person(begin, mesh):
    """It is what a person wants: the effect of which nobody knows is listed."""
    async with begin() as client:
        run, middle, low = await parked_child(client, mesh, timeout={"total": "2s"})
        await client.until(middle, "CANCELING")
        await client.cancel(run)
        ends = [await client.until(each, "CANCELED") for each in (run, middle, low)]

    assert ends[2]["unresolved_effects"] == ["charge"]


@pytest.mark.parametrize("state", ["CANCELED", "SUCCEEDED"])
async def test_a_terminated_run_leaves_no_child_behind(begin, mesh, database_dsn, monkeypatch, state):
    """Not even one whose start was in flight just then; only what was to go on alone does."""
    wait = {"wait": "detached"} if state == "SUCCEEDED" else {}
    durable, go = asyncio.Event(), asyncio.Event()
    start = Starter.start

    async def slowly(starter, request):
        started = await start(starter, request)
        if request.flow_name == "inner":
            durable.set()
            await go.wait()
        return started

    monkeypatch.setattr(Starter, "start", slowly)
    async with begin() as client:
        await client.save("inner", {"id": "work", **PURE})
        run = await client.start(await client.save("outer", {"id": "sub", "flow": "inner", **wait}))
        await asyncio.wait_for(durable.wait(), 10)
        await say(client, "TerminateRun", run["id"])
        before = mesh.count("work")
        go.set()
        [(child, _)] = await children_of(database_dsn, run["id"])
        ended = await client.until(child, "CANCELED", "SUCCEEDED", "FAILED")
        events = [event["kind"] for event in await client.events(run["id"])]
        await every_word_is_heard(database_dsn)

    assert (before, ended["state"]) == (0, state)
    assert mesh.count("work") == (state == "SUCCEEDED")
    assert events[-1] == "RunFinished"


async def test_a_child_is_begun_once_whatever_crashes(processes, mesh, database_dsn):
    """Killed again and again while runs begin runs: one child each, and every output comes up."""
    loop = {
        "id": "all",
        "foreach": {"in": "{{ input.items }}", "as": "it", "parallel": 5},
        "steps": [{"id": "sub", "flow": "inner", "with": {"n": "{{ it }}"}}],
    }

    async def slowly(given, envelope, context):
        await asyncio.sleep(0.05)
        return given["n"]

    mesh.script = slowly
    items = [*range(40)]
    client = await processes.serving("a")
    await client.save("inner", {"id": "work", **PURE, "with": {"n": "{{ input.n }}"}})
    run = await client.start(await client.save("outer", loop), {"items": items})
    for seconds in (0.4, 2.7, 3.1):
        await asyncio.sleep(seconds)
        processes.kill("a")
        await processes.serving("a")
    final = await client.until(run["id"], "SUCCEEDED", "FAILED", "PARKED", seconds=120)
    events = await client.all_events(run["id"])

    assert final["output"] == items
    began = [event["step"] for event in events if event["kind"] == "ChildRequested"]
    assert sorted(began) == sorted(f"all[{n}]/sub" for n in items)
    children = await children_of(database_dsn, run["id"])
    assert [state for _, state in children] == ["SUCCEEDED"] * len(items)


async def test_a_failed_run_starts_its_error_flow_once(begin, mesh, database_dsn):
    """It gets the run, the error and the input; its own failure starts nothing."""
    heard = []

    async def hear(given, envelope, context):
        heard.append(given)
        return {}

    mesh.script = hear
    async with begin() as client:
        tell = {"id": "tell", **PURE, "with": {"all": "{{ input }}"}}
        await client.save(
            "tell",
            tell,
            {"id": "bad", "fail": {"message": "again"}},
            policies={"on_failure": {"flow": "tell"}},
        )
        bad = {"id": "bad", "fail": {"message": "no"}}
        flow = await client.save("fails", bad, policies={"on_failure": {"flow": "tell"}})
        run = await client.start(flow, {"n": 1}, wait="10s")
        told = await client.until(run["failure_run_id"], "FAILED")

    assert run["state"] == "FAILED"
    (only,) = heard
    assert only["all"]["run_id"] == run["id"]
    assert only["all"]["flow"] == {"name": "fails", "version": 1}
    assert (only["all"]["error"]["message"], only["all"]["input"]) == ("no", {"n": 1})
    assert told["parent"] == {"run_id": run["id"], "step": ""}
    assert [run_id for run_id, _ in await children_of(database_dsn, run["id"])] == [told["id"]]


async def test_a_run_whose_error_flow_is_gone_says_so(begin, mesh):
    """In its own document: nobody reads the journal of a run for what did not happen."""
    async with begin() as client:
        bad = {"id": "bad", "fail": {"message": "no"}}
        told = await client.save("tell", {"id": "a", "set": {}})
        flow = await client.save("fails", bad, policies={"on_failure": {"flow": "tell"}})
        heard = await client.start(flow, wait="10s")
        await FlowServiceStub(client.channel).DeleteFlow(flow_pb.DeleteFlowRequest(flow_id=told))
        run = await client.start(flow, wait="10s")

    assert (bool(heard["failure_run_id"]), heard["failure_run_error"]) == (True, None)
    assert (run["state"], run["error"]["message"], run["failure_run_id"]) == ("FAILED", "no", "")
    assert run["failure_run_error"]["reason"] == "FLOW_NOT_FOUND"
    assert "tell" in run["failure_run_error"]["message"]


async def test_a_parent_that_heard_no_word_looks_again(begin, mesh, database_dsn):
    """What waits for a word alone has a time in its row, far ahead; then it looks what its child does."""
    go = asyncio.Event()

    async def wait(given, envelope, context):
        await go.wait()
        return {"n": 1}

    mesh.script = wait
    async with begin() as client:
        await client.save("inner", {"id": "work", **PURE})
        run = await client.start(await client.save("outer", {"id": "sub", "flow": "inner"}))
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as database:
            ask = "SELECT wake_at - now() FROM orchestrator.runs WHERE id = %s"
            async with asyncio.timeout(10):
                while (left := (await (await database.execute(ask, (run["id"],))).fetchone())[0]) is None or (
                    left < resting.LOOK_AGAIN / 2
                ):
                    await asyncio.sleep(0.05)
            child = (await client.steps(run["id"]))["sub"]["child_run_id"]
            await database.execute(DEAF)
            go.set()
            await client.until(child, "SUCCEEDED")
            still = await client.run(run["id"])
            await database.execute("DROP TRIGGER deaf ON orchestrator.inbox")
            await database.execute("UPDATE orchestrator.runs SET wake_at = now() WHERE id = %s", (run["id"],))
            final = await client.until(run["id"], "SUCCEEDED")

    assert left <= resting.LOOK_AGAIN
    assert (still["state"], final["output"]) == ("RUNNING", {"n": 1})


@pytest.mark.parametrize("meanwhile", ["limited", "deleted"])
async def test_a_child_that_had_begun_is_found_whatever_has_become_of_its_flow(begin, monkeypatch, meanwhile):
    """Its owner died before it could say so: the heir finds the child, also where it could begin none now."""
    inner = {"id": "w", "wait": {"signal": "go"}}
    one = {"concurrency": {"limit": 1, "overflow": "reject"}} if meanwhile == "limited" else {}
    async with begin() as client:
        with monkeypatch.context() as crashed:
            crashed.setattr(Children, "_settle", lambda *_: None)
            flow = await client.save("inner", inner, policies=one)
            run = await client.start(await client.save("outer", {"id": "sub", "flow": "inner"}))
            async with asyncio.timeout(10):
                while len(listed := (await client.runs.ListRuns(run_pb.ListRunsRequest())).runs) < 2:
                    await asyncio.sleep(0.05)
            if meanwhile == "deleted":
                stub = FlowServiceStub(client.channel)
                await stub.DeleteFlow(flow_pb.DeleteFlowRequest(flow_id=flow))
    (child,) = (each.id for each in listed if each.id != run["id"])
    async with begin() as client:
        async with asyncio.timeout(20):
            while (await client.run(run["id"]))["state"] == "RUNNING":
                kinds = [event["kind"] for event in await client.events(run["id"])]
                if "ChildStarted" in kinds:
                    break
                await asyncio.sleep(0.05)
        step = (await client.steps(run["id"]))["sub"]
        assert (step["state"], step["child_run_id"]) == ("RUNNING", child), step
        await say(client, "SignalRun", child, name="go", payload=7)
        final = await client.until(run["id"], "SUCCEEDED")
    assert final["output"] == 7


async def test_a_terminate_reaches_a_child_of_which_the_parent_has_not_heard(begin, monkeypatch):
    """It was durable, and nobody had said so yet: it is cancelled too, and no event follows the end."""
    async with begin() as client:
        monkeypatch.setattr(Children, "_settle", lambda *_: None)
        await client.save("inner", {"id": "w", "wait": {"signal": "go"}})
        run = await client.start(await client.save("outer", {"id": "sub", "flow": "inner"}))
        async with asyncio.timeout(10):
            while len(listed := (await client.runs.ListRuns(run_pb.ListRunsRequest())).runs) < 2:
                await asyncio.sleep(0.05)
        (child,) = (each.id for each in listed if each.id != run["id"])
        ended = await say(client, "TerminateRun", run["id"])
        final = await client.until(child, "CANCELED")
        kinds = [event["kind"] for event in await client.events(run["id"])]
    assert (ended["state"], final["state"]) == ("CANCELED", "CANCELED")
    assert kinds[-1] == "RunFinished"
