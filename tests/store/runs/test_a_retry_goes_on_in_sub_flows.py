"""A retry mends what failed in the runs below it too: what they had done well is not done again."""

import asyncio

import grpc
import pytest

from reflux.core.reasons import Reason
from reflux.orchestrator.store.start import Starter
from tests.store.runs.speaking import say
from tests.support.operations import fork, retry
from tests.support.scripted_mesh import claim

ONCE = {"node": "work.once"}


class World:
    """Nodes whose effects are counted, and that fail, or are silent, in the steps that are named."""

    def __init__(self):
        self.done: list[str] = []
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.gives = lambda step: {"of": step}

    async def __call__(self, given, envelope, context):
        step = envelope["x-reflux-step"]
        if step in self.failing:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        await claim(envelope)
        self.done.append(step)
        if step in self.silent:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the line is dead")
        return self.gives(step)


@pytest.fixture
def world(mesh):
    mesh.script = world = World()
    return world


async def save(client, *, compensate=None):
    """`outer` begins `middle`, and that `inner`: what pays stands at the bottom; the id of `outer`."""
    undo = {"compensate": compensate} if compensate else {}
    await client.save("inner", {"id": "pay", **ONCE, **undo}, {"id": "late", **ONCE})
    await client.save("middle", {"id": "before", **ONCE}, {"id": "sub", "flow": "inner"})
    return await client.save("outer", {"id": "c", "flow": "middle"}, {"id": "after", **ONCE})


def anew(answer):
    """What the plan of a retry says of each step that is done anew."""
    return {each["step"]: each["repeats_effect"] for each in answer["plan"]["anew"]}


async def test_only_what_failed_is_done_again_however_deep(begin, world):
    """The new runs say what they go on from, and what they keep; the dry run that no effect is repeated."""
    world.failing = {"late"}
    async with begin() as client:
        run = await client.start(await save(client), wait="20s")
        planned = await retry(client, run["id"], dry_run=True)
        forked = await fork(client, run["id"], "c", dry_run=True)
        world.failing = set()
        again = await client.until((await retry(client, run["id"]))["run"]["id"], "SUCCEEDED")
        step = (await client.steps(again["id"]))["c"]
        child = await client.run(step["child_run_id"])
        steps = await client.steps(child["id"])
        former = (await client.steps(run["id"]))["c"]["child_run_id"]

    assert (run["state"], run["error"]["step"]) == ("FAILED", "c/sub/late")
    assert anew(planned) == {"c": False}
    assert anew(forked) == {"c": True}, "a fork does all of it again"
    assert world.done == ["before", "pay", "late", "after"]
    assert (child["origin"]["operation"], child["origin"]["run_id"]) == ("retry", former)
    assert child["parent"] == {"run_id": again["id"], "step": "c"}
    assert (steps["before"]["kept_from"], steps["sub"]["kept_from"]) == (former, "")


async def test_a_child_that_ended_well_is_not_done_again_for_what_was_made_of_it(begin, world):
    """The step failed over its `result`; its run is kept whole."""
    async with begin() as client:
        await client.save("inner", {"id": "pay", **ONCE}, output={"n": "{{ input.?n }}"})
        flow = await client.save("outer", {"id": "c", "flow": "inner", "result": "{{ self.output.n + 1 }}"})
        run = await client.start(flow, wait="20s")
        await client.replace("outer", {"id": "c", "flow": "inner", "result": "{{ self.output.n ?? 7 }}"})
        answer = await retry(client, run["id"], flow_version="newest")
        again = await client.until(answer["run"]["id"], "SUCCEEDED")
        step = (await client.steps(again["id"]))["c"]

    assert run["error"]["reason"] == Reason.EXPRESSION_FAILED.value
    assert anew(answer) == {"c": False}
    assert world.done == ["pay"]
    assert step["output"] == 7


async def test_a_child_keeps_its_version_unless_its_step_names_another_one(begin, world):
    """So what is kept stands where it stood."""
    world.failing = {"late"}
    async with begin() as client:
        flow = await save(client)
        run = await client.start(flow, wait="20s")
        changed = [{"id": "before", **ONCE}, {"id": "sub", "flow": "inner"}, {"id": "other", **ONCE}]
        await client.replace("middle", *changed)
        world.failing = set()
        first = await client.until((await retry(client, run["id"]))["run"]["id"], "SUCCEEDED")
        version = (await client.run((await client.steps(first["id"]))["c"]["child_run_id"]))["flow_version"]
        done = list(world.done)
        await client.replace("outer", {"id": "c", "flow": "middle@2"}, {"id": "after", **ONCE})
        answer = await retry(client, run["id"], flow_version="newest")
        await client.until(answer["run"]["id"], "SUCCEEDED")

    assert (version, done) == (1, ["before", "pay", "late", "after"])
    assert world.done[len(done) :] == ["late", "other", "after"]


