"""A signal reaches the run that waits for it, wherever that is, once; its sender learns what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
import pytest

from reflux.orchestrator import metrics
from reflux.orchestrator.intake import Intake
from reflux.orchestrator.journal_reader import JournalReader
from tests.store.runs.speaking import refusal, say, send

if TYPE_CHECKING:
    from tests.support.scripted_mesh import Client

WAIT = {"id": "w", "wait": {"signal": "shipped"}}
KEYED = {"id": "w", "wait": {"signal": "shipped", "key": "{{ input.order }}"}}
GIVE = {"id": "r", "return": "{{ steps.w.output }}"}


async def waits(client: Client, run_id: str, step: str = "w") -> None:
    async with asyncio.timeout(20):
        while (await client.steps(run_id))[step]["state"] != "RUNNING":
            await asyncio.sleep(0.02)


async def rows(dsn: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(statement, values)).fetchall()


async def eventually(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_a_run_that_waits_for_a_signal_is_a_row_and_the_signal_wakes_it(begin, database_dsn):
    """It leaves memory without a timer, no takeover takes it into memory, and it is nobody's recovery."""
    async with begin() as client:
        run = await client.start(await client.save("waits", WAIT, GIVE))
        await waits(client, run["id"])

        async def gone() -> bool:
            return sum(metrics.RUNS_LOADED.series().values()) == 0

        await eventually(gone)
        waiting = (await client.run(run["id"]))["waiting"]
        assert waiting == {"why": "step w: waits for the signal shipped", "until": None}
    [(year, recoveries)] = await rows(
        database_dsn,
        "SELECT extract(year FROM wake_at)::int, recoveries FROM orchestrator.runs WHERE id = %s",
        run["id"],
    )
    assert (year, recoveries) == (9999, 0)
    async with begin() as client:
        receipt = await say(
            client, "SignalRun", run["id"], name="shipped", payload={"box": 7}, signal_id="s1"
        )
        final = await client.until(run["id"], "SUCCEEDED")
        kinds = [event["kind"] for event in await client.events(run["id"])]
    assert receipt == {"run_id": run["id"], "signal_id": "s1", "step": "w"}
    assert final["output"] == {"box": 7}
    assert "RunRecovered" not in kinds


async def test_a_signal_is_said_once_however_often_it_is_sent(begin):
    """At once, from several senders, and when the run has long finished: the same answer each time."""
    async with begin() as client:
        run = await client.start(await client.save("once", WAIT, GIVE))
        await waits(client, run["id"])
        same = {"name": "shipped", "payload": 1, "signal_id": "s1"}
        receipts = await asyncio.gather(*(say(client, "SignalRun", run["id"], **same) for _ in range(8)))
        await client.until(run["id"], "SUCCEEDED")
        receipts.append(await say(client, "SignalRun", run["id"], **same))
        kinds = [event["kind"] for event in await client.events(run["id"])]
    assert receipts == [{"run_id": run["id"], "signal_id": "s1", "step": "w"}] * 9
    assert kinds.count("SignalReceived") == 1


async def test_another_payload_under_the_same_id_is_refused(begin):
    """Sent to a run or under a key, kept or taken; the first one stands, and is answered as before."""
    async with begin() as client:
        run = await client.start(await client.save("reused", WAIT, GIVE))
        first = {"name": "shipped", "payload": {"n": 1}, "signal_id": "s1"}
        receipt = await say(client, "SignalRun", run["id"], **first)
        other = await refusal(say(client, "SignalRun", run["id"], **{**first, "payload": {"n": 2}}))
        final = await client.until(run["id"], "SUCCEEDED")
        assert await say(client, "SignalRun", run["id"], **first) == {**receipt, "step": "w"}
        keyed = {"key": "7", "payload": 1, "signal_id": "k1"}
        kept = await send(client, "shipped", **keyed)
        under_key = await refusal(send(client, "shipped", **{**keyed, "payload": 2}))
        again = await send(client, "shipped", **keyed)
    for refused in (other, under_key):
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert final["output"] == {"n": 1}
    assert again == kept


async def test_a_signal_before_its_wait_is_kept_for_it(begin, mesh):
    """The sender learns that no step has taken it yet; the wait that begins takes it at once."""
    go = asyncio.Event()

    async def slow(given, envelope, context):
        await go.wait()
        return {}

    mesh.script = slow
    async with begin() as client:
        flow = await client.save("early", {"id": "a", "node": "work.pure"}, WAIT, GIVE)
        run = await client.start(flow)
        receipt = await say(client, "SignalRun", run["id"], name="shipped", payload="early")
        go.set()
        final = await client.until(run["id"], "SUCCEEDED")
    assert receipt["step"] == ""
    assert final["output"] == "early"


