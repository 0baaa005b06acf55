"""The same request_id gives the same run, wherever and however often it is asked."""

import asyncio

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
from tests.store.runs.speaking import refusal
from tests.support.operations import bulk, execute_step, fork, replay_step, retry


async def test_a_hundred_equal_requests_at_two_orchestrators_start_one_run(begin, mesh):
    """All of them are answered with the one run."""
    async with begin() as one, begin() as other:
        flow = await one.save("once", {"id": "a", "node": "work.pure"})
        answers = await asyncio.gather(
            *((one, other)[n % 2].start(flow, {"n": 1}, request_id="same") for n in range(100))
        )
        await one.until(answers[0]["id"], "SUCCEEDED")

    started = {answer["id"] for answer in answers}
    assert len(started) == 1
    assert mesh.runs("a") == started


async def test_a_start_is_known_again_whatever_the_flow_asks_for_by_then(begin, mesh):
    """Whoever lost the answer learns of the run, also when a new version would refuse the same input now."""
    step, form = {"id": "a", "node": "work.pure"}, {"type": "object", "required": ["n"]}
    by_hand = {"id": "m", "type": "manual", "form": form}
    async with begin() as client:
        flow = await client.save("changes", step, triggers=[by_hand])
        same = {
            "start": lambda given: client.start(flow, given, request_id="same"),
            "fire": lambda given: fire(client, "changes", "m", given, request_id="same"),
            "alone": lambda given: execute_step(client, "changes", "a", input=given, request_id="same"),
        }
        before = {name: (await ask({"n": 1}))["id"] for name, ask in same.items()}
        strict = {"type": "object", "required": ["x"]}
        other = [{"id": "b", "node": "work.pure"}]
        await client.replace("changes", *other, input=strict, triggers=[{**by_hand, "form": strict}])
        assert {name: (await ask({"n": 1}))["id"] for name, ask in same.items()} == before
        for name, code in {
            "start": "INVALID_ARGUMENT",
            "fire": "INVALID_ARGUMENT",
            "alone": "NOT_FOUND",
        }.items():
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await same[name]({"n": 2})
            assert refused.value.code() is grpc.StatusCode[code]


async def fire(client, flow, trigger, form, *, request_id):
    """The run of a trigger that is fired by hand."""
    body = HttpBody(content_type="application/json", data=orjson.dumps(form))
    request = pb.FireTriggerRequest(flow_id=flow, trigger_id=trigger, form=body, request_id=request_id)
    return orjson.loads((await TriggerServiceStub(client.channel).FireTrigger(request)).data)


async def test_a_request_id_is_not_reused_for_something_else(begin, mesh):
    """Another input under the same request_id is refused, and names the run that has it."""
    async with begin() as client:
        flow = await client.save("reuse", {"id": "a", "node": "work.pure"})
        await client.start(flow, {"n": 1}, request_id="same")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.start(flow, {"n": 2}, request_id="same")

    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("handle", ["a\0b", "x" * 129, "two\nlines"])
async def test_what_can_be_no_handle_is_refused_wherever_it_comes_in(begin, mesh, handle):
    """As the sender's mistake, and before anything is written."""
    async with begin() as client:
        flow = await client.save("bounded", {"id": "a", "node": "work.pure"})
        run = await client.start(flow, {}, wait="10s")
        step = {"from_step": "a", "request_id": handle}
        which = {"flow_id": "bounded"}
        for call in (
            client.start(flow, {}, request_id=handle),
            execute_step(client, "bounded", "a", input={}, request_id=handle),
            replay_step(client, run["id"], "a", request_id=handle),
            fork(client, run["id"], **step),
            retry(client, run["id"], request_id=handle),
            bulk(client, "fork", which, expected_count=1, arguments={"from_step": "a"}, request_id=handle),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ARGUMENT_INVALID")
            assert "request_id" in refused.message
