"""Loops and waits over the real stores: iterations are taken up where they were, a wait costs no memory."""

import asyncio

PURE = {"node": "work.pure"}


async def test_a_foreach_goes_on_with_the_items_that_have_no_outcome(begin, mesh):
    """The orchestrator goes in the middle: what is recorded is not done again; the list keeps its order."""
    reached = asyncio.Event()

    async def hang_at_seven(given, envelope, context):
        if given["n"] == 7 and not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return {"double": 2 * given["n"]}

    mesh.script = hang_at_seven
    loop = {
        "id": "each",
        "foreach": {"in": "{{ input.numbers }}", "as": "n", "parallel": 3},
        "steps": [{"id": "one", **PURE, "with": {"n": "{{ n }}"}}],
        "result": "{{ steps.one.output.double }}",
    }
    async with begin() as client:
        flow = await client.save("loops", loop)
        run = await client.start(flow, {"numbers": [*range(20)]})
        await reached.wait()
    async with begin() as client:
        final = await client.until(run["id"], "SUCCEEDED")
        events = await client.events(run["id"])

    assert final["output"] == [2 * n for n in range(20)]
    finished = [event for event in events if event["kind"] == "AttemptFinished"]
    done = [event["step"] for event in finished if event["data"]["outcome"] == "DONE"]
    assert sorted(done) == sorted(f"each[{n}]/one" for n in range(20))
    assert mesh.count("each[7]/one") == 2


async def test_a_wait_leaves_memory_and_comes_back(begin, mesh, database_dsn):
    """A run that waits for longer than a moment is a row; its time brings it back, in anybody's hands."""
    nap = {"id": "nap", "wait": {"for": "4s"}}
    async with begin() as client:
        run = await client.start(await client.save("naps", nap, {"id": "after", **PURE}))
        async with asyncio.timeout(10):
            while (waiting := (await client.steps(run["id"]))["nap"]["waiting"])["until"] is None:
                await asyncio.sleep(0.02)
        assert waiting["why"] == "waits for its time"
    assert mesh.count("after") == 0
    async with begin() as client:
        await client.until(run["id"], "SUCCEEDED")

    assert mesh.count("after") == 1


async def test_coming_back_from_a_wait_is_no_recovery(begin, mesh):
    """Read again in the same hands as planned: a recovery would count towards quarantine."""
    naps = {
        "id": "naps",
        "while": {"when": "{{ index < 2 }}", "max": 2, "steps": [{"id": "nap", "wait": {"for": "3s"}}]},
    }
    async with begin() as client:
        run = await client.start(await client.save("naps-twice", naps))
        await client.until(run["id"], "SUCCEEDED")
        events = await client.events(run["id"])
    assert "RunRecovered" not in {event["kind"] for event in events}
