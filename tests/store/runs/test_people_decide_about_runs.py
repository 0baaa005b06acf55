"""Approvals, pauses, and decisions about steps, as clients of any orchestrator make them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import orjson
import pytest

from reflux.api.run.v1 import run_service_pb2 as pb
from reflux.runtime import rpc
from tests.store.runs.speaking import body, refusal, say
from tests.support.scripted_mesh import claim

if TYPE_CHECKING:
    from tests.support.scripted_mesh import Client

FAILED = grpc.StatusCode.FAILED_PRECONDITION
INVALID = grpc.StatusCode.INVALID_ARGUMENT
FORM = {"type": "object", "required": ["limit"], "properties": {"limit": {"type": "integer"}}}
ASK = {
    "id": "ok",
    "approve": {"form": FORM, "message": "Pay {{ input.n }}?", "who": ["ada"], "timeout": "1h"},
}
GIVE = {"id": "r", "return": "{{ steps.ok.output }}"}
ONCE = {"id": "pay", "node": "work.once"}


async def asks(client: Client, flow: str, **given: Any) -> str:
    """A run that waits for an answer."""
    run_id = (await client.start(flow, given))["id"]
    async with asyncio.timeout(20):
        while (await client.steps(run_id))["ok"]["approval"] is None:
            await asyncio.sleep(0.02)
    return run_id


async def by_token(client: Client, verb: str, **document: Any) -> dict[str, Any]:
    request = getattr(pb, f"{verb}Request")(document=body(document))
    return orjson.loads((await getattr(client.runs, verb)(request, timeout=20)).data)


async def token_of(client: Client, run_id: str, step: str = "ok") -> str:
    return (await client.runs.GetApprovalToken(pb.GetApprovalTokenRequest(run_id=run_id, step=step))).token


async def parked(client: Client, mesh: Any, name: str, *rest: dict[str, Any]) -> str:
    """A run whose step `pay` is PARKED."""

    async def vanish(given, envelope, context):
        await claim(envelope)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the provider hung up")

    mesh.script = vanish
    run = await client.start(await client.save(name, ONCE, *rest), wait="20s")
    assert run["state"] == "PARKED"
    return run["id"]


async def test_the_first_answer_counts_and_the_second_is_told_whose_it_was(begin):
    """What is asked is shown; what was answered is the output; the same answer again is answered alike."""
    async with begin() as client:
        run_id = await asks(
            client, await client.save("asks", ASK, GIVE, {"id": "z", "wait": {"for": "1h"}}), n=3
        )
        asked = (await client.steps(run_id))["ok"]
        waiting = (await client.run(run_id))["waiting"]
        wrong = await refusal(say(client, "AnswerStep", run_id, "ok", approved=True, form={"limit": "x"}))
        await say(client, "AnswerStep", run_id, "ok", approved=True, form={"limit": 5}, request_id="a")
        await say(client, "AnswerStep", run_id, "ok", approved=True, form={"limit": 5}, request_id="a")
        final = await client.until(run_id, "SUCCEEDED")
        step = (await client.steps(run_id))["ok"]
        finished = await refusal(say(client, "AnswerStep", run_id, "ok", approved=False))
    assert asked["approval"] | {"until": ""} == {
        "message": "Pay 3?",
        "form": FORM,
        "who": ["ada"],
        "until": "",
        "answered_by": "",
        "approved": False,
        "answer_time": None,
        "comment": "",
    }
    assert waiting["why"] == "step ok: waits for an answer of ada"
    assert waiting["until"] == asked["approval"]["until"]
    assert (wrong.code, wrong.reason, wrong.violations[0].pointer) == (INVALID, "FORM_INVALID", "/form/limit")
    assert (final["output"]["approved"], final["output"]["form"]) == (True, {"limit": 5})
    assert (step["approval"]["answered_by"], step["approval"]["approved"]) == ("anonymous", True)
    assert (finished.code, finished.reason) == (FAILED, "APPROVAL_ANSWERED")
    assert (finished.metadata["actor"], finished.metadata["approved"]) == ("anonymous", "true")


async def test_of_many_answers_at_once_one_counts(begin):
    """Everybody else learns who was first."""
    async with begin() as client:
        hold = {"id": "z", "wait": {"for": "1h"}}
        run_id = await asks(client, await client.save("many", {"id": "ok", "approve": {}}, hold))
        answers = [say(client, "AnswerStep", run_id, "ok", approved=bool(n % 2)) for n in range(8)]
        results = await asyncio.gather(*answers, return_exceptions=True)
        events = [event["kind"] for event in await client.events(run_id)]
        late = await refusal(say(client, "AnswerStep", run_id, "ok", approved=True))
    assert sum(isinstance(result, dict) for result in results) == 1
    assert events.count("StepAnswered") == 1
    assert (late.code, late.reason) == (FAILED, "APPROVAL_ANSWERED")
    assert late.metadata["actor"] == "anonymous"


async def test_one_request_id_gives_one_answer(begin):
    """Who says something else with it, then or at the same time, is refused, and says it with another."""
    async with begin() as client:
        flow = await client.save("ids", {"id": "ok", "approve": {}}, {"id": "z", "wait": {"for": "1h"}})
        run_id = await asks(client, flow)
        both = [
            say(client, "AnswerStep", run_id, "ok", approved=n % 2 == 0, request_id="q") for n in range(6)
        ]
        results = await asyncio.gather(*both, return_exceptions=True)
        approved = (await client.steps(run_id))["ok"]["approval"]["approved"]
        events = [event["kind"] for event in await client.events(run_id)]
        ended = await refusal(say(client, "TerminateRun", run_id, request_id="q"))
        still = (await client.run(run_id))["state"]
        await say(client, "TerminateRun", run_id, request_id="r")
    for n, result in enumerate(results):
        if (n % 2 == 0) is approved:
            assert isinstance(result, dict), result
        else:
            assert isinstance(result, grpc.aio.AioRpcError)
            failure = rpc.read(result)
            assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert events.count("StepAnswered") == 1
    assert (ended.reason, ended.metadata, still) == ("REQUEST_ID_REUSED", {"request_id": "q"}, "RUNNING")


async def test_a_token_is_enough_to_see_and_answer_its_step_and_nothing_else(begin):
    """It is derived, the same from every orchestrator; one for another step, or changed, opens nothing."""
    async with begin() as client:
        flow = await client.save("tokens", ASK, GIVE)
        run_id, other = await asks(client, flow, n=3), await asks(client, flow, n=4)
        token = await token_of(client, run_id)
        assert token == await token_of(client, run_id)
        assert token != await token_of(client, other)
    async with begin() as client:
        assert token == await token_of(client, run_id)
        shown = await by_token(client, "ShowApproval", token=token)
        changed = (_changed(token, place) for place in (0, 20, len(token) - 2))
        for forged in (*changed, token[:40], "", "é", "x" * 2000):
            refused = await refusal(by_token(client, "ShowApproval", token=forged))
            assert refused.code == INVALID
        said = {"approved": True, "form": {"limit": 1}, "by": "Bob", "comment": "fine"}
        answered = await by_token(client, "AnswerApproval", token=token, **said)
        final = await client.until(run_id, "SUCCEEDED")
        late = await refusal(by_token(client, "AnswerApproval", token=token, approved=False))
        journal = orjson.dumps(await client.events(run_id)).decode()
        assert (await client.run(other))["state"] == "RUNNING"
    assert shown["approval"]["message"] == "Pay 3?"
    assert (shown["run_id"], shown["run_state"], shown["state"]) == (run_id, "RUNNING", "RUNNING")
    assert (answered["approval"]["answered_by"], answered["approval"]["comment"]) == ("token: Bob", "fine")
    assert answered["approval"]["answer_time"] == final["output"]["at"]
    assert "output" not in shown
    assert final["output"]["by"] == "token: Bob"
    assert (late.reason, late.metadata["actor"]) == ("APPROVAL_ANSWERED", "token: Bob")
    assert token not in journal


def _changed(token: str, place: int) -> str:
    return token[:place] + ("B" if token[place] == "A" else "A") + token[place + 1 :]


async def test_only_an_approval_has_a_token(begin):
    """Neither another step nor one that is not there."""
    async with begin() as client:
        run = await client.start(await client.save("none", {"id": "w", "wait": {"for": "1h"}}))
        other = await refusal(token_of(client, run["id"], "w"))
        nobody = await refusal(token_of(client, run["id"], "zz"))
    assert (other.code, other.reason) == (FAILED, "STEP_NOT_WAITING")
    assert (nobody.code, nobody.reason) == (grpc.StatusCode.NOT_FOUND, "STEP_NOT_FOUND")


async def test_a_paused_run_begins_nothing_until_it_is_resumed(begin, mesh):
    """It leaves memory when nothing is in flight, survives its orchestrator, and goes on in any hands."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def slow(given, envelope, context):
        reached.set()
        await go.wait()
        return {}

    mesh.script = slow
    steps = ({"id": "a", "node": "work.pure"}, {"id": "b", "node": "work.pure"})
    async with begin() as client:
        run = await client.start(await client.save("pauses", *steps))
        await reached.wait()
        paused = await say(client, "PauseRun", run["id"], reason="look first", request_id="p")
        again = await refusal(say(client, "PauseRun", run["id"]))
        same = await say(client, "PauseRun", run["id"], reason="look first", request_id="p")
        go.set()
        async with asyncio.timeout(20):
            while (await client.steps(run["id"]))["a"]["state"] != "SUCCEEDED":
                await asyncio.sleep(0.02)
        listed = await client.row(run["id"], "PAUSED")
    assert (paused["state"], paused["waiting"]["why"]) == ("PAUSED", "paused by anonymous: look first")
    assert paused["pause"]["reason"] == "look first"
    assert (again.code, again.reason, again.metadata) == (FAILED, "RUN_PAUSED", {"actor": "anonymous"})
    assert same["state"] == "PAUSED"
    assert listed["state"] == "PAUSED"
    async with begin() as client:
        await asyncio.sleep(1.5)
        assert mesh.count("b") == 0
        await say(client, "ResumeRun", run["id"], reason="fine")
        final = await client.until(run["id"], "SUCCEEDED")
        idle = await refusal(say(client, "ResumeRun", run["id"]))
    assert mesh.count("b") == 1
    assert final["pause"] is None
    assert idle.reason == "RUN_FINISHED"


