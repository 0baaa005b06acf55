"""However long a journal is, reading it holds a bounded part of it and lets others go on meanwhile."""

import asyncio

import orjson
import pytest
from psycopg import AsyncConnection

from reflux.core.errors import Defect
from reflux.orchestrator import journal_reader
from reflux.orchestrator.flows.cache import FlowCache
from reflux.orchestrator.flows.store import FlowStore
from reflux.orchestrator.journal_reader import JournalReader
from reflux.orchestrator.store import runs
from reflux.runtime.postgres import enter_service, open_pool

LOOP = {
    "id": "each",
    "foreach": {"in": "{{ input.items }}", "as": "item", "parallel": 4},
    "steps": [
        {"id": "double", "set": {"n": "{{ item * 2 }}"}},
        {"id": "work", "node": "work.pure", "with": {"n": "{{ steps.double.output.n }}"}},
    ],
    "result": "{{ steps.double.output.n }}",
}


@pytest.fixture
async def pool(database_dsn):
    async with open_pool(database_dsn, service="orchestrator") as pool:
        yield pool


@pytest.fixture
def reader(pool):
    """What reads runs, beside the orchestrator's own."""
    return JournalReader(pool, FlowCache(FlowStore(pool)))


def _seen(state):
    """What a state says, without the objects that are made anew by each fold."""
    steps = {
        path: (run.state, run.attempt, run.output, run.failure, run.finished, run.start_time, run.finish_time)
        for path, run in state.steps.items()
    }
    return state.phase, state.stored, orjson.dumps(state.values), steps, state.finished


@pytest.mark.parametrize("page", [1, 2, 7, 40])
async def test_the_size_of_a_page_changes_nothing(begin, reader, monkeypatch, page):
    """A run of a hundred steps, read in pages of 1 to 40 events, is the run that is read at once."""
    async with begin() as client:
        run = await client.start(await client.save("long", LOOP), {"items": [*range(30)]}, wait="20s")
        whole = await reader.state(run["id"])
        monkeypatch.setattr(journal_reader, "PAGE_EVENTS", page)
        assert _seen(await reader.state(run["id"])) == _seen(whole)
    assert orjson.dumps(run["output"]) == orjson.dumps([2 * number for number in range(30)])


async def test_a_long_run_goes_on_after_a_restart(begin, mesh, monkeypatch):
    """Read in many pages by its next orchestrator, in the middle: no item is left out or done again."""
    monkeypatch.setattr(journal_reader, "PAGE_EVENTS", 5)
    reached = asyncio.Event()

    async def stop_in_the_middle(given, envelope, context):
        if given["n"] == 40 and not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return {}

    mesh.script = stop_in_the_middle
    async with begin() as client:
        run = await client.start(await client.save("long", LOOP), {"items": [*range(30)]})
        await reached.wait()
        await asyncio.sleep(0.3)
    async with begin() as client:
        final = await client.until(run["id"], "SUCCEEDED")
        events = await client.all_events(run["id"])
    assert final["output"] == [2 * number for number in range(30)]
    outcomes = [
        event["step"]
        for event in events
        if event["kind"] == "AttemptFinished" and event["data"]["outcome"] == "DONE"
    ]
    assert sorted(outcomes) == sorted(f"each[{number}]/work" for number in range(30))


async def test_several_runs_are_read_within_a_bound_of_bytes(begin, reader, monkeypatch):
    """When their beginnings weigh too much together, the rest is read later: each run once, none left out."""
    held = []
    beginnings = JournalReader._beginnings

    async def watched(self, run_ids):
        found, whole = await beginnings(self, run_ids)
        held.append(len(found))
        return found, whole

    async with begin() as client:
        flow = await client.save("many", {"id": "a", "set": {"text": "{{ input.text }}"}})
        started = [await client.start(flow, {"text": "x" * 1000}, wait="10s") for _ in range(12)]
        monkeypatch.setattr(JournalReader, "_beginnings", watched)
        monkeypatch.setattr(journal_reader, "READ_BYTES", 5_000)
        wanted = [run["id"] for run in reversed(started)]
        unknown = "00000000-0000-7000-8000-000000000000"
        loaded = [one async for one in reader.load([unknown, *wanted])]
    assert sorted(one.run_id for one in loaded) == sorted(wanted)
    assert all(one.state is not None and one.state.finished for one in loaded)
    assert max(held) <= 4


async def test_others_go_on_while_a_long_journal_is_folded(begin, reader, monkeypatch):
    """The loop turns whenever it has taken long, which it may after a single event."""
    monkeypatch.setattr(journal_reader, "SLICE_SECONDS", 0.0)
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with begin() as client:
        run = await client.start(await client.save("long", LOOP), {"items": [*range(30)]}, wait="20s")
        rows = await runs.events(reader._pool, run["id"])
        flow = await reader.state(run["id"])
        task = asyncio.create_task(others())
        await asyncio.sleep(0)
        before = turns
        await reader._go_on(run["id"], None, rows)
        seen = turns - before
        task.cancel()
    assert flow.finished
    assert seen >= len(rows) - 3


async def test_a_run_that_cannot_be_folded_still_tells_its_last_event(
    begin, reader, database_dsn, monkeypatch
):
    """Whatever is written about it comes after everything else, also when the damage is on an early page."""
    monkeypatch.setattr(journal_reader, "PAGE_EVENTS", 5)
    async with begin() as client:
        run = await client.start(await client.save("long", LOOP), {"items": [*range(10)]}, wait="20s")
        last = (await client.all_events(run["id"]))[-1]["seq"]
        async with await AsyncConnection.connect(database_dsn, autocommit=True) as session:
            await enter_service(session, "orchestrator")
            await session.execute(
                "UPDATE journal SET payload = '\\xff' WHERE run_id = %s AND seq = 8", (run["id"],)
            )
        [loaded] = [one async for one in reader.load([run["id"]])]
        with pytest.raises(Defect, match="damaged"):
            await reader.state(run["id"])
    assert loaded.state is None
    assert loaded.last_seq == last > 15
