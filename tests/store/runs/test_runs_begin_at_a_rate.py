"""Runs of a flow and key begin so often and not more; who comes too early gets a time, or is refused."""

import asyncio
from datetime import datetime, timedelta
from math import ceil

import grpc
import psycopg
import pytest

from reflux.api.run.v1 import run_service_pb2 as run_pb
from tests.store.runs.test_runs_share_slots import refusal

STEP = {"id": "a", "node": "work.pure"}


def time(text):
    return datetime.fromisoformat(text)


async def begun_at(client, run_id):
    """When the only step of a run was begun."""
    [attempt] = (await client.steps(run_id))["a"]["attempts"]
    return time(attempt["start_time"])


async def test_a_burst_begins_at_once_and_the_rest_one_by_one(begin, mesh):
    """Two of four begin at once; the others know their time, and begin not before it."""
    async with begin() as client:
        await client.save("paced", STEP, policies={"rate": {"limit": 2, "per": "4s"}})
        runs = [await client.start("paced") for _ in range(4)]
        seen = [(await client.run(run["id"]))["waiting"] for run in runs[2:]]
        events = [event["kind"] for event in await client.events(runs[3]["id"])]
        for run in runs:
            await client.until(run["id"], "SUCCEEDED")
        begun = [await begun_at(client, run["id"]) for run in runs]

    assert [run["state"] for run in runs] == ["RUNNING", "RUNNING", "QUEUED", "QUEUED"]
    until = [time(waiting["until"]) for waiting in seen]
    assert {waiting["why"] for waiting in seen} == {"waits for its time, by the rate of its flow"}
    assert timedelta(seconds=1.9) <= until[1] - until[0] <= timedelta(seconds=2.1)
    assert begun[2] >= until[0]
    assert begun[3] >= until[1]
    assert begun[1] < until[0]
    assert events == ["RunCreated"]


async def test_keys_do_not_share_a_rate_and_a_repeated_start_uses_none_up(begin, mesh):
    """Each value of the key has a rate of its own; the same request_id asks for nothing."""
    async with begin() as client:
        policies = {"rate": {"key": "{{ input.shop }}", "limit": 1, "per": "1h"}}
        await client.save("by-shop", STEP, policies=policies)
        first = await client.start("by-shop", {"shop": "a"}, request_id="once")
        same = await client.start("by-shop", {"shop": "a"}, request_id="once")
        other = await client.start("by-shop", {"shop": "b"})
        waits = await client.start("by-shop", {"shop": "a"})
        until = (await client.run(waits["id"]))["waiting"]["until"]
        canceled = await client.cancel(waits["id"])

    assert first["id"] == same["id"]
    assert other["state"] == "RUNNING"
    assert timedelta(minutes=59) < time(until) - time(waits["create_time"]) <= timedelta(hours=1)
    assert canceled["state"] == "CANCELED"


async def test_a_start_that_comes_too_early_is_refused_and_told_when(begin, mesh, database_dsn):
    """RESOURCE_EXHAUSTED with the seconds to wait; a refused start uses up nothing of the rate."""
    async with begin() as client:
        policies = {"rate": {"limit": 2, "per": "10m", "overflow": "reject"}}
        await client.save("strict", STEP, policies=policies)
        for _ in range(2):
            await client.start("strict")
        refusals, after = [], []
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match="begins at most 2 runs per 10m") as refused:
                await client.start("strict")
            refusals.append(refusal(refused.value))
            after.append(int(dict(refused.value.trailing_metadata())["retry-after"]))
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin:
            await admin.execute("UPDATE orchestrator.rates SET full_at = full_at - interval '6 minutes'")
        later = await client.start("strict")
        await client.until(later["id"], "SUCCEEDED")

    for code, reason, seconds in refusals:
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT")
        assert 290 < seconds <= 300
    assert [ceil(seconds) for *_, seconds in refusals] == after


async def test_a_time_survives_the_orchestrator(begin, mesh):
    """It stands in the run's row: whoever owns the shard then begins the run, not before."""
    async with begin() as client:
        await client.save("paced", STEP, policies={"rate": {"limit": 1, "per": "5s"}})
        first, second = [await client.start("paced") for _ in range(2)]
        await client.until(first["id"], "SUCCEEDED")
        until = time((await client.run(second["id"]))["waiting"]["until"])
    async with begin() as client:
        await client.until(second["id"], "SUCCEEDED")
        begun = await begun_at(client, second["id"])

    assert begun >= until


