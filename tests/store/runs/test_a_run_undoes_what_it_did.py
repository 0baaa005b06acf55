"""Compensation over the real stores: each step that was done is undone once, through a kill -9."""

import asyncio

import grpc

from tests.support.scripted_mesh import claim

BAD = {"id": "bad", "fail": {"message": "sold out"}}


def pay(step):
    """A step with an effect, and what undoes it; both may be asked for again with their keys."""
    undo = {"node": "work.once", "effect": "idempotent", "with": {"step": step, "why": "{{ error.reason }}"}}
    return {
        "id": step,
        "node": "work.once",
        "effect": "idempotent",
        "with": {"step": step},
        "compensate": undo,
    }


class World:
    """The ledger: what was done, by the key it was done with."""

    def __init__(self):
        self.effects = {}
        self.inputs = {}

    async def __call__(self, given, envelope, context):
        await claim(envelope, scope="account")
        step = envelope["x-reflux-step"]
        self.effects.setdefault(envelope["x-reflux-idempotency-key"], step)
        self.inputs[step] = given
        return {}


async def test_a_failed_run_undoes_everything_in_reverse(begin, mesh):
    """What people see: the compensations as steps of the run, none left over."""
    mesh.script = world = World()
    async with begin() as client:
        run = await client.start(await client.save("saga", pay("a"), pay("b"), BAD), wait="20s")
        steps = await client.steps(run["id"])

    assert (run["state"], run["error"]["reason"], run["uncompensated"]) == ("FAILED", "FAIL_STEP", [])
    assert [*world.effects.values()] == ["a", "b", "b~compensate", "a~compensate"]
    assert world.inputs["a~compensate"] == {"step": "a", "why": "FAIL_STEP"}
    undo = steps["a~compensate"]
    assert (undo["compensates"], undo["node"], undo["state"]) == ("a", "work.once", "SUCCEEDED")
    assert undo["attempts"][0]["effect"] == "idempotent"


async def test_a_cancelled_run_undoes_what_it_did(begin, mesh):
    """CANCELED is shown when everything is undone, and not before."""
    mesh.script = world = World()
    async with begin() as client:
        flow = await client.save("cancelled", pay("a"), {"id": "nap", "wait": {"for": "1h"}})
        run = await client.start(flow)
        async with asyncio.timeout(10):
            while (await client.steps(run["id"]))["nap"]["state"] != "RUNNING":
                await asyncio.sleep(0.02)
        await client.cancel(run["id"])
        final = await client.until(run["id"], "CANCELED")

    assert [*world.effects.values()] == ["a", "a~compensate"]
    assert world.inputs["a~compensate"]["why"] == "RUN_CANCELED"
    assert final["uncompensated"] == []


async def test_a_compensation_that_fails_is_shown(begin, mesh):
    """The run ends FAILED for its own reason, and says what is not undone."""

    async def refuse(given, envelope, context):
        if "~" in envelope["x-reflux-step"]:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing to undo")
        await claim(envelope, scope="account")
        return {}

    mesh.script = refuse
    async with begin() as client:
        run = await client.start(await client.save("refused", pay("a"), BAD), wait="20s")

    assert (run["state"], run["error"]["reason"], run["uncompensated"]) == ("FAILED", "FAIL_STEP", ["a"])


async def test_each_effect_is_undone_once_through_a_kill_of_the_orchestrator(processes, mesh):
    """Killed at every compensation, before and after its effect: one effect per key, and nothing left."""
    steps = [f"s{n}" for n in range(4)]
    world, reached, killed = World(), asyncio.Event(), set()

    async def act(given, envelope, context):
        step = envelope["x-reflux-step"]
        early = step in ("s3~compensate", "s1~compensate")
        if "~" in step and step not in killed:
            killed.add(step)
            if not early:
                await world(given, envelope, context)
            reached.set()
            await asyncio.sleep(60)
        return await world(given, envelope, context)

    mesh.script = act
    client = await processes.serving("a")
    run = await client.start(await client.save("killed", *map(pay, steps), BAD))
    for _ in steps:
        await asyncio.wait_for(reached.wait(), 30)
        processes.kill("a")
        reached.clear()
        await processes.serving("a")
    final = await client.until(run["id"], "FAILED", "PARKED", seconds=30)

    assert (final["state"], final["uncompensated"]) == ("FAILED", [])
    undone = [f"{step}~compensate" for step in reversed(steps)]
    assert [*world.effects.values()] == [*steps, *undone]
    assert killed == set(undone)
