"""One operation with every run that matches a filter: counted first, refused if more match than expected."""

import asyncio

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.runtime import rpc
from tests.support.operations import bulk, retry
from tests.support.scripted_mesh import claim

PURE = {"node": "work.pure"}
STEP = {"id": "a", **PURE, "with": {"n": "{{ input.n }}"}}


class Nodes:
    """Fail as long as they are ill; hold what is to be held."""

    def __init__(self) -> None:
        self.ill = True
        self.held = asyncio.Event()

    async def __call__(self, given, envelope, context):
        if envelope["x-reflux-step"] == "hold":
            await self.held.wait()
        if self.ill and given.get("n", 0) % 2:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is odd")
        return {}


@pytest.fixture
def nodes(mesh) -> Nodes:
    """The nodes of the mesh."""
    mesh.script = Nodes()
    return mesh.script


async def refused(call) -> grpc.aio.AioRpcError:
    """What a call was refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return rpc.to_error(error.value)


async def test_failed_runs_are_retried_together(begin, mesh, nodes):
    """Those of the filter and no others, page by page; with the same request_id none of them twice."""
    async with begin() as client:
        flow = await client.save("odd", STEP)
        await client.save("other", STEP)
        runs = [await client.start(flow, {"n": n}, wait="10s") for n in range(8)]
        await client.start("other", {"n": 1}, wait="10s")
        nodes.ill = False
        which = {"flow_id": "odd"}
        counted = await bulk(client, "retry", which, dry_run=True)
        how = {"expected_count": counted["matched"], "limit": 3, "request_id": "again"}
        first = await bulk(client, "retry", which, **how)
        second = await bulk(client, "retry", which, **how, page_token=first["next_page_token"])
        repeated = await bulk(client, "retry", which, **how)
        made = [one for page in (first, second) for one in page["runs"]]
        ends = [await client.until(one["new_run_id"], "SUCCEEDED", "FAILED") for one in made]

    failed = [run["id"] for run in runs if run["state"] == "FAILED"]
    assert counted == {
        "matched": 4,
        "handled": 0,
        "outcomes": [],
        "runs": [
            {"run_id": run_id, "reason": "", "new_run_id": "", "state": "FAILED"} for run_id in failed[::-1]
        ],
        "next_page_token": "",
    }
    assert [one["run_id"] for one in made] == failed[::-1]
    assert first["outcomes"] == [{"reason": "DONE", "count": 3, "message": "", "run_id": failed[3]}]
    assert (second["handled"], second["next_page_token"]) == (1, "")
    assert {end["state"] for end in ends} == {"SUCCEEDED"}
    assert {end["origin"]["run_id"] for end in ends} == set(failed)
    assert repeated["outcomes"][0]["reason"] == "UNCHANGED"
    assert [one["new_run_id"] for one in repeated["runs"]] == [one["new_run_id"] for one in first["runs"]]


@pytest.mark.parametrize("how", [("retry", {}), ("fork", {"from_step": "a"})])
async def test_the_same_request_again_does_nothing_new(begin, mesh, nodes, how):
    """What it made matches its filter too, and so does what others began since: both are left alone."""
    operation, arguments = how
    async with begin() as client:
        flow = await client.save("ill", STEP)
        failed = [await client.start(flow, {"n": 1}, wait="10s") for _ in range(3)]
        which = {"flow_id": "ill", "states": ["FAILED"]}
        asked = {"expected_count": 100, "arguments": arguments, "request_id": "same-one"}
        first = await bulk(client, operation, which, **asked)
        made = [one["new_run_id"] for one in first["runs"]]
        for run_id in made:
            await client.until(run_id, "FAILED")
        await client.start(flow, {"n": 1}, wait="10s")
        again = [await bulk(client, operation, which, **asked) for _ in range(2)]
        counted = await bulk(client, operation, which, dry_run=True, **asked)

    assert {end["state"] for end in failed} == {"FAILED"}
    for page in again:
        assert page["outcomes"] == [{**first["outcomes"][0], "reason": "UNCHANGED"}]
        assert [one["new_run_id"] for one in page["runs"]] == made
    assert (first["matched"], counted["matched"]) == (3, 7)


async def test_a_request_that_was_refused_does_not_bind_its_handle(begin, mesh, nodes):
    """Nothing was done with it, so it stands for no moment yet."""
    async with begin() as client:
        flow = await client.save("late", STEP)
        which = {"flow_id": "late", "states": ["FAILED"]}
        await client.start(flow, {"n": 1}, wait="10s")
        error = await refused(bulk(client, "retry", which, expected_count=0, request_id="one"))
        await client.start(flow, {"n": 1}, wait="10s")
        done = await bulk(client, "retry", which, expected_count=2, request_id="one")

    assert error.reason is Reason.COUNT_EXCEEDED
    assert done["handled"] == 2


async def test_a_request_id_stands_for_one_operation_with_the_same_runs(begin, mesh, nodes):
    """Anything else under it is refused and does nothing; how many are expected may change."""
    async with begin() as client:
        flow = await client.save("held", {"id": "hold", **PURE}, search_key="{{ input.k }}")
        runs = [await client.start(flow, {"k": key}) for key in ("x", "x", "y")]
        which, how = {"key": "x"}, {"expected_count": 2, "limit": 1, "request_id": "b1"}
        looks = {"arguments": {"reason": "look"}}
        done = await bulk(client, "pause", which, **how, **looks)
        refusals = [
            await refused(bulk(client, "resume", which, **how, **looks)),
            await refused(bulk(client, "terminate", which, **how, **looks)),
            await refused(bulk(client, "pause", which, **how, arguments={"reason": "wait"})),
            await refused(bulk(client, "pause", {"key": "y"}, **how, **looks)),
        ]
        states = [(await client.run(run["id"]))["state"] for run in runs]
        again = await bulk(client, "pause", which, **how | {"expected_count": 9, "limit": 9}, **looks)
        nodes.held.set()

    assert [(one["reason"], one["count"]) for one in done["outcomes"]] == [("DONE", 1)]
    assert {error.reason for error in refusals} == {Reason.REQUEST_ID_REUSED}
    assert refusals[0].metadata == {"request_id": "b1"}
    assert states == ["RUNNING", "PAUSED", "RUNNING"]
    assert (again["matched"], again["handled"]) == (1, 1)


async def test_of_two_operations_at_once_one_has_the_request_id(begin, mesh, nodes):
    """The other one is refused before it has touched a run."""
    async with begin() as client:
        flow = await client.save("both", {"id": "hold", **PURE})
        run = await client.start(flow)
        asked = [
            bulk(client, operation, {"flow_id": "both"}, expected_count=1, request_id="b2")
            for operation in ("pause", "terminate")
        ]
        results = await asyncio.gather(*asked, return_exceptions=True)
        state = (await client.run(run["id"]))["state"]
        nodes.held.set()

    errors = [rpc.to_error(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [error.reason for error in errors] == [Reason.REQUEST_ID_REUSED]
    assert state == ("PAUSED" if isinstance(results[0], dict) else "CANCELED")


async def test_running_runs_are_cancelled_together(begin, mesh, nodes):
    """Each gets the word; a run that has ended meanwhile is not among those that match."""
    async with begin() as client:
        flow = await client.save("held", {"id": "hold", **PURE}, search_key="{{ input.k }}")
        held = [await client.start(flow, {"k": "x"}) for _ in range(3)]
        other = await client.start(flow, {"k": "y"})
        done = await bulk(client, "cancel", {"key": "x"}, expected_count=3, arguments={"reason": "enough"})
        ends = [await client.until(run["id"], "CANCELED") for run in held]
        left = await client.run(other["id"])
        again = await bulk(client, "cancel", {"key": "x"}, expected_count=0)
        events = await client.events(held[0]["id"])
        nodes.held.set()

    assert done["outcomes"][0]["count"] == 3
    assert {end["state"] for end in ends} == {"CANCELED"}
    assert left["state"] == "RUNNING"
    assert again["handled"] == 0
    [cancel] = [event for event in events if event["kind"] == "CancelRequested"]
    assert cancel["data"]["reason"] == "enough"


async def test_runs_are_paused_resumed_and_terminated_together(begin, mesh, nodes):
    """Each word reaches every run in a state in which it means something."""
    async with begin() as client:
        flow = await client.save("words", {"id": "hold", **PURE})
        held = [await client.start(flow) for _ in range(3)]
        which = {"flow_id": "words"}
        paused = await bulk(client, "pause", which, expected_count=3, arguments={"reason": "wait"})
        stand = [(await client.until(run["id"], "PAUSED"))["pause"]["reason"] for run in held]
        resumed = await bulk(client, "resume", which, expected_count=3)
        for run in held:
            await client.until(run["id"], "RUNNING")
        ended = await bulk(client, "terminate", which, expected_count=3)
        ends = [await client.until(run["id"], "CANCELED") for run in held]
        nodes.held.set()

    assert stand == ["wait"] * 3
    for done in (paused, resumed, ended):
        assert [(one["reason"], one["count"]) for one in done["outcomes"]] == [("DONE", 3)]
    assert len(ends) == 3


async def test_runs_that_wait_in_a_queue_are_among_them(begin, mesh, nodes):
    """Who ends everything that a flow does ends what has not begun too: else it would begin now."""
    async with begin() as client:
        one = {"concurrency": {"limit": 1, "overflow": "queue"}}
        flow = await client.save("queue", {"id": "hold", **PURE}, policies=one)
        runs = [await client.start(flow) for _ in range(4)]
        which = {"flow_id": "queue"}
        paused = await bulk(client, "pause", {**which, "states": ["QUEUED"]}, expected_count=3)
        stand = [(await client.until(run["id"], "PAUSED"))["state"] for run in runs[1:]]
        resumed = await bulk(client, "resume", which, expected_count=3)
        for run in runs[1:]:
            await client.until(run["id"], "QUEUED")
        ended = await bulk(client, "cancel", which, expected_count=4)
        for run in runs:
            await client.until(run["id"], "CANCELED")
        begun = [await client.steps(run["id"]) for run in runs[1:]]
        nodes.held.set()

    assert (paused["handled"], stand, resumed["handled"]) == (3, ["PAUSED"] * 3, 3)
    assert [(one["reason"], one["count"]) for one in ended["outcomes"]] == [("DONE", 4)]
    assert [steps["hold"]["attempts"] for steps in begun] == [[]] * 3


async def test_runs_take_together_what_each_takes_alone(begin, mesh, nodes):
    """One that is PARKED is paused, and one that is QUEUED is told of a signal and of a step to leave out."""

    async def vanish(given, envelope, context):
        if envelope["x-reflux-step"] == "pay":
            await claim(envelope)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the provider hung up")
        return await nodes(given, envelope, context)

    one = {"concurrency": {"limit": 1, "overflow": "queue"}}
    wait = {"id": "w", "wait": {"signal": "shipped"}}
    async with begin() as client:
        mesh.script = vanish
        parked = await client.start(await client.save("pays", {"id": "pay", "node": "work.once"}), wait="20s")
        paused = await bulk(client, "pause", {"flow_id": "pays"}, expected_count=1)
        stands = await client.run(parked["id"])
        flow = await client.save("queue", {"id": "hold", **PURE}, wait, {**STEP, "id": "b"}, policies=one)
        runs = [await client.start(flow, {"n": 1}) for _ in range(2)]
        queued = {"flow_id": "queue", "states": ["QUEUED"]}
        skipped = await bulk(client, "skip", queued, expected_count=1, arguments={"step": "b"})
        told = await bulk(client, "signal", queued, expected_count=1, arguments={"name": "shipped"})
        await bulk(client, "terminate", {**queued, "states": ["RUNNING"]}, expected_count=1)
        nodes.held.set()
        final = await client.until(runs[1]["id"], "SUCCEEDED", "FAILED")

    for done in (paused, skipped, told):
        assert [(each["reason"], each["count"]) for each in done["outcomes"]] == [("DONE", 1)]
    assert stands["pause"]["actor"] == "anonymous"
    assert final["state"] == "SUCCEEDED"


async def test_a_step_is_skipped_in_many_runs(begin, mesh, nodes):
    """Where it waits; a run in which it is over refuses, and stops no other."""
    nap = {"id": "nap", "wait": {"for": "1h"}}
    async with begin() as client:
        flow = await client.save("naps", {**nap, "when": "{{ input.nap }}"}, {"id": "hold", **PURE})
        held = [await client.start(flow, {"nap": number < 2}) for number in range(3)]
        async with asyncio.timeout(10):
            while not mesh.count("hold"):
                await asyncio.sleep(0.02)
        how = {"expected_count": 3, "arguments": {"step": "nap", "reason": "awake"}}
        done = await bulk(client, "skip", {"flow_id": "naps"}, **how)
        nodes.held.set()
        ends = [await client.until(run["id"], "SUCCEEDED") for run in held]
        steps = [(await client.steps(run["id"]))["nap"] for run in held]
        said = await client.events(held[0]["id"])

    assert {one["reason"]: one["count"] for one in done["outcomes"]} == {"DONE": 2, "STEP_NOT_WAITING": 1}
    assert [step["skip_reason"] for step in steps] == ["hand", "hand", "when"]
    [overruled] = [event["data"] for event in said if event["kind"] == "StepOverruled"]
    assert (overruled["choice"], overruled["reason"]) == ("skip", "awake")
    assert len(ends) == 3


async def test_a_signal_reaches_many_runs(begin, mesh, nodes):
    """Each takes it for itself, with its payload, and once under one handle."""
    wait = {"id": "ship", "wait": {"signal": "shipped"}}
    async with begin() as client:
        flow = await client.save("ships", wait, {"id": "hold", **PURE}, output="{{ steps.ship.output }}")
        runs = [await client.start(flow) for _ in range(3)]
        deaf = await client.save("deaf", {"id": "hold", **PURE})
        await client.start(deaf)
        how = {"expected_count": 4, "arguments": {"name": "shipped", "payload": {"box": 7}}}
        when = {"created_after": runs[0]["create_time"]}
        done = await bulk(client, "signal", when, request_id="once", **how)
        again = await bulk(client, "signal", when, request_id="once", **how)
        events = await client.events(runs[0]["id"])
        nodes.held.set()
        ends = [await client.until(run["id"], "SUCCEEDED") for run in runs]

    assert {one["reason"]: one["count"] for one in done["outcomes"]} == {"DONE": 3, "SIGNAL_UNKNOWN": 1}
    assert again["outcomes"] == done["outcomes"]
    assert [event["kind"] for event in events].count("SignalReceived") == 1
    assert [end["output"] for end in ends] == [{"box": 7}] * 3


async def test_more_runs_than_expected_are_left_alone(begin, mesh, nodes):
    """The filter is wider than its author thinks: nothing is done, and he is told how many there are."""
    async with begin() as client:
        flow = await client.save("wide", STEP)
        for _ in range(3):
            await client.start(flow, {"n": 1}, wait="10s")
        error = await refused(bulk(client, "retry", {"flow_id": "wide"}, expected_count=2))
        counted = await bulk(client, "retry", {"flow_id": "wide"}, dry_run=True)

    assert error.reason is Reason.COUNT_EXCEEDED
    assert error.metadata["count"] == "3"
    assert counted["matched"] == 3


async def test_what_one_run_refuses_stops_no_other(begin, mesh, nodes):
    """It is counted by its reason, with the words of the first."""
    async with begin() as client:
        flow = await client.save(
            "mixed", STEP, {"id": "b", **PURE, "when": "{{ input.n == 0 }}", "with": {"n": 0}}
        )
        ran = await client.start(flow, {"n": 0}, wait="10s")
        skipped = await client.start(flow, {"n": 2}, wait="10s")
        done = await bulk(
            client, "fork", {"flow_id": "mixed"}, expected_count=9, arguments={"from_step": "b"}
        )

    outcomes = {one["reason"]: one for one in done["outcomes"]}
    assert {reason: one["count"] for reason, one in outcomes.items()} == {"DONE": 1, "STEP_NEVER_RAN": 1}
    assert outcomes["STEP_NEVER_RAN"]["run_id"] == skipped["id"]
    assert "never ran" in outcomes["STEP_NEVER_RAN"]["message"]
    assert outcomes["DONE"]["run_id"] == ran["id"]


@pytest.mark.parametrize(("operation", "arguments"), [("retry", {}), ("fork", {"from_step": "a"})])
async def test_a_run_that_another_one_waits_for_is_not_gone_on_with_beside_it(
    begin, mesh, nodes, operation, arguments
):
    """Else its work would be done twice. One that nobody waits for is, and so is any alone."""
    async with begin() as client:
        await client.save("inner", STEP)
        sub = {"flow": "inner", "with": {"n": 1}}
        flow = await client.save("outer", {"id": "a", **sub})
        detached = await client.save("lets_go", {"id": "b", **sub, "wait": "detached"})
        outer = await client.start(flow, wait="20s")
        other = await client.start(detached, {"n": 0}, wait="20s")
        child = (await client.steps(outer["id"]))["a"]["child_run_id"]
        free = (await client.steps(other["id"]))["b"]["child_run_id"]
        await client.until(free, "FAILED")
        how = {"expected_count": 9, "arguments": arguments}
        done = await bulk(
            client, operation, {"created_after": outer["create_time"], "states": ["FAILED"]}, **how
        )
        alone = await retry(client, child)

    outcomes = {one["reason"]: one for one in done["outcomes"]}
    made = {one["run_id"]: one["reason"] for one in done["runs"]}
    assert made == {outer["id"]: "DONE", child: "RUN_HAS_PARENT", free: "DONE"}
    assert (
        outcomes["RUN_HAS_PARENT"]["message"]
        == f"it is part of run {outer['id']}, whose retry goes on from it"
    )
    assert alone["run"]["origin"]["run_id"] == child


async def test_a_bulk_that_does_not_say_enough_is_refused(begin, mesh, nodes):
    """Which runs, which operation, how many at most: each is needed."""
    async with begin() as client:
        await client.save("one", STEP)
        one = {"flow_id": "one"}
        large = {"name": "a", "payload": "x" * 70_000}
        errors = [
            await refused(bulk(client, "retry", {}, expected_count=1)),
            await refused(bulk(client, "retry", {"states": []}, expected_count=1)),
            await refused(bulk(client, "retry", {"floww_id": "one"}, expected_count=1)),
            await refused(bulk(client, "retri", one, expected_count=1)),
            await refused(bulk(client, "retry", one)),
            await refused(bulk(client, "retry", {**one, "states": ["SUCCEEDED"]}, expected_count=1)),
            await refused(bulk(client, "retry", one, expected_count=1, arguments={"reason": "x"})),
            await refused(bulk(client, "fork", one, expected_count=1)),
            await refused(bulk(client, "skip", one, expected_count=1)),
            await refused(bulk(client, "signal", one, expected_count=1)),
            await refused(bulk(client, "signal", one, expected_count=1, arguments={"name": "not a name"})),
            await refused(bulk(client, "signal", one, expected_count=1, arguments=large)),
            await refused(bulk(client, "retry", {"flow_id": "nothing"}, expected_count=1)),
            await refused(bulk(client, "retry", one, expected_count=1, page_token="x")),
        ]
        unnamed = await refused(bulk(client, None, one, expected_count=1))

    assert [error.reason for error in errors] == [
        Reason.FILTER_MISSING,
        Reason.FILTER_MISSING,
        *[Reason.ARGUMENT_INVALID] * 10,
        Reason.FLOW_NOT_FOUND,
        Reason.PAGE_TOKEN_INVALID,
    ]
    assert "did you mean retry" in errors[3].message
    assert [(one.pointer, one.message) for one in unnamed.violations] == [("/operation", "the bulk needs it")]


async def test_each_wrong_field_of_a_bulk_is_told_once_under_its_own_name(begin, mesh):
    """A count that was given, but is none, is not asked for again; nobody has to know what run_id is."""
    async with begin() as client:
        counted = await refused(bulk(client, "retry", {"key": "a"}, expected_count=-1))
        uncounted = await refused(bulk(client, "retry", {"key": "a"}, expected_count=None))
        both = await refused(bulk(client, "retry", {"origin_run_id": "z"}, expected_count="many"))

    assert [(one.pointer, one.message) for one in counted.violations] == [
        ("/expected_count", "a whole number from 0 to 99999")
    ]
    assert [(one.pointer, one.message[:12]) for one in uncounted.violations] == [
        ("/expected_count", "say how many")
    ]
    assert [(one.pointer, one.message) for one in both.violations] == [
        ("/expected_count", "a whole number from 0 to 99999"),
        ("/filter/origin_run_id", "the id of a run (a UUID)"),
    ]
