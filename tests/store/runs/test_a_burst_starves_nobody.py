"""A burst of one flow does not starve another: judged by the order in which nodes are called, not by time."""

import asyncio
from datetime import UTC, datetime

import psycopg

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.names import FlowId
from reflux.orchestrator import codec, metrics
from reflux.orchestrator.dispatch import MAX_CALLS_OF_A_NODE

BURST = 5_000

STEP = {"node": "work.pure", "with": {"of": "{{ flow.name }}"}}

ACCEPTED = """
WITH begun AS (
    INSERT INTO orchestrator.runs
           (id, shard, flow_id, flow_name, flow_version, state, actor, created_at, wake_at)
    SELECT gen_random_uuid(), number %% 8, %(flow)s, %(name)s, 1, 'RUNNING', 'me', now(), now()
      FROM generate_series(1, %(count)s) AS number
 RETURNING id
)
INSERT INTO orchestrator.journal (run_id, seq, recorded_at, payload)
SELECT id, 1, now(), %(payload)s FROM begun
"""


class Node:
    """Holds every call of the burst until it is let go; notes the order in which calls come."""

    def __init__(self):
        self.order = []
        self.passes = asyncio.Semaphore(0)

    async def __call__(self, given, envelope, context):
        self.order.append(given["of"])
        if given["of"] == "burst":
            await self.passes.acquire()
        return {}


async def accepted(dsn, flow, name, count):
    """So many runs of a flow, accepted by somebody who is gone now."""
    created = ev.RunCreated(FlowId(flow), name, 1, Json(b"{}"), "me", datetime.now(UTC))
    parameters = {"flow": flow, "name": name, "count": count, "payload": codec.encode(created)}
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        await admin.execute(ACCEPTED, parameters)


async def test_a_run_is_done_while_thousands_of_another_flow_wait(begin, mesh, database_dsn):
    """It comes last, takes every second place that is free, and is over after a few calls of the burst."""
    mesh.script = node = Node()
    async with begin(lease_seconds=30) as client:
        burst = await client.save("burst", {"id": "a", **STEP})
        await client.save("other", *({"id": step, **STEP} for step in "abc"))
    await accepted(database_dsn, burst, "burst", BURST)
    async with begin(lease_seconds=30) as client:
        async with asyncio.timeout(120):
            while len(node.order) < MAX_CALLS_OF_A_NODE or metrics.RUNS_LOADED.series()[()] < BURST:
                await asyncio.sleep(0.05)
        run_id = (await client.start("other"))["id"]
        async with asyncio.timeout(30):
            while not (await client.steps(run_id))["a"]["waiting"]:  # its first call waits for a place
                await asyncio.sleep(0.05)
        assert "other" not in node.order
        while (await client.run(run_id))["state"] != "SUCCEEDED":
            calls = len(node.order)
            assert calls < MAX_CALLS_OF_A_NODE + 50, "it waits for the backlog"
            node.passes.release()  # one place becomes free
            async with asyncio.timeout(30):
                while len(node.order) == calls and (await client.run(run_id))["state"] != "SUCCEEDED":
                    await asyncio.sleep(0.01)

    assert node.order.count("other") == 3
