"""The figures of an orchestrator say what its journals say: no more, no less."""

import asyncio
import contextlib
from typing import Any

import grpc

from reflux.orchestrator import census, metrics
from tests.support.scripted_mesh import claim
from tests.support.waiting import rows

PURE = {"node": "work.pure"}
ONCE = {"node": "work.once"}


class Since:
    """What was counted since this was made; instruments belong to the process, which runs other tests too."""

    def __init__(self) -> None:
        self._before = self._all()

    def __call__(self, instrument: Any, *labels: str) -> float:
        """How much a counter, or the number of values of a histogram, has risen."""
        key = (instrument.about.name, labels)
        return self._all().get(key, 0) - self._before.get(key, 0)

    @staticmethod
    def _all() -> dict[tuple[str, tuple[str, ...]], float]:
        return {
            (each.about.name, labels): getattr(series, "value", None) or getattr(series, "count", 0)
            for each in vars(metrics).values()
            if hasattr(each, "about") and each.about.kind != "gauge"
            for labels, series in each.series().items()
        }


async def test_a_run_its_steps_and_its_attempts_are_counted(begin, mesh):
    """A step that fails twice and is then done: three attempts, one step, one run, by state and code."""
    since = Since()
    failures = iter((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE))

    async def fail_twice(given, envelope, context):
        if (code := next(failures, None)) is not None:
            await context.abort(code, "not now")
        return {}

    mesh.script = fail_twice
    async with begin() as client:
        retry = {"attempts": 3, "delay": "10ms"}
        flow = await client.save("counted", {"id": "a", **PURE, "retry": retry})
        run = await client.start(flow)
        await client.until(run["id"], "SUCCEEDED")
        events = await client.events(run["id"])

    assert since(metrics.RUNS_STARTED) == 1
    assert since(metrics.RUNS_SETTLED, "SUCCEEDED") == since(metrics.RUN_DURATION, "SUCCEEDED") == 1
    assert since(metrics.STEP_DURATION, "work.pure", "SUCCEEDED") == 1
    assert since(metrics.ATTEMPT_DURATION, "work.pure", "none", "OK") == 1
    assert since(metrics.ATTEMPT_DURATION, "work.pure", "none", "UNAVAILABLE") == 2
    assert since(metrics.TIMER_LATENESS) >= 2
    attempts = [event for event in events if event["kind"] == "AttemptFinished"]
    assert len(attempts) == 3


async def test_a_step_that_fails_for_good_fails_its_run(begin, mesh):
    """Both are counted as FAILED."""
    since = Since()

    async def fail(given, envelope, context):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "never")

    mesh.script = fail
    async with begin() as client:
        run = await client.start(await client.save("fails", {"id": "a", **PURE}))
        await client.until(run["id"], "FAILED")
        await client.row(run["id"], "FAILED")
    assert since(metrics.STEP_DURATION, "work.pure", "FAILED") == 1
    assert since(metrics.RUNS_SETTLED, "FAILED") == 1
    assert since(metrics.RUNS_SETTLED, "SUCCEEDED") == 0


async def test_a_start_that_is_repeated_starts_nothing(begin, mesh):
    """The second one is counted as what it is."""
    since = Since()
    async with begin() as client:
        flow = await client.save("once", {"id": "a", **PURE})
        runs = [await client.start(flow, request_id="the same") for _ in range(3)]
        await client.until(runs[0]["id"], "SUCCEEDED")
    assert len({run["id"] for run in runs}) == 1
    assert (since(metrics.RUNS_STARTED), since(metrics.STARTS_REPEATED)) == (1, 2)


async def test_claims_are_counted_by_their_verdict(begin, mesh):
    """One granted to the execution that asked first, one refused to another."""
    since = Since()

    async def claim_twice(given, envelope, context):
        await claim(envelope)
        try:
            await claim(envelope, execution="e2")
        except grpc.aio.AioRpcError as error:
            return {"refused": error.code().name}

    mesh.script = claim_twice
    async with begin() as client:
        run = await client.start(await client.save("claims", {"id": "pay", **ONCE}))
        await client.until(run["id"], "SUCCEEDED")
    assert (since(metrics.CLAIMS, "granted"), since(metrics.CLAIMS, "refused")) == (1, 1)


