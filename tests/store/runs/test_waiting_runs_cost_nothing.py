"""Runs that wait stay in the tables: taking over thousands of them touches only those whose time has come."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import AsyncConnection

from bench.waiting import copy_run
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.pool import store_sql
from reflux.runtime.postgres import enter_service

WAITING, DUE = 2_000, 7
FLOW = ({"id": "pause", "wait": {"for": "4s"}}, {"id": "work", "node": "work.pure"})


@pytest.fixture
async def session(database_dsn):
    """A session of the orchestrator's role."""
    async with await AsyncConnection.connect(database_dsn, autocommit=True) as connection:
        await enter_service(connection, "orchestrator")
        yield connection


@pytest.fixture
def read(monkeypatch):
    """How often the journal of each run was read."""
    counts = Counter()
    journals = runs.journals

    def counted(pool, run_ids, **options):
        counts.update(run_ids)
        return journals(pool, run_ids, **options)

    monkeypatch.setattr(runs, "journals", counted)
    return counts


async def _rows(session, statement, *parameters):
    return await (await session.execute(statement, parameters)).fetchall()


async def _original(begin, session):
    """A run that waits in the tables, and is in nobody's memory."""
    async with begin() as client:
        started = await client.start(await client.save("waits", *FLOW))
        async with asyncio.timeout(10):
            while (
                await _rows(session, "SELECT 1 FROM runs WHERE wake_at > created_at + interval '3 s'")
            ) == []:
                await asyncio.sleep(0.02)
    return started["id"]


async def _die(session):
    """Whoever owned the shards died."""
    await session.execute(
        "INSERT INTO members (id, address, state, joined_at, lease_until)"
        " VALUES (gen_random_uuid(), 'dead:1', 'dead', now(), now())"
    )
    await session.execute(
        "UPDATE shards SET fencing_token = fencing_token + 1,"
        " owner = (SELECT id FROM members WHERE address = 'dead:1')"
    )


@pytest.mark.parametrize("died", [False, True])
async def test_a_takeover_reads_and_calls_for_what_is_due_only(begin, mesh, session, read, died):
    """Each due run is called for once; those that wait are neither read nor counted as recovered."""
    original = await _original(begin, session)
    await session.execute("DELETE FROM runs WHERE id <> %s", (original,))
    now = datetime.now(UTC)
    later = now + timedelta(days=1)
    waiting = await copy_run(session, original, WAITING, now=now, wake=later)
    due = await copy_run(session, original, DUE, now=now)
    await session.execute("UPDATE runs SET wake_at = %s WHERE id = %s", (later, original))
    await asyncio.sleep(4.5)  # their time comes
    if died:
        await _die(session)
    mesh.calls.clear()
    read.clear()
    async with begin() as client:
        for run_id in due:
            await client.until(run_id, "SUCCEEDED")
        loads = dict(read)
        await asyncio.sleep(1.5)  # another look at what is due
        states = dict(await _rows(session, "SELECT state, count(*) FROM runs GROUP BY state"))
        touched = await _rows(
            session,
            "SELECT id FROM runs WHERE id = ANY (%s) AND (recoveries > 0 OR wake_at <> %s)",
            waiting,
            later,
        )
        grown = await _rows(
            session,
            "SELECT run_id FROM journal WHERE run_id = ANY (%s) GROUP BY run_id HAVING count(*) <> 2",
            waiting,
        )
    assert Counter(call["x-reflux-run-id"] for call in mesh.calls) == dict.fromkeys(due, 1)
    assert set(loads) == set(due)
    assert states == {"SUCCEEDED": DUE, "RUNNING": WAITING + 1}
    assert touched == grown == []


async def test_looking_for_what_is_due_reads_no_waiting_run(begin, session):
    """By the database's own account, with and without statistics: the index passes over what waits."""
    original = await _original(begin, session)
    now = datetime.now(UTC)
    await copy_run(session, original, WAITING, now=now, wake=now + timedelta(days=1))
    await session.execute("DELETE FROM runs WHERE id = %s", (original,))
    for statement in ("SELECT 1", "ANALYZE runs"):
        await session.execute(statement)
        assert await _read_by_adoption(session) == 0, statement


async def _read_by_adoption(session):
    """Rows of runs that adopting all shards takes out of the tables, those it throws away included."""
    total = 0
    for shard, token in await _rows(session, "SELECT id, fencing_token FROM shards"):
        parameters = {
            "shard": shard,
            "token": token,
            "died": False,
            "after": "00000000-0000-0000-0000-000000000000",
            "limit": 500,
        }
        [(plan,)] = await (
            await session.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + store_sql("adopt_runs"), parameters)
        ).fetchall()
        total += _read(plan[0]["Plan"])
    return total


def _read(node):
    """Rows that the scans of `runs` below a node found, or found and threw away."""
    rows = 0
    if node.get("Relation Name", "").startswith("runs_"):
        loops = node["Actual Loops"]
        rows = loops * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return rows + sum(map(_read, node.get("Plans", ())))
