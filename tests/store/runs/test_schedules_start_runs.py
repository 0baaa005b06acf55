"""Schedules start runs: one per firing, whoever dies, however many look, and as their policies say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
from reflux.core.reasons import Reason
from reflux.orchestrator import launcher as launching
from reflux.orchestrator.store.errors import ShardLost
from reflux.orchestrator.triggers import scheduler
from reflux.orchestrator.triggers.schedules import ScheduleStore
from reflux.runtime import clock
from tests.store.runs.firing import STEP, call, every, moments, refusal, replace, shown, started, until


async def test_an_interval_starts_a_run_for_each_of_its_moments(begin):
    """On the moment and not before it, each once, and the run knows what started it."""
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(input={"at": "{{ schedule.scheduled_for }}"})])
        await until(client, lambda schedule: schedule.fired_count >= 3)
        runs = await started(client)
        schedule = await shown(client)
        first = await client.until(runs[0]["run"], "SUCCEEDED")
        step = (await client.steps(first["id"]))["a"]["input"]

    times = moments(runs)
    assert len(times) >= 3
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]
    assert all(time.microsecond == 0 for time in times)
    for run, time in zip(runs, times, strict=True):
        assert timedelta() <= datetime.fromisoformat(run["recorded"]) - time < timedelta(seconds=2)
        assert (run["trigger"], run["trigger_type"]) == ("often", "interval")
    assert first["input"] == {"at": runs[0]["scheduled_for"].replace("+00:00", "Z").replace(".000000", "")}
    assert step["trigger"] == {"type": "interval", "id": "often", "scheduled_for": first["input"]["at"]}
    assert schedule.last_run_id in {run["run"] for run in runs}
    assert schedule.next.scheduled_for.seconds > schedule.last.scheduled_for.seconds


async def test_two_orchestrators_start_one_run_for_each_firing(begin):
    """Both of them look; each schedule has one owner, and shards that change hands double nothing."""
    async with begin() as one:
        triggers = [{**every(), "id": f"often{n}"} for n in range(6)]
        await one.save("timed", STEP, triggers=triggers)
        await asyncio.sleep(1.5)
        async with begin():  # takes half of the shards, and gives them back when it goes
            await asyncio.sleep(2.5)
        await asyncio.sleep(2.5)
        page = await one.runs.ListRuns(run_pb.ListRunsRequest(page_size=1000))
        found = [(await one.events(run.id))[0]["data"] for run in page.runs]
    by_trigger: dict[str, list[datetime]] = {}
    for run in reversed(found):
        by_trigger.setdefault(run["trigger"], []).append(datetime.fromisoformat(run["scheduled_for"]))
    assert len(by_trigger) == 6
    for times in by_trigger.values():
        assert len(times) == len(set(times))
        assert max(times) - min(times) >= timedelta(seconds=4)


async def test_a_crash_between_the_start_and_the_move_starts_nothing_twice(begin, mesh, monkeypatch):
    """The schedule could not be moved on after its runs had begun: the next look finds them, going on."""
    real, broken = ScheduleStore.settle, []

    async def longer_than_a_look(given, envelope, context):
        await asyncio.sleep(1.2)
        return {}

    mesh.script = longer_than_a_look

    async def fail(self, due, lease, settled):
        if settled.fired and len(broken) < 3:
            broken.append((due.scheduled_for, settled.last[2]))
            raise psycopg.OperationalError("gone")
        return await real(self, due, lease, settled)

    monkeypatch.setattr(ScheduleStore, "settle", fail)
    for overlap in ("allow", "skip", "cancel", "queue"):
        broken.clear()
        async with begin() as client:
            if overlap == "allow":
                await client.save("timed", STEP, triggers=[every("3s", catchup="all")])
            else:
                await replace(client, triggers=[every("3s", catchup="all", overlap=overlap)])
            before = (await shown(client)).fired_count
            await until(client, lambda schedule, before=before: schedule.fired_count >= before + 2)
            runs = await started(client)
            schedule = await shown(client)
            await call(client, "PauseTrigger")
            states = {
                run["run"]: (await client.until(run["run"], "SUCCEEDED", "CANCELED"))["state"] for run in runs
            }
            await call(client, "ResumeTrigger")
        assert len(broken) == 3
        assert len(moments(runs)) == len(set(moments(runs)))
        assert {run_id for _, run_id in broken} <= set(states)
        assert set(states.values()) == {"SUCCEEDED"}  # and no firing was taken for a later one of itself
        assert schedule.skipped_count == 0


async def test_who_goes_between_start_and_move_is_followed_without_a_gap(begin, monkeypatch):
    """Its run was durable and its schedule not moved on; the heir finds the run, and fires on from there."""
    stuck = asyncio.Event()
    real = ScheduleStore.settle

    async def hang(self, due, lease, settled):
        if settled.fired and not stuck.is_set():
            stuck.set()
            await asyncio.sleep(3600)
        return await real(self, due, lease, settled)

    monkeypatch.setattr(ScheduleStore, "settle", hang)
    async with begin() as first:
        await first.save("timed", STEP, triggers=[every(catchup="all")])
        await stuck.wait()
        [begun] = await started(first)
    await asyncio.sleep(2)
    async with begin() as heir:
        await until(heir, lambda schedule: schedule.fired_count >= 5)
        runs = await started(heir)
    times = moments(runs)
    assert runs[0]["run"] == begun["run"]
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]


async def test_a_zombie_starts_nothing(begin, database_dsn, monkeypatch):
    """It found a firing due and lost the shard before it began the run: the heir's run is the only one."""
    found, go = asyncio.Event(), asyncio.Event()
    real = scheduler.Scheduler._fire
    outcomes = []

    async def late(self, due, lease):
        if not found.is_set():
            found.set()
            await go.wait()
            try:
                await real(self, due, lease)
            except ShardLost as error:
                outcomes.append(error)
                raise
        else:
            await real(self, due, lease)

    monkeypatch.setattr(scheduler.Scheduler, "_fire", late)
    async with begin() as zombie:
        await zombie.save("timed", STEP, triggers=[every("1h", anchor=soon().isoformat())])
        await found.wait()
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:
            await connection.execute("UPDATE orchestrator.shards SET fencing_token = fencing_token + 1")
        go.set()
        await until(zombie, lambda schedule: schedule.fired_count == 1)
        async with asyncio.timeout(20):
            while not outcomes:
                await asyncio.sleep(0.05)
        assert len(await started(zombie)) == 1


