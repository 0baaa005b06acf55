"""A run that takes its orchestrator down, again and again, is put aside; all others go on."""

import asyncio
from datetime import UTC, datetime

import orjson
import pytest

from bench.waiting import copy_run
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.runs import MAX_RECOVERIES
from tests.store.runs.speaking import send
from tests.support.orchestrators import balanced
from tests.support.waiting import die, rows, waiting_run

ITEMS = 100
LOOP = {
    "id": "each",
    "foreach": {"in": "{{ input.items }}", "as": "item", "parallel": 1},
    "steps": [{"id": "work", "node": "work.pure"}],
}


FOR_LATER = {"id": "pause", "wait": {"for": "1h"}}


@pytest.fixture
def read(monkeypatch):
    """Runs whose journals were read."""
    seen = set()
    journals = runs.journals

    def noted(pool, run_ids, **options):
        seen.update(run_ids)
        return journals(pool, run_ids, **options)

    monkeypatch.setattr(runs, "journals", noted)
    return seen


SKIP = {"step": "pause", "choice": "skip", "output": None, "version": ""}


async def say_unheard(session, run_id, kind):
    """Leaves a word of which the owner died."""
    word = orjson.dumps({"id": kind, "actor": "me", "reason": ""} | (SKIP if kind == "overrule" else {}))
    await session.execute(
        "INSERT INTO inbox (shard, run_id, kind, payload, created_at)"
        " SELECT shard, id, %s, %s, now() FROM runs WHERE id = %s",
        (kind, word, run_id),
    )


async def quarantine(session, run_id):
    """As it is left by owners that died of it."""
    await session.execute(
        "UPDATE runs SET state = 'PARKED', wake_at = NULL, recoveries = %s, error_code = 'INTERNAL',"
        " error_reason = 'QUARANTINED', error_message = 'again and again' WHERE id = %s",
        (MAX_RECOVERIES, run_id),
    )


async def until_row(session, run_id, condition):
    async with asyncio.timeout(30):
        while not await rows(session, f"SELECT 1 FROM runs WHERE id = %s AND {condition}", run_id):
            await asyncio.sleep(0.05)


async def test_who_dies_of_a_word_to_a_waiting_run_is_counted(begin, session, read):
    """Nothing of it is due: it is read for the word alone, and after the last death it is not read again."""
    once_more = await waiting_run(begin, session, FOR_LATER)
    [last] = await copy_run(
        session, once_more, 1, now=datetime.now(UTC), wake=datetime(9999, 1, 1, tzinfo=UTC)
    )
    deaths = ((once_more, MAX_RECOVERIES - 1, "pause"), (last, MAX_RECOVERIES, "overrule"))
    for run_id, died, kind in deaths:
        await session.execute("UPDATE runs SET recoveries = %s WHERE id = %s", (died, run_id))
        await say_unheard(session, run_id, kind)
    await die(session)
    read.clear()
    async with begin(shards=8):
        await until_row(session, once_more, "state = 'PAUSED'")
        await until_row(session, last, "state = 'PARKED' AND error_reason = 'QUARANTINED'")
        assert read == {once_more}
    assert await rows(session, "SELECT run_id::text FROM inbox") == [(last,)]


async def test_a_run_in_quarantine_that_kills_once_more_is_left_alone(begin, session, read):
    """Told to end it ends as it stands; told to go on it stays, and the word is gone; nobody reads either.

    What is said to one besides is kept for when it goes on, but for a pause: it would stop it then.
    """
    ends = await waiting_run(begin, session, FOR_LATER)
    now = datetime.now(UTC)
    stays, untold = await copy_run(session, ends, 2, now=now, wake=now)
    for run_id in (ends, stays, untold):
        await quarantine(session, run_id)
    await say_unheard(session, ends, "cancel")
    await say_unheard(session, stays, "resume")
    for kind in ("pause", "overrule"):
        await say_unheard(session, untold, kind)
    await die(session)
    read.clear()
    async with begin(shards=8):
        await until_row(session, ends, "state = 'CANCELED' AND error_reason = 'QUARANTINED'")
        async with asyncio.timeout(20):
            while await rows(session, "SELECT 1 FROM inbox WHERE run_id = %s", stays):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)  # another look at what is due
        assert read == set()
    assert await rows(session, "SELECT run_id::text, kind FROM inbox") == [(untold, "overrule")]
    assert await rows(session, "SELECT recoveries FROM runs WHERE id = %s", untold) == [(MAX_RECOVERIES,)]


