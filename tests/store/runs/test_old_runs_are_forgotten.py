"""A run whose retention is over is gone for everybody, and everything else goes on."""

import asyncio
from datetime import timedelta

import grpc
import orjson
import pytest

from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.orchestrator.store import partitions, wakeups
from reflux.orchestrator.store.partitions import Outcome
from reflux.runtime.postgres import open_pool
from tests.store.runs.speaking import say


async def _made(pool):
    """The partition of the present, once the orchestrator has made it."""
    while True:
        found = await partitions.layout(pool)
        for span in found.spans:
            if span.first <= found.now < span.end:
                return span, found.now


async def words(pool):
    """How many are in the inbox."""
    async with pool.connection() as connection:
        return (await (await connection.execute("SELECT count(*) FROM inbox")).fetchone())[0]


async def test_a_run_of_a_dropped_partition_is_not_found(begin, mesh, database_dsn):
    """Its row, its steps and its journal are gone; a run that waits outlives its partition and ends well."""
    async with begin() as client, open_pool(database_dsn, service="orchestrator") as pool:
        span, now = await _made(pool)
        flow = await client.save("short", {"id": "a", "node": "work.pure"})
        slow = await client.save("long", {"id": "b", "wait": {"for": "4s"}}, {"id": "c", "node": "work.pure"})
        waits = await client.start(slow)
        gone = await client.start(flow)
        await client.until(gone["id"], "SUCCEEDED")
        outcome = Outcome.BUSY
        while outcome is Outcome.BUSY:
            outcome, forgotten = await partitions.drop(pool, span, ended_before=now + timedelta(hours=1))
        assert (outcome, forgotten) == (Outcome.DROPPED, 1)

        for ask in (
            client.runs.GetRun(run_pb.GetRunRequest(run_id=gone["id"])),
            client.runs.ListStepRuns(run_pb.ListStepRunsRequest(run_id=gone["id"])),
            client.runs.ListEvents(run_pb.ListEventsRequest(run_id=gone["id"])),
            client.runs.CancelRun(run_pb.CancelRunRequest(run_id=gone["id"])),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await client.runs.ListRuns(run_pb.ListRunsRequest())
        assert [run.id for run in listed.runs] == [waits["id"]]
        assert (await client.until(waits["id"], "SUCCEEDED"))["state"] == "SUCCEEDED"
        events = await client.events(waits["id"])
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        again = await client.start(flow)
        assert orjson.dumps(await client.until(again["id"], "SUCCEEDED"))


async def test_a_child_that_outlives_its_parent_leaves_nothing_behind(begin, mesh, database_dsn, monkeypatch):
    """What it says to the parent is for nobody, and must not stand before what others are told."""
    monkeypatch.setattr(wakeups, "PAGE", 2)
    async with begin() as client, open_pool(database_dsn, service="orchestrator") as pool:
        span, now = await _made(pool)
        await client.save("inner", {"id": "w", "wait": {"signal": "go"}})
        sub = {"id": "sub", "flow": "inner", "wait": "detached"}
        loop = {"id": "all", "foreach": {"in": "{{ [1, 2, 3, 4] }}", "as": "n"}, "steps": [sub]}
        outer = await client.save("outer", loop)
        parent = await client.start(outer, wait="20s")
        assert parent["state"] == "SUCCEEDED"
        other = await client.start(await client.save("other", {"id": "w", "wait": {"signal": "go"}}))
        outcome = Outcome.BUSY
        while outcome is Outcome.BUSY:
            outcome, forgotten = await partitions.drop(pool, span, ended_before=now + timedelta(hours=1))
        assert (outcome, forgotten) == (Outcome.DROPPED, 1)

        listed = await client.runs.ListRuns(run_pb.ListRunsRequest())
        children = [run.id for run in listed.runs if run.id != other["id"]]
        assert len(children) == 4
        for child in children:
            await say(client, "SignalRun", child, name="go")
            await client.until(child, "SUCCEEDED")
        assert (await client.cancel(other["id"]))["state"] == "CANCELED"
        async with pool.connection() as connection:
            await connection.execute("UPDATE inbox SET created_at = created_at - interval '2 minutes'")
        async with asyncio.timeout(10):
            while await words(pool):
                await asyncio.sleep(0.1)