def soon() -> datetime:
    """A whole second about a second from now."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)


async def test_the_clock_of_the_process_says_nothing(begin, monkeypatch):
    """Hours ahead: nothing is fired early, and what a run is started for is a moment of the database."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=7)

    monkeypatch.setattr(clock, "datetime", Ahead)
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every()])
        await until(client, lambda schedule: schedule.fired_count >= 2)
        times = moments(await started(client))
    assert all(abs(datetime.now(UTC) - time) < timedelta(seconds=60) for time in times)


@pytest.mark.parametrize(("catchup", "expected"), [("none", 0), ("last", 1), ("all", 5)])
async def test_after_an_absence_catchup_decides(begin, database_dsn, catchup, expected):
    """Five firings of an hour each were missed."""
    async with begin() as client:
        # Of the five moments the newest is at least a minute old, so that nothing is fired as merely late.
        now = datetime.now(UTC)
        anchor = now.replace(microsecond=0) - timedelta(minutes=30)
        await client.save("timed", STEP, triggers=[every("1h", catchup=catchup, anchor=anchor.isoformat())])
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:
            oldest = anchor - timedelta(hours=4)
            await connection.execute(
                "UPDATE orchestrator.schedules SET scheduled_for = %(at)s, fire_at = %(at)s", {"at": oldest}
            )
        schedule = await until(client, lambda each: each.fired_count + each.missed_count == 5)
        times = moments(await started(client))
    assert times == [anchor - timedelta(hours=n) for n in reversed(range(expected))]
    assert (schedule.fired_count, schedule.missed_count) == (expected, 5 - expected)
    assert schedule.next.scheduled_for.ToDatetime(UTC) == anchor + timedelta(hours=1)