async def test_what_waits_for_a_person_is_counted_in_the_tables(begin, mesh, session, monkeypatch):
    """A parked run is in nobody's memory: the owner of shard 0 counts it, for everybody."""
    monkeypatch.setattr(census, "PAUSE_SECONDS", 0.1)
    since = Since()

    async def act_and_vanish(given, envelope, context):
        await claim(envelope)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    mesh.script = act_and_vanish
    async with begin(metrics_address="127.0.0.1:0") as client:
        run = await client.start(await client.save("parks", {"id": "pay", **ONCE}))
        await client.until(run["id"], "PARKED")
        await client.row(run["id"], "PARKED")
        async with asyncio.timeout(20):
            while metrics.RUNS_UNFINISHED.series().get(("PARKED",)) != 1:
                await asyncio.sleep(0.05)
            while metrics.RUNS_LOADED.series()[()]:
                await asyncio.sleep(0.05)
        assert metrics.RUNS_UNFINISHED.series()[("RUNNING",)] == 0
        await session.execute("UPDATE runs SET wake_at = now()")  # it is read once more, and as it was
        async with asyncio.timeout(20):
            while await rows(session, "SELECT 1 FROM runs WHERE wake_at IS NOT NULL"):
                await asyncio.sleep(0.05)
        await client.cancel(run["id"])
        await client.until(run["id"], "CANCELED")
        async with asyncio.timeout(20):
            while metrics.RUNS_UNFINISHED.series().get(("PARKED",)) != 0:
                await asyncio.sleep(0.05)
    assert metrics.RUNS_UNFINISHED.series() == {}
    assert since(metrics.RUNS_SETTLED, "PARKED") == since(metrics.STEPS_PARKED, "work.once") == 1
    assert since(metrics.RUNS_SETTLED, "CANCELED") == 1


async def test_nobody_counts_rows_where_nobody_asks(begin, mesh):
    """Without a metrics address there are no statements for metrics."""
    async with begin() as client:
        run = await client.start(await client.save("plain", {"id": "a", **PURE}))
        await client.until(run["id"], "SUCCEEDED")
        assert metrics.RUNS_UNFINISHED.series() == {}
        assert metrics.RUNS_LOADED.series() == {(): 0}


async def test_what_was_not_committed_is_not_counted(begin, mesh):
    """A step in flight when its orchestrator goes is counted by the one that has its outcome recorded."""
    since = Since()
    reached = asyncio.Event()

    async def hang_once(given, envelope, context):
        if not reached.is_set():
            reached.set()
            await asyncio.sleep(60)
        return {}

    mesh.script = hang_once
    async with begin() as client:
        run = await client.start(await client.save("moves", {"id": "a", **PURE}))
        await reached.wait()
    assert since(metrics.STEP_DURATION, "work.pure", "SUCCEEDED") == 0
    async with begin() as client:
        await client.until(run["id"], "SUCCEEDED")
    assert since(metrics.STEP_DURATION, "work.pure", "SUCCEEDED") == 1
    assert since(metrics.RUNS_SETTLED, "SUCCEEDED") == 1
    assert mesh.count("a") == 2


async def test_firings_of_schedules_are_counted_by_what_became_of_them(begin, mesh):
    """As the schedules themselves count them."""
    since, go = Since(), asyncio.Event()

    async def block(given, envelope, context):
        await go.wait()
        return {}

    mesh.script = block
    often = {"type": "interval", "every": "1s"}
    skips = {**often, "id": "skips", "overlap": "skip"}
    fails = {**often, "id": "fails", "input": {"x": "{{ int(schedule.timezone) }}"}}
    async with begin() as client:
        await client.save("timed", {"id": "a", **PURE}, triggers=[skips, fails])
        async with asyncio.timeout(20):
            while not (since(metrics.FIRINGS, "skipped") >= 1 and since(metrics.FIRINGS, "failed") >= 2):
                await asyncio.sleep(0.05)
        assert since(metrics.FIRINGS, "fired") == since(metrics.FIRING_LATENESS) == 1
        assert since(metrics.FIRINGS, "missed") == 0
        go.set()


async def test_slots_queues_and_refusals_are_counted(begin, mesh, monkeypatch):
    """Who holds a slot and who waits, from the tables; who was refused, and how long others waited."""
    monkeypatch.setattr(census, "PAUSE_SECONDS", 0.1)
    since, free = Since(), asyncio.Event()

    async def hold(given, envelope, context):
        await free.wait()
        return {}

    mesh.script = hold
    async with begin(metrics_address="127.0.0.1:0") as client:
        await client.save("queue", {"id": "a", **PURE}, policies={"concurrency": {"limit": 1}})
        strict = {"concurrency": {"limit": 1, "overflow": "reject"}}
        await client.save("strict", {"id": "a", **PURE}, policies=strict)
        runs = [await client.start("queue") for _ in range(3)]
        runs.append(await client.start("strict"))
        for _ in range(2):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await client.start("strict")
        async with asyncio.timeout(20):
            while metrics.SLOTS.series() != {("held",): 2, ("queued",): 2}:
                await asyncio.sleep(0.05)
            while metrics.RUNS_UNFINISHED.series().get(("QUEUED",)) != 2:
                await asyncio.sleep(0.05)
        free.set()
        for run in runs:
            await client.until(run["id"], "SUCCEEDED")
        async with asyncio.timeout(20):
            while metrics.SLOTS.series() != {("held",): 0, ("queued",): 0}:
                await asyncio.sleep(0.05)

    assert since(metrics.RUNS_REFUSED, "concurrency") == 2
    assert since(metrics.RUN_QUEUED) == 2
    assert since(metrics.RUNS_STARTED) == 4