async def test_a_signal_is_kept_for_a_run_in_quarantine_and_for_others(begin, session):
    """One on its way to it goes back, a new one is not offered to it; who goes on has what was kept."""
    keyed = {"id": "w", "wait": {"signal": "shipped", "key": "7"}}
    async with begin(shards=8) as client:
        flow = await client.save("waits", keyed)
        run_id = (await client.start(flow))["id"]
        async with asyncio.timeout(20):
            while not await rows(session, "SELECT 1 FROM signal_waits WHERE run_id = %s", run_id):
                await asyncio.sleep(0.05)
        await until_row(session, run_id, "wake_at > now() + interval '1 minute'")
        await quarantine(session, run_id)
        first = await send(client, "shipped", key="7", payload=1, signal_id="a")
        await session.execute(
            "WITH given AS (UPDATE signals SET run_ids = ARRAY[%s::uuid] RETURNING id, word), offered AS"
            " (UPDATE signal_waits SET offered = given.id FROM given) INSERT INTO inbox"
            " (shard, run_id, kind, payload, created_at, signal)"
            " SELECT shard, %s, 'signal', word, now(), given.id FROM given, runs WHERE runs.id = %s",
            (run_id, run_id, run_id),
        )
        async with asyncio.timeout(20):
            while await rows(session, "SELECT 1 FROM inbox"):
                await asyncio.sleep(0.05)
        other = (await client.start(flow))["id"]
        taken = await client.until(other, "SUCCEEDED")
        second = await send(client, "shipped", key="7", payload=2, signal_id="b")
        await session.execute(
            "UPDATE runs SET state = 'RUNNING', wake_at = 'infinity', recoveries = 0, error_code = NULL,"
            " error_reason = NULL, error_message = NULL WHERE id = %s",
            (run_id,),
        )
        late = await client.until(run_id, "SUCCEEDED")
    assert (first["run_ids"], second["run_ids"]) == ([], [])
    assert first["keep_time"]
    assert (taken["output"], late["output"]) == (1, 2)


async def test_a_run_in_quarantine_is_read_for_the_word_that_ends_it(begin, session):
    """Who planned to leave did not die of it: it ends as any run does, with what it must say."""
    run_id = await waiting_run(begin, session, FOR_LATER)
    await quarantine(session, run_id)
    await say_unheard(session, run_id, "cancel")
    async with begin(shards=8) as client:
        final = await client.until(run_id, "CANCELED")
        kinds = [event["kind"] for event in await client.all_events(run_id)]
    assert final["error"] is None
    assert kinds[-2:] == ["CancelRequested", "RunFinished"]


async def test_who_waits_for_a_child_that_cannot_be_read_hears_of_its_end(begin, mesh, session):
    """The word goes up although nobody knows more of the child than how it began."""
    async with begin() as client:
        await client.save("inner", FOR_LATER)
        run = await client.start(await client.save("outer", {"id": "sub", "flow": "inner"}))
        async with asyncio.timeout(20):
            while not (child := (await client.steps(run["id"]))["sub"]["child_run_id"]):
                await asyncio.sleep(0.05)
        await until_row(session, child, "wake_at > now() + interval '1 minute'")
    await quarantine(session, child)
    await say_unheard(session, child, "cancel")
    await die(session)
    async with begin(shards=8) as client:
        final = await client.until(run["id"], "FAILED", seconds=40)
    assert (final["error"]["step"], final["error"]["reason"]) == ("sub", "CHILD_CANCELED")