async def test_skip_waits_for_the_earlier_run_and_cancel_ends_it(begin, mesh):
    """While a run goes on: no other one with skip; with cancel it is cancelled, and the next one runs."""
    go = asyncio.Event()

    async def work(given, envelope, context):
        await go.wait()
        return {}

    mesh.script = work
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(overlap="skip")])
        schedule = await until(client, lambda each: each.skipped_count >= 2)
        assert schedule.fired_count == 1
        [only] = await started(client)
        go.set()
        await client.until(only["run"], "SUCCEEDED")
        await until(client, lambda each: each.fired_count >= 2)
        go.clear()
        await replace(client, triggers=[every(overlap="cancel")])
        before = len(await started(client))
        await until(client, lambda each: each.fired_count >= before + 3)
        runs = await started(client)
        await client.until(runs[-2]["run"], "CANCELED")
        [_, asked, *_] = [
            e for e in await client.events(runs[-2]["run"]) if e["kind"] in ("RunCreated", "CancelRequested")
        ]
        await call(client, "PauseTrigger")
        go.set()
    assert asked["data"]["actor"] == "trigger:often"


async def test_a_firing_that_cannot_start_is_told_and_the_next_one_goes_on(begin):
    """Its input cannot be made, or does not fit: no run, a visible reason, and no end of the schedule."""
    fails = {"x": "{{ int(schedule.timezone) }}"}
    strict = {"type": "object", "required": ["n"]}
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every(input=fails)])
        failing = await until(client, lambda each: each.failed_count >= 2)
        await replace(client, input=strict, triggers=[every()])
        unfit = await until(client, lambda each: each.last_error.reason == "INPUT_INVALID")
        assert not await started(client)
        await replace(client, input=strict, triggers=[every(input={"n": 1})])
        fine = await until(client, lambda each: each.fired_count >= 1)
    assert failing.last_error.reason == "EXPRESSION_FAILED"
    assert "input of trigger often" in failing.last_error.message
    assert failing.last_error.scheduled_for.seconds
    assert unfit.fired_count == 0
    assert not fine.HasField("last_error")


async def test_a_start_that_nobody_can_take_now_stays_due(begin, monkeypatch):
    """A full or stopping orchestrator loses no firing."""
    full = [True]
    real = launching.Worker.full
    monkeypatch.setattr(launching.Worker, "full", lambda self, **kw: full[0] or real(self, **kw))
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("1h", catchup="none")])
        await replace(client, triggers=[every("1h", catchup="none", anchor=soon().isoformat())])
        await asyncio.sleep(2)
        await asyncio.sleep(1.5)
        waiting = await shown(client)
        assert (waiting.fired_count, waiting.failed_count, waiting.missed_count) == (0, 0, 0)
        full[0] = False
        await until(client, lambda each: each.fired_count == 1)


async def test_schedules_that_cannot_start_keep_no_other_from_firing(begin, mesh, monkeypatch):
    """Also when more of them are due, and for longer, than one look sees."""
    monkeypatch.setattr(scheduler, "PAGE", 3)
    free = asyncio.Event()

    async def hold(given, envelope, context):
        if given.get("hold"):
            await free.wait()
        return {}

    mesh.script = hold
    limited = {"concurrency": {"limit": 1, "overflow": "reject"}}
    held = {**STEP, "with": {"hold": True}}
    stuck = [{**every("1s"), "id": f"t{number}"} for number in range(8)]
    async with begin() as client:
        await client.save("stuck", held, triggers=stuck, policies=limited)
        async with asyncio.timeout(10):
            while not mesh.calls:
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)  # all the others are due, and refused
        await client.save("timed", STEP, triggers=[every("1s")])
        await until(client, lambda each: each.fired_count >= 3, seconds=10)
        free.set()


