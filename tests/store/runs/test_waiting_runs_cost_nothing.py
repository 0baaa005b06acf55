"""Runs that wait stay in the tables: taking over thousands of them touches only those whose time has come."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from bench.waiting import copy_run
from reflux.orchestrator.dispatch import MAX_CALLS_OF_A_NODE
from reflux.orchestrator.store import runs
from reflux.orchestrator.store.pool import store_sql
from tests.support.waiting import die, rows, waiting_run

WAITING, DUE, HERD = 2_000, 7, 600
FLOW = ({"id": "pause", "wait": {"for": "4s"}}, {"id": "work", "node": "work.pure"})


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


@pytest.mark.parametrize("died", [False, True])
async def test_a_takeover_reads_and_calls_for_what_is_due_only(begin, mesh, session, read, died):
    """Each due run is called for once; those that wait are neither read nor counted as recovered."""
    original = await waiting_run(begin, session, *FLOW)
    await session.execute("DELETE FROM runs WHERE id <> %s", (original,))
    now = datetime.now(UTC)
    later = now + timedelta(days=1)
    waiting = await copy_run(session, original, WAITING, now=now, wake=later)
    due = await copy_run(session, original, DUE, now=now)
    await session.execute("UPDATE runs SET wake_at = %s WHERE id = %s", (later, original))
    await asyncio.sleep(4.5)  # their time comes
    if died:
        await die(session)
    mesh.calls.clear()
    read.clear()
    async with begin() as client:
        for run_id in due:
            await client.until(run_id, "SUCCEEDED")
        loads = dict(read)
        await asyncio.sleep(1.5)  # another look at what is due
        states = dict(await rows(session, "SELECT state, count(*) FROM runs GROUP BY state"))
        touched = await rows(
            session,
            "SELECT id FROM runs WHERE id = ANY (%s) AND (recoveries > 0 OR wake_at <> %s)",
            waiting,
            later,
        )
        grown = await rows(
            session,
            "SELECT run_id FROM journal WHERE run_id = ANY (%s) GROUP BY run_id HAVING count(*) <> 2",
            waiting,
        )
    assert Counter(call["x-reflux-run-id"] for call in mesh.calls) == dict.fromkeys(due, 1)
    assert set(loads) == set(due)
    assert states == {"SUCCEEDED": DUE, "RUNNING": WAITING + 1}
    assert touched == grown == []


async def test_many_that_are_due_at_once_are_called_for_once_each_and_not_all_at_once(begin, mesh, session):
    """After a long night each run is taken up once, and calls in flight stay within their bound."""
    original = await waiting_run(begin, session, *FLOW)
    await session.execute("DELETE FROM runs WHERE id <> %s", (original,))
    await asyncio.sleep(4.5)  # its time comes
    due = await copy_run(session, original, HERD, now=datetime.now(UTC), wake=datetime.now(UTC))
    await die(session)
    in_flight = most = 0

    async def count(given, envelope, context):
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.3)
        in_flight -= 1
        return {}

    mesh.script = count
    mesh.calls.clear()
    # A lease that no pause of a busy machine outlives: whoever loses it calls again, rightly.
    async with begin(lease_seconds=20.0), asyncio.timeout(60):
        while (await rows(session, "SELECT count(*) FROM runs WHERE state = 'SUCCEEDED'")) < [(HERD,)]:
            await asyncio.sleep(0.1)
    calls = Counter(call["x-reflux-run-id"] for call in mesh.calls)
    assert {run_id: calls[run_id] for run_id in due} == dict.fromkeys(due, 1)
    assert most <= MAX_CALLS_OF_A_NODE


async def test_looking_for_what_is_due_reads_no_waiting_run(begin, session):
    """By the database's own account, with and without statistics: the index passes over what waits."""
    original = await waiting_run(begin, session, *FLOW)
    now = datetime.now(UTC)
    await copy_run(session, original, WAITING, now=now, wake=now + timedelta(days=1))
    await session.execute("DELETE FROM runs WHERE id = %s", (original,))
    for statement in ("SELECT 1", "ANALYZE runs"):
        await session.execute(statement)
        assert await _read_by_adoption(session) == 0, statement


async def _read_by_adoption(session):
    """Rows of runs that adopting all shards takes out of the tables, those it throws away included."""
    total = 0
    for shard, token in await rows(session, "SELECT id, fencing_token FROM shards"):
        parameters = {
            "shard": shard,
            "token": token,
            "died": False,
            "after": "00000000-0000-0000-0000-000000000000",
            "limit": 500,
            "most": runs.MAX_RECOVERIES,
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