async def test_what_nobody_knows_below_a_run_is_its_own_and_is_not_repeated_unasked(begin, world):
    """It stands in `unresolved_effects` with the path to it, also of a run that was ended at once."""
    world.silent = {"pay"}
    async with begin() as client:
        flow = await save(client)
        run = await client.start(flow)
        child = await parked(client, run["id"], "c", "sub")
        middle = (await client.steps(run["id"]))["c"]["child_run_id"]
        waiting = await client.run(middle)
        steps = await client.steps(middle)
        await say(client, "CancelRun", run["id"])
        ended = await client.until(run["id"], "CANCELED")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await retry(client, run["id"])
        other = await client.start(flow)
        await parked(client, other["id"], "c", "sub")
        await say(client, "TerminateRun", other["id"])
        terminated = await client.until(other["id"], "CANCELED")

    assert world.done == ["before", "pay"] * 2
    assert ended["unresolved_effects"] == ["c/sub/pay"]
    assert terminated["unresolved_effects"] == ["c"]
    assert child["id"] in str(refused.value.details())
    assert "nobody knows" in str(refused.value.details())
    why = f"waits for run {child['id']}, which is PARKED: it waits for a person"
    assert waiting["waiting"]["why"] == f"step sub: {why}"
    assert steps["sub"]["waiting"]["why"] == why


async def test_what_could_not_be_undone_below_a_run_is_told(begin, world):
    """It stands in `uncompensated`, with the path to it."""
    world.failing = {"late", "pay~compensate"}
    async with begin() as client:
        run = await client.start(await save(client, compensate=ONCE), wait="20s")
    assert (run["state"], run["uncompensated"]) == ("FAILED", ["c/sub/pay"])


async def test_what_the_origin_has_not_undone_is_told_by_who_goes_on_from_it(begin, world):
    """Unless that ends well, by what was kept."""
    world.failing = {"late", "pay~compensate"}
    async with begin() as client:
        steps = {"id": "pay", **ONCE, "compensate": ONCE}, {"id": "late", **ONCE}
        run = await client.start(await client.save("one", *steps), wait="20s")
        second = await client.until((await retry(client, run["id"]))["run"]["id"], "FAILED")
        third = await client.until((await retry(client, second["id"]))["run"]["id"], "FAILED")
        world.failing = set()
        last = await client.until((await retry(client, third["id"]))["run"]["id"], "SUCCEEDED")

    assert [each["uncompensated"] for each in (run, second, third, last)] == [["pay"]] * 3 + [[]]
    assert world.done == ["pay", "late"]


async def test_a_retry_of_a_retry_goes_on_from_the_run_of_the_first(begin, world):
    """The one between was refused its run by a limit, and another one was cancelled in a queue."""
    world.failing = {"late"}
    hold = {"id": "hold", "when": "{{ input.?hold ?? false }}", "wait": {"signal": "go", "timeout": "1h"}}
    limits = {"limit": 1, "key": "{{ input.?key ?? 'one' }}"}
    async with begin() as client:
        steps = hold, {"id": "pay", **ONCE}, {"id": "late", **ONCE}
        inner = await client.save("inner", *steps, policies={"concurrency": {**limits, "overflow": "reject"}})
        policies = {"concurrency": {**limits, "overflow": "queue"}}
        flow = await client.save("outer", hold, {"id": "c", "flow": "inner"}, policies=policies)
        run = await client.start(flow, wait="20s")
        for holder in (flow, inner):
            held = await client.start(holder, {"hold": True, "key": "one"})
            between = (await retry(client, run["id"]))["run"]
            if holder == flow:
                await say(client, "CancelRun", between["id"])
            run = await client.until(between["id"], "CANCELED", "FAILED")
            await say(client, "CancelRun", held["id"])
            await client.until(held["id"], "CANCELED")
        planned = await retry(client, run["id"], dry_run=True)
        world.failing = set()
        await client.until((await retry(client, run["id"]))["run"]["id"], "SUCCEEDED")

    assert run["error"]["reason"] == Reason.CONCURRENCY_LIMIT.value
    assert anew(planned) == {"c": False}
    assert world.done == ["pay", "late"]


