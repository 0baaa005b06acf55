"""W7: 100,000 runs wait. What do they cost, and how soon does anything go on after a kill -9?

Runs that wait are copied in the tables (`bench.waiting`). All rows say tomorrow but those of `DUE` runs,
whose time has come. Then the orchestrator is killed, and until those have ended everything is looked at:

- when the first event is journaled and when the last run has ended, by the database's clock;
- rows of runs and journals that PostgreSQL handed out, to whomever;
- waiting runs whose journal has grown or that were counted as recovered: none may be;
- the orchestrator's memory, beside that of the same one with nothing waiting.

The time in a journal of a waiting run has come, too: whoever reads one calls its node, and is found out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from psycopg import AsyncConnection

from bench.client import connected
from bench.echo import NODE
from bench.flows import sequence
from bench.report import BrokenPromise, Row
from bench.stack import running_stack
from bench.waiting import copy_run
from reflux.api.flow.v1.flow_service_pb2 import ReplaceFlowRequest
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1.run_service_pb2 import ExecuteFlowRequest
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from reflux.runtime import rpc
from reflux.runtime.postgres import enter_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.report import Plan
    from bench.stack import Stack
    from reflux.runtime.postgres import Connection

WAITING: Final = 100_000
DUE: Final = 100
FLOW: Final = {
    "name": "bench-wait",
    "spec": {
        "steps": [{"id": "pause", "wait": {"for": "8s"}}, {"id": "s1", "node": NODE, "with": {"value": "x"}}]
    },
}
_IDLE_SECONDS: Final = 15.0
"""Before memory is looked at: some polls, some heartbeats."""
_SECONDS: Final = 120.0
_TOLD_SECONDS: Final = 2.0
"""After which a session of PostgreSQL has told what it read."""
_POLL_SECONDS: Final = 0.5

_WAITS: Final = """
UPDATE runs SET wake_at = now() + interval '1 day'
 WHERE id = %s AND wake_at > created_at + interval '3 seconds' RETURNING 1
"""
_READ: Final = """
SELECT coalesce(sum(seq_tup_read + idx_tup_fetch) FILTER (WHERE relname LIKE 'runs_%'), 0),
       coalesce(sum(seq_tup_read + idx_tup_fetch) FILTER (WHERE relname LIKE 'journal_%'), 0)
  FROM pg_stat_user_tables
"""
_UNFINISHED: Final = "SELECT count(*) FROM runs WHERE id = ANY (%s::uuid[]) AND finished_at IS NULL"
_TIMES: Final = """
SELECT min(recorded_at) FILTER (WHERE seq > 2), max(recorded_at) FROM journal WHERE run_id = ANY (%s::uuid[])
"""
_TOUCHED: Final = """
SELECT count(*) FILTER (WHERE recoveries > 0),
       count(*) FILTER (WHERE EXISTS (SELECT FROM journal WHERE run_id = runs.id AND seq > 2))
  FROM runs
 WHERE finished_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What followed from a kill; seconds since then, and rows that were read."""

    joined: float
    first: float
    last: float
    runs: int
    journals: int


async def measure(plan: Plan) -> list[Row]:
    """Measure and print; nothing is repeated, so the plan's rounds mean nothing here."""
    del plan
    async with running_stack() as stack:
        return [await _measure(stack)]