async def test_a_firing_that_a_limit_refuses_says_so_until_it_has_its_run(begin, mesh):
    """Of three firings that are due the first one begins; the schedule then stands at the second one."""
    free = asyncio.Event()

    async def hold(given, envelope, context):
        await free.wait()
        return {}

    mesh.script = hold
    limited = {"concurrency": {"limit": 1, "overflow": "reject"}}
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("1s", catchup="all")], policies=limited)
        refused = await until(client, lambda each: each.HasField("last_error"), seconds=10)
        await until(client, lambda each: each.last_error.time.seconds > refused.last_error.time.seconds)
        again = await shown(client)
        free.set()
        after = await until(client, lambda each: each.fired_count >= 4, seconds=15)
        times = moments(await started(client))

    assert (refused.fired_count, refused.failed_count) == (1, 0)
    assert refused.last_error.reason == Reason.CONCURRENCY_LIMIT.value
    assert "timed" in refused.last_error.message
    assert refused.last_error.scheduled_for.ToDatetime(UTC) == times[1]
    assert refused.next.scheduled_for == refused.last_error.scheduled_for
    assert (again.fired_count, again.next.scheduled_for) == (1, refused.next.scheduled_for)
    assert after.failed_count == 0
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]


async def test_a_new_rule_counts_from_its_version_and_an_equal_one_changes_nothing(begin):
    """A rename, a new version, a rollback; a trigger that goes fires no more, nor a flow that is deleted."""
    async with begin() as client:
        night = {"id": "often", "type": "cron", "cron": "0 2 * * *", "timezone": "Europe/Oslo"}
        await client.save("timed", STEP, triggers=[night])
        first = (await shown(client)).next
        assert first.scheduled_for.ToDatetime(UTC) > datetime.now(UTC)
        await replace(client, triggers=[{**night, "overlap": "skip"}], vars={"n": 1})
        assert (await shown(client)).next == first
        assert (await shown(client)).overlap == "skip"
        stub = FlowServiceStub(client.channel)
        for name in ("renamed", "timed"):
            other = "timed" if name == "renamed" else "renamed"
            body = HttpBody(content_type="application/json", data=orjson.dumps({"name": name}))
            await stub.UpdateFlow(flow_pb.UpdateFlowRequest(flow_id=other, document=body))
            listed = await call(client, "GetTrigger", flow_id=name)
            assert (listed.flow_name, listed.schedule.next) == (name, first)
        await replace(client, triggers=[{**night, "timezone": "Asia/Tokyo"}])
        assert (await shown(client)).next != first
        await stub.RollbackFlow(flow_pb.RollbackFlowRequest(flow_id="timed", version=1))
        assert (await shown(client)).next == first
        await replace(client, triggers=[{**night, "cron": "0 3 * * *"}])
        assert (await shown(client)).next != first
        await replace(client, triggers=[every()])
        await until(client, lambda each: each.fired_count >= 1)
        await replace(client, triggers=[{"id": "often", "type": "manual"}])
        assert not (await call(client, "GetTrigger")).HasField("schedule")
        await asyncio.sleep(0.5)
        before = len(await started(client))
        await asyncio.sleep(1.5)
        assert len(await started(client)) == before
        await replace(client, triggers=[every()])
        await until(client, lambda each: each.fired_count >= 1)
        await FlowServiceStub(client.channel).DeleteFlow(flow_pb.DeleteFlowRequest(flow_id="timed"))
        await asyncio.sleep(0.5)
        gone = len(await started(client))
        await asyncio.sleep(1.5)
        assert len(await started(client)) == gone


async def test_jitter_delays_each_firing_and_names_it_as_before(begin):
    """Within its width, and the moment that the rule names stays the name."""
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("2s", jitter="1s")])
        await until(client, lambda each: each.fired_count >= 3)
        schedule = await shown(client)
        runs = await started(client)
        preview = await call(client, "PreviewTrigger", count=20)
    assert all(time.microsecond == 0 and time.second % 2 == 0 for time in moments(runs))
    late = [f.fire_time.ToMilliseconds() - f.scheduled_for.ToMilliseconds() for f in preview.firings]
    assert all(0 <= each < 1000 for each in late)
    assert len(set(late)) > 10
    assert schedule.last.fire_time.ToMilliseconds() >= schedule.last.scheduled_for.ToMilliseconds()
    for run, time in zip(runs, moments(runs), strict=True):
        assert datetime.fromisoformat(run["recorded"]) >= time