async def test_a_resume_gives_a_run_in_quarantine_another_chance(begin, mesh, session, monkeypatch):
    """It goes on where it stood, and its recoveries are counted anew; no pause said before stops it then."""
    reached = asyncio.Event()

    async def hang(given, envelope, context):
        reached.set()
        await asyncio.sleep(30)

    mesh.script = hang
    async with begin() as client:
        steps = {"id": "a", "node": "work.pure"}, {"id": "w", "wait": {"for": "2s"}}
        run = await client.start(await client.save("chance", *steps))
        await reached.wait()
    monkeypatch.setattr("reflux.orchestrator.intake.MAX_RECOVERIES", 0)
    async with begin() as client:
        quarantined = await client.until(run["id"], "PARKED")
        monkeypatch.undo()
        mesh.script = None
        paused = await refusal(say(client, "PauseRun", run["id"]))
        await session.execute(  # said in the moment before the quarantine
            "INSERT INTO inbox (shard, run_id, kind, payload, created_at)"
            " SELECT shard, id, 'pause', %s, now() FROM runs WHERE id = %s",
            (orjson.dumps({"id": "late", "actor": "me", "reason": ""}), run["id"]),
        )
        await say(client, "ResumeRun", run["id"], reason="mended")
        final = await client.until(run["id"], "SUCCEEDED")
    assert quarantined["error"]["reason"] == "QUARANTINED"
    assert (paused.code, paused.reason) == (FAILED, "QUARANTINED")
    assert final["error"] is None