async def test_senders_learn_why_a_signal_is_refused(begin):
    """A finished run, a name that no step waits for, and a run that is not there."""
    async with begin() as client:
        run = await client.start(await client.save("refuses", WAIT))
        unknown = await refusal(say(client, "SignalRun", run["id"], name="shiped"))
        await say(client, "TerminateRun", run["id"])
        finished = await refusal(say(client, "SignalRun", run["id"], name="shipped"))
        nobody = "01900000-0000-7000-8000-000000000000"
        missing = await refusal(say(client, "SignalRun", nobody, name="shipped"))
        large = await refusal(say(client, "SignalRun", run["id"], name="shipped", payload="x" * 70_000))
        field = await refusal(say(client, "SignalRun", run["id"], name="shipped", playload=1))
    failed = grpc.StatusCode.FAILED_PRECONDITION
    assert (unknown.code, unknown.reason, unknown.metadata) == (
        failed,
        "SIGNAL_UNKNOWN",
        {"signals": "shipped"},
    )
    assert (finished.code, finished.reason) == (failed, "RUN_FINISHED")
    assert finished.metadata == {"run_state": "CANCELED"}
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    assert (large.code, large.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_TOO_LARGE")
    assert (field.code, field.violations[0].pointer) == (grpc.StatusCode.INVALID_ARGUMENT, "/playload")


async def test_of_a_signal_and_a_timeout_one_wins_and_the_sender_learns_which(begin):
    """At the very moment: who was told that a step took it finds it in the output, and nobody else."""
    step = {"id": "w", "wait": {"signal": "shipped", "timeout": "2s", "on_timeout": "continue"}}
    async with begin() as client:
        flow = await client.save("race", step, GIVE)

        async def late(number: int) -> tuple[bool, Any]:
            run_id = (await client.start(flow))["id"]
            await asyncio.sleep(0.4 * number)
            try:
                receipt = await say(client, "SignalRun", run_id, name="shipped", payload="signal")
                told = receipt["step"] == "w"
            except grpc.aio.AioRpcError:
                told = False
            return told, (await client.until(run_id, "SUCCEEDED"))["output"]

        told, outputs = zip(*await asyncio.gather(*(late(number) for number in range(10))), strict=True)
    assert tuple(output == "signal" for output in outputs) == told
    assert any(told)
    assert not all(told)


async def test_a_signal_finds_every_run_that_waits_under_its_key(begin, database_dsn):
    """And none that waits under another one; the index is empty when nobody waits any more."""
    async with begin() as client:
        flow = await client.save("keyed", KEYED, GIVE)
        one, two, other = [(await client.start(flow, {"order": key}))["id"] for key in ("a", "a", "b")]
        for run_id in (one, two, other):
            await waits(client, run_id)
        sent = await send(client, "shipped", key="a", payload=5, signal_id="x")
        again = await send(client, "shipped", key="a", payload=5, signal_id="x")
        outputs = [(await client.until(run_id, "SUCCEEDED"))["output"] for run_id in (one, two)]
        assert (await client.run(other))["state"] == "RUNNING"
        await client.cancel(other)
    assert sorted(sent["run_ids"]) == sorted([one, two])
    assert sent["keep_time"] is None
    assert sorted(again["run_ids"]) == sorted(sent["run_ids"])
    assert outputs == [5, 5]
    assert await rows(database_dsn, "SELECT * FROM orchestrator.signal_waits") == []


async def test_a_run_that_waits_twice_under_a_key_gets_a_signal_for_each_wait(begin, database_dsn):
    """Which of its steps takes a signal is the run's to say; the others are found by those that follow."""
    items = [{"id": f"i{number}"} for number in range(11)]
    loop = {
        "id": "all",
        "foreach": {"in": "{{ input.items }}", "as": "it", "parallel": 11},
        "steps": [{"id": "w", "wait": {"signal": "shipped", "key": "one"}}],
    }
    async with begin() as client:
        run = await client.start(await client.save("twice", loop), {"items": items})

        async def all_wait() -> bool:
            return len(await rows(database_dsn, "SELECT * FROM orchestrator.signal_waits")) == 11

        await eventually(all_wait)
        for number in range(11):
            sent = await send(client, "shipped", key="one", payload=number, signal_id=f"s{number}")
            assert sent["run_ids"] == [run["id"]], number
        final = await client.until(run["id"], "SUCCEEDED")
    assert final["output"] == list(range(11))
    assert await rows(database_dsn, "SELECT * FROM orchestrator.signal_waits") == []


async def test_two_signals_are_never_taken_for_one(begin, database_dsn):
    """Whatever their keys and ids are made of."""
    both = {
        "id": "all",
        "foreach": {"in": ["a:b", "a"], "as": "key", "parallel": 2},
        "steps": [{"id": "w", "wait": {"signal": "shipped", "key": "{{ key }}"}}],
    }
    async with begin() as client:
        run = await client.start(await client.save("alike", both))

        async def both_wait() -> bool:
            return len(await rows(database_dsn, "SELECT * FROM orchestrator.signal_waits")) == 2

        await eventually(both_wait)
        await send(client, "shipped", key="a:b", payload=1, signal_id="c")
        await send(client, "shipped", key="a", payload=2, signal_id="b:c")
        final = await client.until(run["id"], "SUCCEEDED")
    assert final["output"] == [1, 2]


async def test_a_signal_that_nobody_waits_for_is_kept_for_the_first_wait(begin):
    """Two are taken in order by two waits; the same id is the same signal."""
    async with begin() as client:
        flow = await client.save("kept", KEYED, GIVE)
        first = await send(client, "shipped", key="k", payload=1, signal_id="one")
        await send(client, "shipped", key="k", payload=1, signal_id="one")
        await send(client, "shipped", key="k", payload=2, signal_id="two")
        assert first["run_ids"] == []
        assert first["keep_time"] is not None
        outputs = [
            (await client.until((await client.start(flow, {"order": "k"}))["id"], "SUCCEEDED"))["output"]
        ]
        outputs.append(
            (await client.until((await client.start(flow, {"order": "k"}))["id"], "SUCCEEDED"))["output"]
        )
        third = await client.start(flow, {"order": "k"})
        await waits(client, third["id"])
        await asyncio.sleep(0.3)
        assert (await client.run(third["id"]))["state"] == "RUNNING"
        taken = await send(client, "shipped", key="k", payload=1, signal_id="one")
    assert outputs == [1, 2]
    assert taken["run_ids"] != [third["id"]]


async def test_a_signal_that_a_run_does_not_take_goes_to_the_next(begin, database_dsn):
    """Given to a run that finishes at that moment: it is not lost with it."""
    async with begin() as client:
        flow = await client.save("returns", KEYED, GIVE)
        run = await client.start(flow, {"order": "k"})
        await waits(client, run["id"])
        await client.cancel(run["id"])
        # As if it had been given to the run before its end was durable.
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:
            await connection.execute("SET search_path TO orchestrator")
            await send(client, "shipped", key="k", payload=9, signal_id="s")
            await connection.execute("UPDATE signals SET run_ids = ARRAY[%s::uuid]", (run["id"],))
            await connection.execute(
                "INSERT INTO inbox (shard, run_id, kind, payload, created_at, signal)"
                " SELECT runs.shard, runs.id, 'signal', signals.word, now(), signals.id FROM runs, signals"
                " WHERE runs.id = %s",
                (run["id"],),
            )
        heir = await client.start(flow, {"order": "k"})
        final = await client.until(heir["id"], "SUCCEEDED")
    assert final["output"] == 9


async def test_so_many_signals_are_kept_under_a_key_and_no_more(begin, monkeypatch):
    """The sender is told; another key has room."""
    monkeypatch.setattr("reflux.orchestrator.words.signals.MAX_KEPT", 3)
    async with begin() as client:
        for number in range(3):
            await send(client, "shipped", key="full", payload=number)
        full = await refusal(send(client, "shipped", key="full", payload=4))
        other = await send(client, "shipped", key="other", payload=4)
    assert (full.code, full.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SIGNALS_FULL")
    assert other["run_ids"] == []


async def test_a_signal_to_a_run_owned_elsewhere_reaches_it(begin):
    """Any orchestrator takes it; the owner folds it."""
    async with begin() as one, begin() as two:
        flow = await one.save("elsewhere", WAIT, GIVE)
        ids = [(await one.start(flow))["id"] for _ in range(6)]
        receipts = [await say(two, "SignalRun", run_id, name="shipped", payload=1) for run_id in ids]
        for run_id in ids:
            await two.until(run_id, "SUCCEEDED")
    assert all(receipt["run_id"] in ids for receipt in receipts)


@pytest.mark.parametrize("key", ["", "k" * 201])
async def test_a_key_that_can_be_none_is_refused(begin, key):
    """Before anything is kept."""
    async with begin() as client:
        wrong = await refusal(send(client, "shipped", key=key))
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ARGUMENT_INVALID")


async def test_who_waits_for_an_answer_does_not_read_the_run_over_and_over(begin, mesh, monkeypatch):
    """However busy it is: its journal may be long, and shows nothing as long as the word is in the inbox."""
    reads = 0
    state = JournalReader.state

    async def counted(self, run_id):
        nonlocal reads
        reads += 1
        return await state(self, run_id)

    async def slowly(given, envelope, context):
        await asyncio.sleep(0.02)
        return {}

    mesh.script = slowly
    loop = {
        "id": "all",
        "foreach": {"in": "{{ input.items }}", "as": "n", "parallel": 1},
        "steps": [{"id": "s", "node": "work.pure"}],
    }
    async with begin() as client:
        run = await client.start(await client.save("busy", loop), {"items": [*range(400)]})
        monkeypatch.setattr(Intake, "look", lambda _: None)  # the owner hears at its next look at the tables
        monkeypatch.setattr(JournalReader, "state", counted)
        paused = await say(client, "PauseRun", run["id"], request_id="p")
        again = await say(client, "PauseRun", run["id"], request_id="p")
        await client.cancel(run["id"])
    assert (paused["state"], again["state"]) == ("PAUSED", "PAUSED")
    assert reads <= 6, "one to judge each word, one for each answer"