async def test_a_manual_trigger_takes_what_fits_its_form(begin):
    """One run per request id; what does not fit starts none and says where."""
    trigger = {
        "id": "often",
        "type": "manual",
        "title": "Refund an order",
        "description": "Gives the money back.",
        "form": {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}},
        "input": {"id": "{{ form.order }}", "limit": "{{ vars.limit }}"},
    }

    def form(value: Any) -> HttpBody:
        return HttpBody(content_type="application/json", data=orjson.dumps(value))

    async with begin() as client:
        await client.save("timed", STEP, triggers=[trigger], vars={"limit": 5})
        got = await call(client, "GetTrigger")
        run = orjson.loads(
            (await call(client, "FireTrigger", form=form({"order": "o1"}), request_id="r")).data
        )
        again = orjson.loads(
            (await call(client, "FireTrigger", form=form({"order": "o1"}), request_id="r")).data
        )
        reused = await refusal(call(client, "FireTrigger", form=form({"order": "o2"}), request_id="r"))
        unfit = await refusal(call(client, "FireTrigger", form=form({"order": 5})))
        nothing = await refusal(call(client, "FireTrigger"))
        await client.until(run["id"], "SUCCEEDED")
        step = (await client.steps(run["id"]))["a"]["input"]
    assert (got.type, got.title, got.description) == (
        pb.Trigger.MANUAL,
        trigger["title"],
        trigger["description"],
    )
    assert orjson.loads(got.form) == trigger["form"]
    assert run["id"] == again["id"]
    assert (run["input"], run["trigger"], run["actor"]) == ({"id": "o1", "limit": 5}, "often", "anonymous")
    assert step["trigger"] == {"type": "manual", "id": "often"}
    assert reused.reason is Reason.REQUEST_ID_REUSED
    assert (unfit.reason, unfit.violations[0].pointer) == (Reason.INPUT_INVALID, "/order")
    assert nothing.reason is Reason.INPUT_INVALID


async def test_a_trigger_does_what_its_type_can(begin):
    """No pause of what is no schedule, no webhook by hand, no form for a schedule, nothing unknown."""
    hook = {"id": "hook", "type": "webhook", "path": "orders"}
    hand = {"id": "hand", "type": "manual"}
    async with begin() as client:
        await client.save("timed", STEP, triggers=[every("1h"), hook, hand])
        for trigger_id in ("hook", "hand"):
            for method in ("PauseTrigger", "ResumeTrigger", "PreviewTrigger"):
                error = await refusal(call(client, method, trigger_id=trigger_id))
                assert error.reason is Reason.TRIGGER_TYPE_UNSUITED
        fired = await refusal(call(client, "FireTrigger", trigger_id="hook"))
        assert fired.reason is Reason.TRIGGER_TYPE_UNSUITED
        assert "/hooks/orders" in fired.message
        form = HttpBody(content_type="application/json", data=b"{}")
        assert (await refusal(call(client, "FireTrigger", form=form))).reason is Reason.ARGUMENT_INVALID
        assert (await refusal(call(client, "PreviewTrigger", count=101))).reason is Reason.ARGUMENT_INVALID
        for method in ("PauseTrigger", "ResumeTrigger", "PreviewTrigger", "FireTrigger"):
            assert (await refusal(call(client, method, trigger_id="x"))).reason is Reason.TRIGGER_NOT_FOUND
            assert (await refusal(call(client, method, flow_id="x"))).reason is Reason.FLOW_NOT_FOUND
        page = await TriggerServiceStub(client.channel).ListTriggers(pb.ListTriggersRequest(flow_id="timed"))
    assert [(each.id, each.type) for each in page.triggers] == [
        ("hand", pb.Trigger.MANUAL),
        ("hook", pb.Trigger.WEBHOOK),
        ("often", pb.Trigger.INTERVAL),
    ]
    assert [each.HasField("schedule") for each in page.triggers] == [False, False, True]