async def test_a_terminated_run_ends_at_once_and_lists_what_may_have_happened(begin, mesh):
    """It waits for no attempt in flight; a claim after it is refused."""
    claimed, late = asyncio.Event(), asyncio.Event()
    refused = []

    async def act(given, envelope, context):
        await claim(envelope)
        claimed.set()
        try:
            await asyncio.sleep(30)
        finally:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await claim(envelope, execution="again")
            refused.append(error.value.code())
            late.set()

    mesh.script = act
    async with begin() as client:
        run = await client.start(await client.save("ends", ONCE))
        await claimed.wait()
        ended = await say(client, "TerminateRun", run["id"], reason="now")
        again = await client.cancel(run["id"])
        async with asyncio.timeout(20):
            await late.wait()
    assert (ended["state"], ended["unresolved_effects"]) == ("CANCELED", ["pay"])
    assert again == ended
    assert refused == [FAILED]


async def test_a_person_completes_a_parked_step(begin, mesh):
    """Confirmed with its output: the node is not called again."""
    async with begin() as client:
        run_id = await parked(client, mesh, "confirms", {"id": "r", "return": "{{ steps.pay.output.id }}"})
        wrong = await refusal(say(client, "CompleteStep", run_id, "pay", choice="undo"))
        odd = await refusal(say(client, "CompleteStep", run_id, "pay", choice="retry", output=1))
        await say(
            client, "CompleteStep", run_id, "pay", choice="confirm", output={"id": "ch_1"}, reason="seen"
        )
        final = await client.until(run_id, "SUCCEEDED")
        done = await refusal(say(client, "CompleteStep", run_id, "pay", choice="fail"))
        [decided] = [event for event in await client.events(run_id) if event["kind"] == "StepOverruled"]
    assert (wrong.code, odd.code) == (INVALID, INVALID)
    assert final["output"] == "ch_1"
    assert mesh.count("pay") == 1
    assert done.reason == "RUN_FINISHED"
    assert (decided["data"]["actor"], decided["data"]["reason"]) == ("anonymous", "seen")


