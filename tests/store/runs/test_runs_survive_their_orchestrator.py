"""Runs outlive the orchestrator that walks them: what is recorded is not done again."""

import asyncio

import grpc
import psycopg

from tests.support.scripted_mesh import claim

PURE = {"node": "work.pure"}


async def test_a_restart_goes_on_where_the_journal_ends(begin, mesh):
    """The first step's outcome is recorded once; only the step in flight is called again."""
    blocked = asyncio.Event()

    async def block_second(given, envelope, context):
        if envelope["x-reflux-step"] == "b" and not blocked.is_set():
            blocked.set()
            await asyncio.sleep(60)
        return {}

    mesh.script = block_second
    async with begin() as client:
        flow = await client.save("resumes", {"id": "a", **PURE}, {"id": "b", **PURE})
        run = await client.start(flow)
        await blocked.wait()
    async with begin() as client:
        final = await client.until(run["id"], "SUCCEEDED")
        events = await client.events(run["id"])

    assert final["state"] == "SUCCEEDED"
    assert mesh.count("a") == 1
    assert mesh.count("b") == 2
    finished = [event for event in events if event["kind"] == "AttemptFinished"]
    done = [event["step"] for event in finished if event["data"]["outcome"] == "DONE"]
    assert done == ["a", "b"]


async def test_a_drain_hands_over_a_run_that_has_a_deadline(begin, mesh):
    """A deadline is no reason to wait: the next orchestrator goes on at once."""
    reached = asyncio.Event()

    async def hang_once(given, envelope, context):
        if not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return {}

    mesh.script = hang_once
    async with begin() as client:
        flow = await client.save("bounded", {"id": "a", **PURE}, policies={"timeout": "2h"})
        run = await client.start(flow)
        await reached.wait()
    async with begin() as client:
        await client.until(run["id"], "SUCCEEDED", seconds=10)


async def test_a_zombie_is_refused_its_claim(begin, mesh, database_dsn):
    """A takes a step up, loses its shards without knowing, B goes on: what A started may not act any more."""
    reached, go, verdicts = asyncio.Event(), asyncio.Event(), []

    async def wait_then_claim(given, envelope, context):
        if reached.is_set():
            await claim(envelope)
            return {}
        reached.set()
        await go.wait()
        await asyncio.shield(asyncio.ensure_future(ask(envelope)))
        await context.abort(grpc.StatusCode.ABORTED, "too late")

    async def ask(envelope):
        # Shielded: A may give the call up before its claim is answered, and the verdict counts all the same.
        try:
            await claim(envelope)
            verdicts.append("granted")
        except grpc.aio.AioRpcError as error:
            verdicts.append(error.code().name)

    mesh.script = wait_then_claim
    async with begin() as client:
        run = await client.start(await client.save("zombie", {"id": "pay", "node": "work.once"}))
        await reached.wait()
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin:
            # What a takeover does to the tables, while A still believes in its lease.
            await admin.execute("UPDATE orchestrator.shards SET fencing_token = fencing_token + 1")
            go.set()
            async with asyncio.timeout(10):
                while not verdicts:
                    await asyncio.sleep(0.01)
        final = await client.until(run["id"], "SUCCEEDED", "PARKED")

    assert verdicts == ["FAILED_PRECONDITION"]
    assert final["state"] == "SUCCEEDED"


async def test_a_second_orchestrator_takes_over_from_a_dead_one(begin, mesh, database_dsn):
    """Without a word of farewell the lease runs out, and another orchestrator finishes the runs."""
    first = asyncio.Event()

    async def hang_once(given, envelope, context):
        if not first.is_set():
            first.set()
            await asyncio.sleep(60)
        return {"by": envelope["x-reflux-fencing-token"]}

    mesh.script = hang_once
    async with begin() as one:
        run = await one.start(await one.save("heir", {"id": "a", **PURE}))
        await first.wait()
        async with begin() as other:
            async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin:
                await admin.execute(
                    "UPDATE orchestrator.members SET lease_until = now() - interval '1m', state = 'dead'"
                    " WHERE joined_at = (SELECT min(joined_at) FROM orchestrator.members)"
                )
            final = await other.until(run["id"], "SUCCEEDED")
            kinds = [event["kind"] for event in await other.events(run["id"])]

    assert final["state"] == "SUCCEEDED"
    assert kinds.count("RunFinished") == 1
    assert "RunRecovered" in kinds


async def test_a_timer_survives_and_fires_not_early(begin, mesh):
    """A run that waits for its next attempt leaves memory, and comes back at its time after a restart."""

    async def fail_once(given, envelope, context):
        if envelope["x-reflux-attempt"] == "1":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "come back later")
        return {}

    mesh.script = fail_once
    retry = {"attempts": 2, "delay": "6s", "jitter": "none"}
    async with begin() as client:
        run = await client.start(await client.save("waits", {"id": "a", **PURE, "retry": retry}))
        async with asyncio.timeout(5):
            while (await client.steps(run["id"]))["a"]["state"] != "RETRYING":
                await asyncio.sleep(0.02)
        waiting = (await client.run(run["id"]))["waiting"]
    async with begin() as client:
        await client.until(run["id"], "SUCCEEDED", seconds=15)
        first, second = (await client.steps(run["id"]))["a"]["attempts"]

    assert waiting["until"] is not None
    assert second["start_time"] >= waiting["until"]
    assert first["outcome"] == "NO_EFFECT"


CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE application_name LIKE 'reflux-orchestrator%' AND datname = current_database()
"""


async def test_losing_every_database_connection_loses_no_run(begin, mesh, database_dsn):
    """Connections are cut again and again under load: all that was accepted ends, each step recorded once."""

    async def slow(given, envelope, context):
        await asyncio.sleep(0.02)
        return {}

    mesh.script = slow
    async with begin() as client:
        flow = await client.save("cut", *({"id": f"s{n}", **PURE} for n in range(5)))
        accepted = []
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin:
            for round_ in range(3):
                answers = await asyncio.gather(
                    *(client.start(flow, request_id=f"{round_}-{n}") for n in range(10)),
                    return_exceptions=True,
                )
                accepted += [answer["id"] for answer in answers if isinstance(answer, dict)]
                await admin.execute(CUT)
        finals = [await client.until(run_id, "SUCCEEDED", seconds=30) for run_id in accepted]
        journals = [await client.events(run_id) for run_id in accepted]

    assert len(accepted) >= 10
    assert all(final["state"] == "SUCCEEDED" for final in finals)
    for journal in journals:
        finished = [event for event in journal if event["kind"] == "AttemptFinished"]
        done = [event["step"] for event in finished if event["data"]["outcome"] == "DONE"]
        assert sorted(done) == [f"s{n}" for n in range(5)]
        assert [event["seq"] for event in journal] == list(range(1, len(journal) + 1))