async def test_a_slot_that_comes_before_the_time_waits_for_it(begin, mesh, database_dsn):
    """Both limits hold: the run has its slot, and begins at its time."""
    free = asyncio.Event()

    async def hold(given, envelope, context):
        await free.wait()
        return {}

    mesh.script = hold
    async with begin() as client:
        policies = {"rate": {"limit": 1, "per": "5s"}, "concurrency": {"limit": 1}}
        await client.save("both", STEP, policies=policies)
        first, second = [await client.start("both") for _ in range(2)]
        place = await client.run(second["id"])
        free.set()
        await client.until(first["id"], "SUCCEEDED")
        async with asyncio.timeout(10):
            while (holds := await client.run(second["id"]))["queue"] is not None:
                await asyncio.sleep(0.05)
        until = time(holds["waiting"]["until"])
        await client.until(second["id"], "SUCCEEDED")
        begun = await begun_at(client, second["id"])
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin:
            left = await (await admin.execute("SELECT count(*) FROM orchestrator.slots")).fetchone()

    assert place["queue"]["position"] == 1
    assert holds["state"] == "QUEUED"
    assert begun >= until
    assert left == (0,)


SLOTS = pytest.mark.parametrize("slots", [{}, {"concurrency": {"limit": 10}}], ids=["no slots", "slots"])


async def queued_behind_a_rate(client, slots):
    """Two runs that wait for an hour and for two, each with its slot if they need one."""
    await client.save("paced", STEP, policies={"rate": {"limit": 1, "per": "1h"}, **slots})
    first, *queued = [(await client.start("paced"))["id"] for _ in range(3)]
    await client.until(first, "SUCCEEDED")
    return queued


@SLOTS
async def test_runs_begin_when_a_new_version_has_no_rate(begin, mesh, slots):
    """At once, without another start, by the version that they were started with."""
    async with begin() as client:
        queued = await queued_behind_a_rate(client, slots)
        await client.replace("paced", {**STEP, "id": "b"}, policies=slots)
        ended = [await client.until(run, "SUCCEEDED") for run in queued]

    assert [run["flow_version"] for run in ended] == [1, 1]


@SLOTS
@pytest.mark.parametrize(
    ("rate", "minutes"),
    [
        ({"limit": 2, "per": "1h"}, [30, 60]),
        ({"limit": 1, "per": "1h"}, [60, 120]),
        ({"limit": 1, "per": "1d"}, [60, 120]),
    ],
    ids=["faster", "the same", "slower"],
)
async def test_a_new_rate_makes_nobody_wait_longer(begin, mesh, slots, rate, minutes):
    """Who waits has its time still, or the earlier one that the new rate would give it."""
    async with begin() as client:
        queued = await queued_behind_a_rate(client, slots)
        await client.replace("paced", {**STEP, "id": "b"}, policies={"rate": rate, **slots})
        seen = [await client.run(run) for run in queued]

    for run, later in zip(seen, minutes, strict=True):
        waited = time(run["waiting"]["until"]) - time(run["create_time"])
        assert abs(waited - timedelta(minutes=later)) < timedelta(minutes=1)


@SLOTS
async def test_a_faster_rate_is_kept_by_those_who_wait(begin, mesh, slots):
    """They begin one after another at its pace."""
    async with begin() as client:
        queued = await queued_behind_a_rate(client, slots)
        await client.replace(
            "paced", {**STEP, "id": "b"}, policies={"rate": {"limit": 1, "per": "2s"}, **slots}
        )
        for run in queued:
            await client.until(run, "SUCCEEDED")
        begun = [await begun_at(client, run) for run in queued]

    assert begun[1] - begun[0] >= timedelta(seconds=1.5)


def minutes_until(run, earlier):
    """Until it may begin, from when another one was accepted."""
    return round((time(run["waiting"]["until"]) - time(earlier["create_time"])) / timedelta(minutes=1))


KEYED = {"key": "{{ input.k }}", "limit": 1}