async def test_a_retry_by_hand_is_a_new_effect(begin, mesh):
    """Another idempotency key; a version that nobody serves is refused before it fails the step."""
    async with begin() as client:
        run_id = await parked(client, mesh, "retries")
        other = await refusal(say(client, "CompleteStep", run_id, "pay", choice="fall_back", version="9.9.9"))
        mesh.script = None
        await say(client, "CompleteStep", run_id, "pay", choice="fall_back", version="1.0.0")
        await client.until(run_id, "SUCCEEDED")
    assert (other.code, other.reason) == (grpc.StatusCode.NOT_FOUND, "NODE_VERSION_NOT_FOUND")
    assert other.metadata == {"node": "work.once", "version": "9.9.9"}
    assert other.message.startswith("node work.once has no version '9.9.9': one of: 1.0.0")
    keys = [call["x-reflux-idempotency-key"] for call in mesh.calls]
    assert len(set(keys)) == 2


async def test_a_step_that_waits_is_skipped_by_hand(begin):
    """And one that is over is not."""
    async with begin() as client:
        run = await client.start(
            await client.save(
                "skips", {"id": "w", "wait": {"signal": "never"}}, {"id": "z", "wait": {"for": "1h"}}
            )
        )
        await say(client, "SkipStep", run["id"], "w", reason="not today")
        skipped = (await client.steps(run["id"]))["w"]
        over = await refusal(say(client, "SkipStep", run["id"], "w"))
    assert (skipped["state"], skipped["skip_reason"]) == ("SKIPPED", "hand")
    assert (over.code, over.reason, over.metadata) == (FAILED, "STEP_NOT_WAITING", {"step_state": "SKIPPED"})


async def test_completing_a_step_that_is_not_parked_is_refused(begin):
    """With where it stands."""
    async with begin() as client:
        run = await client.start(await client.save("waits", {"id": "w", "wait": {"for": "1h"}}))
        async with asyncio.timeout(20):
            while (await client.steps(run["id"]))["w"]["state"] != "RUNNING":
                await asyncio.sleep(0.02)
        no = await refusal(say(client, "CompleteStep", run["id"], "w", choice="fail"))
        nobody = await refusal(say(client, "CompleteStep", run["id"], "zz", choice="fail"))
        final = await client.cancel(run["id"])
        again = await client.cancel(run["id"])
    assert (no.code, no.reason, no.metadata) == (FAILED, "STEP_NOT_WAITING", {"step_state": "RUNNING"})
    assert (nobody.code, nobody.reason) == (grpc.StatusCode.NOT_FOUND, "STEP_NOT_FOUND")
    assert final == again