async def test_nothing_of_a_shard_is_taken_up_before_its_dead_are_counted(begin, mesh, session, monkeypatch):
    """However long counting takes, no look at what is due is faster: after its last death a run rests."""
    steps = {"id": "pause", "wait": {"for": "4s"}}, {"id": "work", "node": "work.pure"}
    original = await waiting_run(begin, session, *steps)
    await session.execute("DELETE FROM runs WHERE id <> %s", (original,))
    await asyncio.sleep(4.5)  # its time comes
    now = datetime.now(UTC)
    once_more, last = await copy_run(session, original, 2, now=now, wake=now)
    await session.execute("UPDATE runs SET recoveries = %s WHERE id = %s", (MAX_RECOVERIES - 1, once_more))
    await session.execute("UPDATE runs SET recoveries = %s WHERE id = %s", (MAX_RECOVERIES, last))
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


async def deadly(processes, session, mesh, *, seconds):
    """An orchestrator that dies of each call of `poison`; any other takes so long. Tells of its deaths."""
    killed = asyncio.Event()

    async def kill(given, envelope, context):
        if envelope["x-reflux-step"] == "poison":
            await asyncio.sleep(0.5)  # others get further meanwhile, if they can
            processes.processes["a"].kill()
            killed.set()
            await asyncio.sleep(5)
        await asyncio.sleep(seconds)
        return {}

    mesh.script = kill
    processes.settings["lease_seconds"] = 3.0
    processes.begin("a")
    await balanced(session, 1)
    return killed


async def dies_to_the_last(processes, killed):
    """It begins again after each death, also after the last one that is borne."""
    for _ in range(MAX_RECOVERIES):
        async with asyncio.timeout(60):
            await killed.wait()
        processes.processes["a"].wait()
        killed.clear()
        processes.begin("a")


async def until_all(session, ends):
    async with asyncio.timeout(120):
        for run, state in ends:
            while not await rows(
                session, "SELECT 1 FROM runs WHERE id = %s AND state = %s", run["id"], state
            ):
                await asyncio.sleep(0.1)


@pytest.mark.timeout(600)
async def test_a_run_does_not_answer_for_what_another_one_does(processes, session, mesh):
    """Beside one that kills, none gets further; the last time each is alone, and only one is parked."""
    killed = await deadly(processes, session, mesh, seconds=2)
    client = processes.clients["a"]
    flow = await client.save("slow", {"id": "slow", "node": "work.pure"})
    poison = await client.save("poison", {"id": "poison", "node": "work.pure"})
    good = [await client.start(flow, request_id="good 1")]
    bad = await client.start(poison, request_id="p")
    good.append(await client.start(flow, request_id="good 2"))
    await dies_to_the_last(processes, killed)
    await until_all(session, [(good[0], "SUCCEEDED"), (good[1], "SUCCEEDED"), (bad, "PARKED")])
    assert mesh.count("poison") == MAX_RECOVERIES
    assert await rows(session, "SELECT count(*) FROM runs WHERE error_reason = 'QUARANTINED'") == [(1,)]


@pytest.mark.timeout(600)
async def test_a_run_that_kills_its_orchestrator_is_parked_and_the_others_end(processes, session, mesh):
    """After five deaths without progress, not before; one that gets further each time is never suspected."""
    killed = await deadly(processes, session, mesh, seconds=0.02)
    client = processes.clients["a"]
    good = await client.start(await client.save("good", LOOP), {"items": [*range(ITEMS)]})
    poison = await client.start(
        await client.save("poison", {"id": "poison", "node": "work.pure"}), request_id="p"
    )
    await dies_to_the_last(processes, killed)
    await until_all(session, [(good, "SUCCEEDED"), (poison, "PARKED")])
    [(state, reason)] = await rows(
        session, "SELECT state, error_reason FROM runs WHERE id = %s", poison["id"]
    )
    assert (state, reason) == ("PARKED", "QUARANTINED")
    assert mesh.count("poison") == MAX_RECOVERIES
    assert not killed.is_set()