async def test_a_child_does_not_go_on_from_one_that_stands_on_what_was_undone(begin, world):
    """The list before the loop is made anew, and the work is that of its new items."""
    world.failing, lists = {"late"}, iter((["a", "b"], ["c", "b"]))
    world.gives = lambda step: {"items": next(lists)} if step == "list" else {"of": step}
    called = {"id": "c", "flow": "inner", "with": {"item": "{{ it }}"}}
    lines = {"id": "lines", "foreach": {"in": "{{ steps.list.output.items }}", "as": "it"}, "steps": [called]}
    async with begin() as client:
        await client.save("inner", {"id": "pay", **ONCE}, {"id": "late", **ONCE})
        flow = await client.save("outer", {"id": "list", **ONCE, "compensate": ONCE}, lines)
        run = await client.start(flow, wait="20s")
        planned = await retry(client, run["id"], dry_run=True)
        world.failing, done = set(), list(world.done)
        again = await client.until((await retry(client, run["id"]))["run"]["id"], "SUCCEEDED")

    assert done == ["list", "pay", "list~compensate"]
    assert anew(planned)["lines[0]/c"], "it pays again"
    assert again["origin"]["steps"] == ["list"]
    assert world.done[len(done) :] == ["list", "pay", "late", "pay", "late"]


async def test_a_child_goes_on_only_with_what_it_was_given(begin, world):
    """In another version the loop has other items: what was done for one is not taken for another."""
    world.failing = {"late"}
    called = {"id": "c", "flow": "inner", "with": {"item": "{{ it }}", "who": "{{ run.id }}"}}
    loop = {"id": "lines", "steps": [called]}
    async with begin() as client:
        await client.save("inner", {"id": "pay", **ONCE}, {"id": "late", **ONCE})
        flow = await client.save("outer", {**loop, "foreach": {"in": ["a", "b"], "as": "it"}})
        run = await client.start(flow, wait="20s")
        await client.replace("outer", {**loop, "foreach": {"in": ["a", "x"], "as": "it"}})
        same = await retry(client, run["id"], flow_version="newest", dry_run=True)
        await client.replace("outer", {**loop, "foreach": {"in": ["x"], "as": "it"}})
        world.failing = set()
        other = await retry(client, run["id"], flow_version="newest")
        await client.until(other["run"]["id"], "SUCCEEDED")

    assert (anew(same), anew(other)) == ({"lines[0]/c": False}, {"lines[0]/c": True})
    assert world.done == ["pay", "pay", "late"]


async def test_with_another_input_the_plan_does_not_count_on_the_former_run(begin, world):
    """The step is given something else then, and begins from nothing; the fork says that this acts again."""
    world.failing = {"late"}
    hold = {"id": "hold", "when": "{{ input.?hold ?? false }}", "wait": {"signal": "go", "timeout": "1h"}}
    called = {"id": "c", "needs": [], "flow": "inner", "with": {"n": "{{ input.n }}"}}
    async with begin() as client:
        policies = {"concurrency": {"limit": 1, "key": "{{ input.?key ?? 'one' }}", "overflow": "reject"}}
        steps = hold, {"id": "pay", **ONCE}, {"id": "late", **ONCE}
        inner = await client.save("inner", *steps, policies=policies)
        flow = await client.save("outer", {"id": "beside", "needs": [], **ONCE}, called)
        run = await client.start(flow, {"n": 1}, wait="20s")
        held = await client.start(inner, {"hold": True})
        between = await client.until((await retry(client, run["id"]))["run"]["id"], "FAILED")
        await say(client, "CancelRun", held["id"])
        await client.until(held["id"], "CANCELED")
        same = await fork(client, between["id"], "beside", dry_run=True)
        other = await fork(client, between["id"], "beside", input={"n": 2})
        await client.until(other["run"]["id"], "FAILED")

    assert (anew(same)["c"], anew(other)["c"]) == (False, True)
    assert world.done.count("pay") == 2


async def test_a_child_that_goes_on_is_begun_once_though_its_start_is_tried_again(begin, world, monkeypatch):
    """What it keeps is written by each try, and stands once."""
    world.failing, tries = {"late"}, []
    real = Starter.start

    async def start(self, request):
        tries.append(request.run_id)
        if len(tries) == 2:  # of the run itself, and then of its child
            raise TimeoutError
        return await real(self, request)

    async with begin() as client:
        run = await client.start(await save(client), wait="20s")
        world.failing = set()
        monkeypatch.setattr(Starter, "start", start)
        await client.until((await retry(client, run["id"]))["run"]["id"], "SUCCEEDED")
    assert len(tries) == len(set(tries)) + 1
    assert world.done == ["before", "pay", "late", "after"]


async def parked(client, run_id, *steps):
    """The run that is PARKED at the end of these steps."""
    for step in steps:
        async with asyncio.timeout(20):
            while not (child := (await client.steps(run_id)).get(step, {}).get("child_run_id")):
                await asyncio.sleep(0.05)
        run_id = child
    return await client.until(run_id, "PARKED")