async def _measure(stack: Stack) -> Row:
    print(f"\nW7: {WAITING:,} runs wait, {DUE} more are due, and their orchestrator is killed")
    async with connected(stack) as client, _session(stack) as session:
        await client.create(sequence(1))
        original = await _waiting_run(stack, session)
        few = await _recovery(stack, session, await copy_run(session, original, DUE, now=await _now(session)))
        await asyncio.sleep(_IDLE_SECONDS)
        memory = _memory(stack)
        now = await _now(session)
        began = time.monotonic()
        await copy_run(session, original, WAITING, now=now, wake=now + timedelta(days=1))
        print(f"  ({WAITING:,} runs were copied in {time.monotonic() - began:.0f} s)")
        many = await _recovery(stack, session, await copy_run(session, original, DUE, now=now))
        await asyncio.sleep(_IDLE_SECONDS)
        [(recovered, grown)] = await _rows(session, _TOUCHED)
    print(f"  {'':<34}{'none wait':>12}{'all wait':>12}")
    for text, figure in (
        ("another one has joined, s after it", "joined"),
        ("first event, s after the kill", "first"),
        ("last run has ended, s after it", "last"),
        ("rows of runs read", "runs"),
        ("rows of journals read", "journals"),
    ):
        print(f"  {text:<34}{getattr(few, figure):>12,.5g}{getattr(many, figure):>12,.6g}")
    print(f"  {'memory, MB':<34}{memory:>12.0f}{_memory(stack):>12.0f}")
    print(f"  waiting runs that were walked: {grown}, counted as recovered: {recovered} (budget: none)")
    if grown or recovered:
        raise BrokenPromise(f"w7: {grown} waiting runs were walked, {recovered} counted as recovered")
    limit, ours = (
        f"{each.first:.1f}, {each.first - each.joined:.1f}, {size:.0f}"
        for each, size in ((few, memory), (many, _memory(stack)))
    )
    what = (
        f"W7, none and {WAITING:,} runs wait: s from a kill to the first event, of which after the join; MB"
    )
    return Row(what, limit, ours, aim="5 s")


async def _recovery(stack: Stack, session: Connection, due: list[str]) -> Recovery:
    """Makes `due` runs due, kills the orchestrator at once, and waits until all of them have ended."""
    await asyncio.sleep(_TOLD_SECONDS)
    [before] = await _rows(session, _READ)
    os.kill(_pid(stack), signal.SIGKILL)
    killed = await _now(session)
    await session.execute("UPDATE runs SET wake_at = now() WHERE id = ANY (%s::uuid[])", (due,))
    async with asyncio.timeout(_SECONDS):
        while (await _rows(session, _UNFINISHED, (due,))) != [(0,)]:  # noqa: ASYNC110 - the tables tell
            await asyncio.sleep(_POLL_SECONDS)
    await asyncio.sleep(_TOLD_SECONDS)
    [after] = await _rows(session, _READ)
    [(first, last)] = await _rows(session, _TIMES, (due,))
    [(joined,)] = await _rows(session, "SELECT max(joined_at) FROM members")
    return Recovery(
        joined=(joined - killed).total_seconds(),
        first=(first - killed).total_seconds(),
        last=(last - killed).total_seconds(),
        runs=int(after[0] - before[0]),
        journals=int(after[1] - before[1]),
    )


async def _waiting_run(stack: Stack, session: Connection) -> str:
    """A run whose time has come by its journal and comes tomorrow by its row: nobody takes it up.

    A look at what is due that began before it waited may read it once more, and write its row; so its row is
    changed a second time.
    """
    document = HttpBody(content_type="application/json", data=orjson.dumps(FLOW))
    replace = ReplaceFlowRequest(flow_id="bench-wait", document=document, allow_missing=True)
    given = HttpBody(content_type="application/json", data=b"{}")
    async with rpc.channel(stack.edge) as channel:
        await FlowServiceStub(channel).ReplaceFlow(replace)
        request = ExecuteFlowRequest(flow_id="bench-wait", input=given)
        run_id = str(orjson.loads((await RunServiceStub(channel).ExecuteFlow(request)).data)["id"])
    for seconds in (_TOLD_SECONDS, 8):
        async with asyncio.timeout(_SECONDS):
            while not await _rows(session, _WAITS, (run_id,)):  # noqa: ASYNC110 - the tables tell
                await asyncio.sleep(0.01)
        await asyncio.sleep(seconds)
    return run_id


async def _now(session: Connection) -> datetime:
    [(now,)] = await _rows(session, "SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


def _pid(stack: Stack) -> int:
    state = json.loads((stack.data / "run" / "stack.json").read_text())
    return int(state["parts"]["orchestrator"]["pid"])


def _memory(stack: Stack) -> float:
    """Resident memory of the orchestrator, in MB."""
    status = Path(f"/proc/{_pid(stack)}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@asynccontextmanager
async def _session(stack: Stack) -> AsyncIterator[Connection]:
    connection = await AsyncConnection.connect(stack.postgres_dsn, autocommit=True)
    try:
        await enter_service(connection, "orchestrator")
        yield connection
    finally:
        await connection.close()


async def _rows(session: Connection, statement: Any, parameters: Any = None) -> list[Any]:
    return await (await session.execute(statement, parameters)).fetchall()