@SLOTS
async def test_a_new_rate_is_one_of_each_key(begin, mesh, slots):
    """Those of a key move up among themselves, and who starts later comes behind them."""
    async with begin() as client:
        await client.save("paced", STEP, policies={"rate": {**KEYED, "per": "5h"}, **slots})
        runs = [await client.start("paced", {"k": k}) for k in "aaaabb"]
        await client.replace("paced", {**STEP, "id": "b"}, policies={"rate": {**KEYED, "per": "1h"}, **slots})
        runs += [await client.start("paced", {"k": k}) for k in "ab"]
        waits = [await client.run(run["id"]) for run in (*runs[1:4], *runs[5:])]

    assert [minutes_until(run, runs[0]) for run in waits] == [60, 120, 180, 60, 240, 120]


@SLOTS
async def test_a_run_that_never_began_uses_nothing_up(begin, mesh, slots):
    """Who ends in the queue leaves its time to the one behind it, and that one to the next."""
    async with begin() as client:
        await client.save("paced", STEP, policies={"rate": {**KEYED, "per": "1h"}, **slots})
        runs = [await client.start("paced", {"k": k}) for k in "aaaaaab"]
        for run in (runs[1], runs[3], runs[5]):
            await client.cancel(run["id"])
        runs.append(await client.start("paced", {"k": "a"}))
        waits = [await client.run(runs[place]["id"]) for place in (2, 4, 7)]
        for run in waits:
            await client.cancel(run["id"])
        last = await client.start("paced", {"k": "a"})

    assert [minutes_until(run, runs[0]) for run in (*waits, last)] == [60, 120, 180, 60]


@SLOTS
async def test_times_that_come_free_are_used_at_the_new_rate(begin, mesh, slots):
    """However slower than the one that gave them: who comes next begins neither at once nor beside others."""
    async with begin() as client:
        await client.save("paced", STEP, policies={"rate": {"limit": 1, "per": "1h"}, **slots})
        runs = [await client.start("paced") for _ in range(4)]
        await client.replace(
            "paced", {**STEP, "id": "b"}, policies={"rate": {"limit": 1, "per": "10h"}, **slots}
        )
        for run in runs[2:]:
            await client.cancel(run["id"])
        behind = await client.run((await client.start("paced"))["id"])
        for run in (runs[1], behind):
            await client.cancel(run["id"])
        alone = await client.run((await client.start("paced"))["id"])

    assert [minutes_until(run, runs[0]) for run in (behind, alone)] == [660, 60]


async def test_the_newest_run_begins_at_a_rate_too(begin, mesh):
    """Each newer one takes the place of the one that waits, and its time with it: one does begin."""
    policies = {"concurrency": {"limit": 1, "overflow": "cancel_oldest"}, "rate": {"limit": 1, "per": "2s"}}
    begun = set()

    async def last_long(given, envelope, context):
        begun.add(envelope["x-reflux-run-id"])
        await asyncio.sleep(60)

    mesh.script = last_long
    async with begin() as client:
        await client.save("newest", STEP, policies=policies)
        for _ in range(16):
            await client.start("newest")
            await asyncio.sleep(0.5)
    assert len(begun) >= 3


async def test_a_queued_run_that_is_paused_keeps_its_time(begin, mesh):
    """While it is paused it does not begin, also when its time comes; resumed it goes on."""
    async with begin() as client:
        await client.save("paced", STEP, policies={"rate": {"limit": 1, "per": "4s"}})
        _, second = [await client.start("paced") for _ in range(2)]
        until = time((await client.run(second["id"]))["waiting"]["until"])
        await client.runs.PauseRun(run_pb.PauseRunRequest(run_id=second["id"]))
        await asyncio.sleep(5)
        paused = await client.run(second["id"])
        await client.runs.ResumeRun(run_pb.ResumeRunRequest(run_id=second["id"]))
        await client.until(second["id"], "SUCCEEDED")
        begun = await begun_at(client, second["id"])

    assert paused["state"] == "PAUSED"
    assert begun >= until


@SLOTS
async def test_a_queued_run_that_is_paused_comes_sooner_too(begin, mesh, slots):
    """With a version that has no rate it begins when it is resumed."""
    async with begin() as client:
        first, _ = await queued_behind_a_rate(client, slots)
        await client.runs.PauseRun(run_pb.PauseRunRequest(run_id=first))
        await client.until(first, "PAUSED")
        await client.replace("paced", {**STEP, "id": "b"}, policies=slots)
        await client.runs.ResumeRun(run_pb.ResumeRunRequest(run_id=first))
        await client.until(first, "SUCCEEDED")
