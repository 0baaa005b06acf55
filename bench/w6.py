"""W6: the orchestrator is killed with -9 under load. How long until a run that it held goes on?

From the kill to the first event that is recorded for a run accepted before it, by the database's clock; and
the same without the lease, which has to run out before anybody may take over.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
from typing import TYPE_CHECKING, Final

import psycopg

from bench.client import connected
from bench.flows import sequence
from bench.report import Row
from bench.stack import running_stack

if TYPE_CHECKING:
    from bench.report import Plan
    from bench.stack import Stack

RUNS: Final = 64
STEPS: Final = 40
LEASE_SECONDS: Final = 10.0
"""Default of `lease_seconds`."""
WAIT_SECONDS: Final = 60.0
IN_FLIGHT_SECONDS: Final = 0.2
"""A commit that was on its way when the kill came is no progress."""

_FIRST: Final = """
SELECT extract(epoch FROM min(j.recorded_at) - %(killed)s)::float8
  FROM orchestrator.journal j JOIN orchestrator.runs r ON r.id = j.run_id
 WHERE j.recorded_at > %(killed)s + %(in_flight)s * interval '1 second' AND r.created_at < %(killed)s
"""


async def measure(plan: Plan) -> list[Row]:
    """Measure and print: a stack for each round, so that each has a first death."""
    seconds = []
    for _ in range(plan.rounds):
        async with running_stack() as stack:
            seconds.append(await _one(stack))
    print(f"\nW6: kill -9 of the orchestrator with {RUNS} runs of {STEPS} steps in flight")
    print(f"  kill to first progress, s: {_spread(seconds)}")
    print(f"  without the lease of {LEASE_SECONDS:g} s (aim: at most 2): "
          f"{_spread([each - LEASE_SECONDS for each in seconds])}")  # fmt: skip
    what = "W6, from the kill to the first progress, s"
    return [Row(what, f"lease {LEASE_SECONDS:g}", _spread(seconds), aim=f"{LEASE_SECONDS + 2:g}")]


async def _one(stack: Stack) -> float:
    flow = sequence(STEPS)
    async with (
        connected(stack) as client,
        await psycopg.AsyncConnection.connect(stack.postgres_dsn, autocommit=True) as connection,
    ):
        await client.create(flow)
        await asyncio.gather(*(client.start(flow) for _ in range(RUNS)))
        row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
        os.kill(stack.pid("orchestrator"), signal.SIGKILL)
        assert row is not None
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                await asyncio.sleep(0.2)
                given = {"killed": row[0], "in_flight": IN_FLIGHT_SECONDS}
                first = await (await connection.execute(_FIRST, given)).fetchone()
                if first is not None and first[0] is not None:
                    return float(first[0])


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
