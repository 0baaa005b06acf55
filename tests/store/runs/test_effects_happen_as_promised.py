"""An effect is claimed before it happens; what nobody knows is parked, never repeated."""

import asyncio

import grpc
import psycopg
import pytest

from reflux.core.errors import Refused
from reflux.core.reasons import Reason
from reflux.orchestrator.store import lane
from tests.support.scripted_mesh import claim

ONCE = {"id": "pay", "node": "work.once", "with": {"amount": 3}, "retry": {"attempts": 3, "delay": "10ms"}}


async def test_a_claimed_effect_is_journaled_before_it_is_granted(begin, mesh):
    """Started, claimed, finished: in this order, each durable before the next can happen."""

    async def act(given, envelope, context):
        await claim(envelope)
        return {"paid": given["amount"]}

    mesh.script = act
    async with begin() as client:
        run = await client.start(await client.save("pays", ONCE), wait="10s")
        events = [(event["kind"], event["step"]) for event in await client.events(run["id"])]

    assert run["state"] == "SUCCEEDED"
    assert events == [
        ("RunCreated", ""),
        ("AttemptStarted", "pay"),
        ("EffectClaimed", "pay"),
        ("AttemptFinished", "pay"),
        ("RunFinished", ""),
    ]
    assert mesh.calls[0]["x-reflux-lane"] == "safe"


async def test_a_claimed_effect_without_an_answer_parks_the_step(begin, mesh):
    """Nobody knows whether it happened, so it is not repeated: whatever `retry` and `on_error` say."""

    async def vanish(given, envelope, context):
        await claim(envelope)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the provider hung up")

    mesh.script = vanish
    async with begin() as client:
        run = await client.start(await client.save("parks", {**ONCE, "on_error": "continue"}), wait="10s")
        step = (await client.steps(run["id"]))["pay"]

    assert run["state"] == "PARKED"
    assert step["state"] == "PARKED"
    assert step["error"]["reason"] == "EFFECT_AMBIGUOUS"
    assert step["attempts"][0]["outcome"] == "AMBIGUOUS"
    assert mesh.count("pay") == 1


async def test_an_unclaimed_failure_is_tried_again(begin, mesh):
    """Without a claim nothing can have happened, whatever the transport says, so `retry` may act."""

    async def fail_twice(given, envelope, context):
        if envelope["x-reflux-attempt"] != "3":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        await claim(envelope)
        return {}

    mesh.script = fail_twice
    async with begin() as client:
        run = await client.start(await client.save("retries", ONCE), wait="10s")
        step = (await client.steps(run["id"]))["pay"]

    assert run["state"] == "SUCCEEDED"
    assert [attempt["outcome"] for attempt in step["attempts"]] == ["NOT_SENT", "NOT_SENT", "DONE"]


async def test_a_node_that_cannot_reach_its_orchestrator_costs_only_patience(begin, mesh):
    """Right after a restart a node may not be connected yet: its claim fails, nothing was done."""

    async def act_at_third(given, envelope, context):
        if len(mesh.calls) < 3:
            raise Refused(Reason.CLAIM_REFUSED, "the effect may not be done: connection refused")
        await claim(envelope)
        return {}

    mesh.script = act_at_third
    async with begin() as client:
        flow = await client.save("unreached", {"id": "pay", "node": "work.once"})
        run = await client.start(flow, wait="20s")
        attempts = (await client.steps(run["id"]))["pay"]["attempts"]

    assert run["state"] == "SUCCEEDED"
    assert [attempt["outcome"] for attempt in attempts] == ["NOT_SENT", "NOT_SENT", "DONE"]


async def test_only_the_first_execution_may_act(begin, mesh):
    """Two tries of one attempt both reach a node: the second one is refused its claim."""
    refusals = []

    async def both(given, envelope, context):
        await claim(envelope, execution="first")
        await claim(envelope, execution="first")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await claim(envelope, execution="second")
        refusals.append(refused.value.code())
        return {}

    mesh.script = both
    async with begin() as client:
        run = await client.start(await client.save("twice", ONCE), wait="10s")

    assert run["state"] == "SUCCEEDED"
    assert refusals == [grpc.StatusCode.FAILED_PRECONDITION]


async def test_after_a_cancel_nothing_may_act(begin, mesh):
    """Once the cancel is acknowledged an attempt in flight that has not claimed is refused."""
    reached, cancelled, refused = asyncio.Event(), asyncio.Event(), []

    async def late(given, envelope, context):
        reached.set()
        await cancelled.wait()
        try:
            await claim(envelope)
        except grpc.aio.AioRpcError as error:
            refused.append(error.code())
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not processed")

    mesh.script = late
    async with begin() as client:
        run = await client.start(await client.save("late", ONCE))
        await reached.wait()
        acknowledged = await client.cancel(run["id"])
        cancelled.set()
        final = await client.until(run["id"], "CANCELED")

    assert acknowledged["state"] == "CANCELING"
    assert refused == [grpc.StatusCode.FAILED_PRECONDITION]
    assert final["unresolved_effects"] == []


async def test_a_cancel_lists_the_effects_that_nobody_knows(begin, mesh):
    """A parked step does not hold a cancel up, and is not forgotten by it."""

    async def vanish(given, envelope, context):
        await claim(envelope)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    mesh.script = vanish
    async with begin() as client:
        run = await client.start(await client.save("unknown", ONCE), wait="10s")
        final = await client.cancel(run["id"])
        again = await client.cancel(run["id"])

    assert run["state"] == "PARKED"
    assert final["state"] == "CANCELED"
    assert final["unresolved_effects"] == ["pay"]
    assert again == final


async def test_a_claim_that_its_node_no_longer_waits_for_harms_nothing(begin, mesh, database_dsn):
    """The commit of a claim is not the caller's to cancel: the run goes on, and it can be asked again."""

    async def impatient(given, envelope, context):
        async with await psycopg.AsyncConnection.connect(database_dsn) as slow:
            await slow.execute("LOCK orchestrator.journal IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await claim(envelope, seconds=0.3)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await claim(envelope)
        return {}

    mesh.script = impatient
    async with begin() as client:
        run = await client.start(await client.save("impatient", ONCE), wait="20s")
        kinds = [event["kind"] for event in await client.events(run["id"])]

    assert run["state"] == "SUCCEEDED"
    assert kinds.count("EffectClaimed") == 1


async def test_a_claim_that_cannot_be_recorded_is_refused(begin, mesh, monkeypatch):
    """Without room to write there is no claim; the run is read again, and its second attempt acts once."""
    refusals = []

    async def ask_without_room(envelope):
        monkeypatch.setattr(lane, "QUEUE_BYTES", 0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await claim(envelope)
        monkeypatch.undo()
        refusals.append(refused.value.code())

    async def act(given, envelope, context):
        if not refusals:
            # Shielded: the run is dropped, and the call with it, before the refusal arrives.
            await asyncio.shield(asyncio.ensure_future(ask_without_room(envelope)))
            await context.abort(grpc.StatusCode.ABORTED, "refused its claim")
        await claim(envelope)
        return {"paid": True}

    mesh.script = act
    async with begin() as client:
        run = await client.start(await client.save("no-room", ONCE))
        final = await client.until(run["id"], "SUCCEEDED", "PARKED", "FAILED")
        kinds = [event["kind"] for event in await client.events(run["id"])]

    assert refusals == [grpc.StatusCode.FAILED_PRECONDITION]
    assert final["state"] == "SUCCEEDED"
    assert kinds.count("EffectClaimed") == 1
