"""A run that takes its orchestrator down, again and again, is put aside; all others go on."""

import asyncio
from datetime import UTC, datetime

import pytest

from bench.waiting import copy_run
from reflux.orchestrator.intake import MAX_RECOVERIES
from reflux.orchestrator.store import runs
from tests.support.orchestrators import balanced
from tests.support.waiting import die, rows, waiting_run

ITEMS = 100
LOOP = {
    "id": "each",
    "foreach": {"in": "{{ input.items }}", "as": "item", "parallel": 1},
    "steps": [{"id": "work", "node": "work.pure"}],
}


async def test_nothing_of_a_shard_is_taken_up_before_its_dead_are_counted(begin, mesh, session, monkeypatch):
    """However long counting takes, no look at what is due is faster: after its last death a run rests."""
    steps = {"id": "pause", "wait": {"for": "4s"}}, {"id": "work", "node": "work.pure"}
    original = await waiting_run(begin, session, *steps)
    await session.execute("DELETE FROM runs WHERE id <> %s", (original,))
    await asyncio.sleep(4.5)  # its time comes
    now = datetime.now(UTC)
    once_more, last = await copy_run(session, original, 2, now=now, wake=now)
    await session.execute("UPDATE runs SET recoveries = %s WHERE id = %s", (MAX_RECOVERIES - 2, once_more))
    await session.execute("UPDATE runs SET recoveries = %s WHERE id = %s", (MAX_RECOVERIES - 1, last))
    await die(session)
    adopt = runs.adopt

    async def slowly(*arguments, **options):
        await asyncio.sleep(1.5)
        async for page in adopt(*arguments, **options):
            yield page

    monkeypatch.setattr(runs, "adopt", slowly)
    mesh.calls.clear()
    async with begin(shards=8) as client:
        await client.until(once_more, "SUCCEEDED", seconds=40)
        await client.until(last, "PARKED", seconds=40)
    assert await rows(session, "SELECT error_reason FROM runs WHERE id = %s", last) == [("QUARANTINED",)]
    assert last not in {call["x-reflux-run-id"] for call in mesh.calls}


@pytest.mark.timeout(600)
async def test_a_run_that_kills_its_orchestrator_is_parked_and_the_others_end(processes, session, mesh):
    """After five deaths without progress, not before; one that gets further each time is never suspected."""
    killed = asyncio.Event()

    async def kill(given, envelope, context):
        if envelope["x-reflux-step"] == "poison":
            await asyncio.sleep(0.5)  # the other run gets further meanwhile
            processes.processes["a"].kill()
            killed.set()
            await asyncio.sleep(5)
        await asyncio.sleep(0.02)
        return {}

    mesh.script = kill
    processes.settings["lease_seconds"] = 3.0
    processes.begin("a")
    await balanced(session, 1)
    client = processes.clients["a"]
    good = await client.start(await client.save("good", LOOP), {"items": [*range(ITEMS)]})
    poison = await client.start(
        await client.save("poison", {"id": "poison", "node": "work.pure"}), request_id="p"
    )
    for _ in range(MAX_RECOVERIES):
        async with asyncio.timeout(60):
            await killed.wait()
        processes.processes["a"].wait()
        killed.clear()
        processes.begin("a")
    async with asyncio.timeout(120):
        for run, state in ((good, "SUCCEEDED"), (poison, "PARKED")):
            while not await rows(
                session, "SELECT 1 FROM runs WHERE id = %s AND state = %s", run["id"], state
            ):
                await asyncio.sleep(0.1)
    [(state, reason)] = await rows(
        session, "SELECT state, error_reason FROM runs WHERE id = %s", poison["id"]
    )
    assert (state, reason) == ("PARKED", "QUARANTINED")
    assert mesh.count("poison") == MAX_RECOVERIES
    assert not killed.is_set()
