"""What goes on from a run is a new run that takes over what was done: the world sees nothing twice."""

import asyncio
import urllib.request
from collections import Counter

import grpc
import pytest

from reflux.core import children
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from tests.support.ledger import running_ledger
from tests.support.operations import fork, replay_step, retry
from tests.support.scripted_mesh import claim

PURE = {"node": "work.pure"}
ONCE = {"node": "work.once"}


@pytest.fixture
def ledger():
    """The outside world."""
    with running_ledger() as ledger:
        yield ledger


def acting(ledger, failing: set[str]):
    """Nodes that claim their effect, have it, and fail before it in the steps named in `failing`."""

    async def act(given, envelope, context):
        step = envelope["x-reflux-step"]
        if step in failing:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        await claim(envelope)
        name = step.replace("/", ".").replace("[", "").replace("]", "")
        await asyncio.to_thread(urllib.request.urlopen, f"{ledger.url}/effect/{name}", b"")
        return {"of": step}

    return act


def effects(ledger) -> Counter[str]:
    """How often each effect happened."""
    return Counter(entry["name"] for entry in ledger.entries())


async def refused(call) -> Reason:
    """Why a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return rpc.to_error(error.value).reason


async def test_what_goes_on_from_a_run_that_heard_of_a_failure_tells_nobody(begin, mesh):
    """A failure is told once, however often somebody retries the run that was told, or forks from it."""
    tells = {"on_failure": {"flow": "tell"}}
    async with begin() as client:
        await client.save("tell", {"id": "bad", "fail": {"message": "again"}}, policies=tells)
        flow = await client.save("fails", {"id": "no", "fail": {"message": "no"}}, policies=tells)
        run = await client.start(flow, wait="10s")
        told = await client.until(run["failure_run_id"], "FAILED")
        made = [
            await retry(client, told["id"]),
            await fork(client, told["id"], "bad"),
            {"run": await replay_step(client, told["id"], "bad")},
        ]
        ends = [await client.until(each["run"]["id"], "FAILED") for each in made]
        anew = await client.until((await retry(client, run["id"]))["run"]["id"], "FAILED")

    assert [end["failure_run_id"] for end in ends] == [told["failure_run_id"]] * 3
    assert anew["failure_run_id"], "a retry that fails again is a failure of its own"


async def test_a_fork_that_a_limit_refuses_leaves_nothing(begin, mesh, session):
    """What it would have taken over goes with it, at once."""
    go = asyncio.Event()

    async def hold(given, envelope, context):
        await go.wait()
        return {}

    policies = {"concurrency": {"limit": 1, "overflow": "reject"}}
    async with begin() as client:
        flow = await client.save("full", {"id": "a", "set": {"v": 1}}, {"id": "b", **PURE}, policies=policies)
        run = await client.start(flow, wait="20s")
        mesh.script = hold
        other = await client.start(flow)
        assert await refused(fork(client, run["id"], "b")) is Reason.CONCURRENCY_LIMIT
        left = await session.execute("SELECT DISTINCT run_id::text FROM journal ORDER BY 1")
        assert {row for (row,) in await left.fetchall()} == {run["id"], other["id"]}
        go.set()
        await client.until(other["id"], "SUCCEEDED")
        forked = await fork(client, run["id"], "b")
        await client.until(forked["run"]["id"], "SUCCEEDED")


async def test_a_fork_stands_as_deep_as_the_run_it_goes_on_from(begin, monkeypatch):
    """Runs below each other end at a depth; forking one of them makes no room for more."""
    monkeypatch.setattr(children, "MAX_DEPTH", 2)
    async with begin() as client:
        flow = await client.save("deep", {"id": "sub", "flow": "deep"})
        run = await client.start(flow, wait="10s")
        inner = (await client.steps(run["id"]))["sub"]["child_run_id"]
        forked = await fork(client, inner, "sub")
        end = await client.until(forked["run"]["id"], "FAILED")

    assert (run["error"]["reason"], run["error"]["step"]) == ("FLOW_DEPTH", "sub/sub/sub")
    assert (end["error"]["reason"], end["error"]["step"]) == ("FLOW_DEPTH", "sub/sub")


async def test_a_retry_repeats_no_effect(begin, mesh, ledger):
    """Of a loop that failed in the middle only what had not succeeded reaches the world again."""
    failing = {"lines[1]/mail"}
    mesh.script = acting(ledger, failing)
    loop = {"id": "lines", "foreach": {"in": "{{ input }}", "as": "n"}}
    steps = [{"id": "charge", **ONCE}, {"id": "mail", **ONCE}]
    async with begin() as client:
        flow = await client.save(
            "orders", {"id": "open", **ONCE}, {**loop, "steps": steps}, {"id": "end", **ONCE}
        )
        run = await client.start(flow, [1, 2, 3], wait="10s")
        assert run["state"] == "FAILED"
        failing.clear()
        forked = await retry(client, run["id"])
        final = await client.until(forked["run"]["id"], "SUCCEEDED", "FAILED")
        steps = await client.steps(final["id"])
        again = await client.run(run["id"])

    names = ["open", *(f"lines{n}.{step}" for n in range(3) for step in ("charge", "mail")), "end"]
    assert final["state"] == "SUCCEEDED"
    assert effects(ledger) == Counter(names)
    assert final["origin"] == {
        "operation": "retry",
        "run_id": run["id"],
        "steps": ["lines[1]/mail"],
        "flow_version": 1,
        "kept": 4,
        "attempt": 2,
    }
    assert steps["lines[0]/charge"]["kept_from"] == run["id"]
    assert steps["lines[1]/mail"]["kept_from"] == ""
    assert again["state"] == "FAILED"


async def test_a_retry_is_one_attempt_more_at_the_whole_run(begin, mesh):
    """Expressions see which one it is, as whoever looks at the run does; a fork begins to count anew."""
    seen = []

    async def fail_twice(given, envelope, context):
        seen.append(given["attempt"])
        if given["attempt"] < 3:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not yet")
        return {}

    mesh.script = fail_twice
    async with begin() as client:
        step = {"id": "a", "node": "work.pure", "with": {"attempt": "{{ run.attempt }}"}}
        first = await client.start(await client.save("tried", step), wait="10s")
        second = await client.until((await retry(client, first["id"]))["run"]["id"], "FAILED")
        third = await client.until((await retry(client, second["id"]))["run"]["id"], "SUCCEEDED")
        other = await client.until((await fork(client, third["id"], "a"))["run"]["id"], "FAILED")
    assert seen == [1, 2, 3, 1]
    assert [run["origin"]["attempt"] for run in (second, third, other)] == [2, 3, 1]


async def test_a_fork_that_was_promised_goes_on_without_its_orchestrator(begin, mesh, ledger):
    """What was kept is durable before the run exists, so whoever takes it over repeats nothing either."""
    reached, hold = asyncio.Event(), asyncio.Event()
    act = acting(ledger, set())

    async def act_slowly(given, envelope, context):
        if envelope["x-reflux-step"] == "b" and reached.is_set() and not hold.is_set():
            hold.set()
            await asyncio.sleep(60)
        return await act(given, envelope, context)

    mesh.script = act_slowly
    async with begin() as client:
        run = await client.start(
            await client.save("taken", {"id": "a", **ONCE}, {"id": "b", **ONCE}), wait="10s"
        )
        reached.set()
        forked = await fork(client, run["id"], "b")
        await hold.wait()
    async with begin() as client:
        final = await client.until(forked["run"]["id"], "SUCCEEDED", "FAILED", "PARKED")
        events = [(event["kind"], event["step"]) for event in await client.events(final["id"])]

    assert final["state"] == "SUCCEEDED"
    assert effects(ledger) == Counter({"a": 1, "b": 2})
    assert events[:3] == [("RunCreated", ""), ("OutcomeKept", "a"), ("StepSettled", "a")]


async def test_a_fork_takes_another_flow_version_and_input(begin, mesh):
    """The newest version goes on; what is kept stays, and says that it was defined in another way."""
    mesh.script = None
    async with begin() as client:
        old = [{"id": "a", **PURE, "with": {"v": 1}}, {"id": "b", **PURE}]
        flow = await client.save("versions", *old)
        run = await client.start(flow, {"n": 1}, wait="10s")
        new = [{"id": "a", **PURE, "with": {"v": 2}}, {"id": "b", **PURE, "with": {"n": "{{ input.n }}"}}]
        await client.replace("versions", *new)
        given = []

        async def show(value, envelope, context):
            given.append((envelope["x-reflux-step"], value))
            return {}

        mesh.script = show
        same = await fork(client, run["id"], "b", dry_run=True)
        plan = await fork(client, run["id"], "b", flow_version="newest", dry_run=True)
        forked = await fork(client, run["id"], "b", flow_version=2, input={"n": 9})
        final = await client.until(forked["run"]["id"], "SUCCEEDED")

    assert same["run"] is None
    assert [(one["step"], one["changed"]) for one in same["plan"]["kept"]] == [("a", False)]
    assert [(one["step"], one["changed"]) for one in plan["plan"]["kept"]] == [("a", True)]
    assert plan["plan"]["anew"] == [
        {"step": "b", "why": "from", "state": "SUCCEEDED", "repeats_effect": False}
    ]
    assert (final["flow_version"], final["input"]) == (2, {"n": 9})
    assert given == [("b", {"n": 9})]


async def test_a_fork_may_call_another_node_version(begin, mesh):
    """The pin is part of the journal, shown with the run, and obeyed in every attempt."""
    async with begin() as client:
        flow = await client.save("pins", {"id": "a", **PURE}, {"id": "b", **PURE})
        run = await client.start(flow, wait="10s")
        forked = await fork(client, run["id"], "b", versions={"b": "1.0.0"})
        final = await client.until(forked["run"]["id"], "SUCCEEDED")
        unknown = await refused(fork(client, run["id"], "b", versions={"b": "1.0.1"}))
        misspelt = await refused(fork(client, run["id"], "b", versions={"bb": "1.0.0"}))

    assert final["versions"] == {"b": "1.0.0"}
    assert mesh.calls[-1]["x-reflux-version"] == "1.0.0"
    assert unknown is Reason.NODE_VERSION_NOT_FOUND
    assert misspelt is Reason.STEP_NOT_FOUND


async def test_the_same_request_id_forks_once(begin, mesh):
    """Asked again it answers with the same run; for something else it is refused."""
    async with begin() as client:
        run = await client.start(await client.save("once", {"id": "a", **PURE}), wait="10s")
        first = await fork(client, run["id"], "a", request_id="f1")
        second = await fork(client, run["id"], "a", request_id="f1")
        other = await refused(fork(client, run["id"], "a", request_id="f1", input={"n": 1}))

    assert first["run"]["id"] == second["run"]["id"]
    assert second["plan"] is None
    assert other is Reason.REQUEST_ID_REUSED


async def test_bad_forks_are_refused(begin, mesh):
    """Each with its own reason, and without a trace."""
    mesh.script = None
    async with begin() as client:
        flow = await client.save(
            "bad", {"id": "a", **PURE}, {"id": "b", **PURE, "when": "{{ false }}"}, {"id": "c", **PURE}
        )
        run = await client.start(flow, wait="10s")
        nowhere = "0197a000-0000-7000-8000-000000000001"
        reasons = [
            await refused(fork(client, run["id"], "b")),
            await refused(fork(client, run["id"], "d")),
            await refused(fork(client, run["id"], "")),
            await refused(fork(client, run["id"], "a", flow_version=9)),
            await refused(fork(client, run["id"], "a", flow_version="old")),
            await refused(fork(client, run["id"], "a", from_stp="a")),
            await refused(fork(client, nowhere, "a")),
            await refused(fork(client, "x", "a")),
            await refused(retry(client, run["id"])),
        ]

    assert reasons == [
        Reason.STEP_NEVER_RAN,
        Reason.STEP_NOT_FOUND,
        Reason.ARGUMENT_INVALID,
        Reason.FLOW_VERSION_NOT_FOUND,
        Reason.ARGUMENT_INVALID,
        Reason.ARGUMENT_INVALID,
        Reason.RUN_NOT_FOUND,
        Reason.ARGUMENT_INVALID,
        Reason.RUN_NOT_FAILED,
    ]


async def test_large_outcomes_are_kept_in_several_statements(begin, mesh, database_dsn):
    """Far more than one statement carries arrives whole and in order."""

    async def large(given, envelope, context):
        return {"step": envelope["x-reflux-step"], "x": "y" * 900_000}

    mesh.script = large
    steps = [{"id": f"s{number}", **PURE} for number in range(12)]
    async with begin() as client:
        run = await client.start(await client.save("large", *steps), wait="30s")
        forked = await fork(client, run["id"], "s11")
        await client.until(forked["run"]["id"], "SUCCEEDED")
        events = await client.all_events(forked["run"]["id"])

    assert forked["plan"]["kept_count"] == 11
    assert [event["data"]["output"]["step"] for event in events[1:12]] == [f"s{n}" for n in range(11)]
    assert mesh.count("s10") == 1
