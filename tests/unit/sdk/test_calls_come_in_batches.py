"""Pure calls in one message: each is done by itself; what is known first decides who learns of a failure."""

import asyncio
import threading
from datetime import timedelta

import grpc
import orjson
import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from reflux.sdk import Context, Model, NodeFault, TargetFault, node
from reflux.sdk.batches import MAX_BYTES, MAX_ITEMS, MESSAGE_BYTES
from tests.unit.sdk.served import served

SECONDS = timedelta(seconds=10)
GATES: dict[str, asyncio.Event] = {}


class Input(Model):
    wait: str = ""
    fault: str = ""
    size: int = 0


class Output(Model):
    run: str
    step: str = ""
    key: str = ""
    text: str = ""


async def work(given: Input, ctx: Context[None]) -> Output:
    """Waits for a gate, fails as told, or says whose call it is."""
    if given.wait:
        await GATES.setdefault(given.wait, asyncio.Event()).wait()
    match given.fault:
        case "node":
            raise NodeFault(grpc.StatusCode.UNAVAILABLE, "ill")
        case "target":
            raise TargetFault(grpc.StatusCode.NOT_FOUND, "gone")
        case "defect":
            raise ZeroDivisionError
    return Output(run=ctx.run_id, step=ctx.step, key=ctx.idempotency_key, text="x" * given.size)


def version(**options):
    effect = options.pop("effect", EffectClass.PURE)
    options = {"batchable": True, "attempt_timeout": SECONDS} | options
    return node("test.batch", "1.0.0", effect=effect, **options)(work)


@pytest.fixture(autouse=True)
def _gates():
    GATES.clear()


def item(number, *, timeout=None, **given):
    made = pb.BatchItem(
        input=orjson.dumps(given),
        run_id=f"r{number}",
        step=f"s{number}",
        attempt=1,
        idempotency_key=f"k{number}",
    )
    if timeout is not None:
        made.timeout.FromTimedelta(timedelta(seconds=timeout))
    return made


def ask(call, *items, timeout=10):
    """The stream itself."""
    request = pb.ExecuteBatchRequest(items=items)
    return NodeServiceStub(call.channel).ExecuteBatch(request, timeout=timeout)


def batch(call, *items, timeout=10):
    """Sends a batch. Its answers, message by message: lists of (index, output or status)."""
    return _messages(ask(call, *items, timeout=timeout))


async def _messages(stream):
    async for message in stream:
        yield [
            (each.index, orjson.loads(each.output) if each.output else each.failure)
            for each in message.results
        ]


async def answers(call, *items, timeout=10):
    """All answers of a batch, by index."""
    return {
        index: answer async for message in batch(call, *items, timeout=timeout) for index, answer in message
    }


async def failure(call, *items):
    """How a batch fails as a whole, before any answer; and its trailers."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(ask(call, *items)))
    return rpc.read(caught.value), dict(caught.value.trailing_metadata() or ())


async def test_every_item_is_answered_as_if_it_had_come_alone():
    """Each handler sees its own run, step and key; what is known at once travels in one message."""
    async with served(version()) as call:
        messages = batch(call, *(item(number) for number in range(50)))
        (only,) = [message async for message in messages]
    assert [(index, each["run"], each["step"], each["key"]) for index, each in only] == [
        (number, f"r{number}", f"s{number}", f"k{number}") for number in range(50)
    ]


async def test_a_slow_item_holds_nobody_up():
    """The others are answered while it works, wherever it stands in the batch."""
    async with served(version()) as call, asyncio.timeout(20):
        messages = batch(call, item(0, wait="slow"), item(1), item(2, wait="slower"), item(3))
        first = await anext(messages)
        assert sorted(index for index, _ in first) == [1, 3]
        GATES["slower"].set()
        assert [index for index, _ in await anext(messages)] == [2]
        GATES["slow"].set()
        assert [index for index, _ in await anext(messages)] == [0]
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


async def test_when_all_that_is_known_first_is_a_node_fault_the_call_fails():
    """Trailers-only and marked: the mesh hands the whole batch on. Nothing of it is done here any more."""
    async with served(version()) as call:
        told, trailers = await failure(
            call, item(0, wait="never"), item(1, fault="node"), item(2, fault="node")
        )
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.NODE_FAULT)
        assert trailers["x-reflux-retry"] == "safe"
        told, _ = await failure(call, item(0, fault="defect"))
        assert told.code is grpc.StatusCode.INTERNAL


async def test_a_node_fault_beside_an_answer_is_told_in_its_result():
    """One input that makes the version fail does not fail the calls beside it."""
    async with served(version()) as call:
        found = await answers(call, item(0, fault="node"), item(1), item(2, fault="defect"))
    assert found[1]["run"] == "r1"
    assert (found[0].code, found[0].message) == (grpc.StatusCode.UNAVAILABLE.value[0], "ill")
    assert found[2].code == grpc.StatusCode.INTERNAL.value[0]


async def test_a_target_fault_is_always_told_in_its_result():
    """Also when it is the first and the only outcome: it must be nobody's illness."""
    async with served(version()) as call:
        found = await answers(call, item(0, fault="target"))
    assert (found[0].code, found[0].message) == (grpc.StatusCode.NOT_FOUND.value[0], "gone")
    assert found[0].details, "the details travel as they do with a call"


async def test_an_input_that_does_not_fit_fails_alone():
    """With its places, as a call does."""
    async with served(version()) as call:
        found = await answers(call, pb.BatchItem(input=b'{"unknown": 1}'), item(1))
    assert found[0].code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert found[1]["run"] == "r1"


async def test_every_item_has_its_own_deadline():
    """The one that has less time is given up; the call goes on."""
    async with served(version()) as call, asyncio.timeout(20):
        messages = batch(call, item(0, wait="slow", timeout=0.2), item(1, wait="slow"), item(2))
        assert [index for index, _ in await anext(messages)] == [2]
        ((index, late),) = await anext(messages)
        assert (index, late.code) == (0, grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        GATES["slow"].set()
        assert [index for index, _ in await anext(messages)] == [1]


async def test_items_take_the_places_of_calls():
    """More than there are places begin as places become free; a batch that finds none is refused, marked."""
    async with served(version(max_concurrency=2)) as call, asyncio.timeout(20):
        given = [item(0, wait="a"), item(1, wait="b"), *(item(number) for number in range(2, 20))]
        messages = batch(call, *given)
        while "b" not in GATES:
            await asyncio.sleep(0.01)
        told, trailers = await failure(call, item(99))
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.NODE_FULL)
        assert trailers["x-reflux-retry"] == "safe"
        assert (await call({})).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        GATES["b"].set()
        seen = set()
        while len(seen) < 19:
            seen |= {index for index, _ in await anext(messages)}
        assert 0 not in seen
        GATES["a"].set()
        assert [index for index, _ in await anext(messages)] == [0]
        assert (await call({})).code is grpc.StatusCode.OK


async def test_a_blocking_function_takes_a_thread_for_each_item():
    """Two that wait for each other both end."""
    barrier = threading.Barrier(2)

    def block(given: Input) -> Output:
        barrier.wait(10)
        return Output(run="")

    made = node("test.block", "1.0.0", effect=EffectClass.PURE, attempt_timeout=SECONDS, batchable=True)(
        block
    )
    async with served(made) as call:
        assert set(await answers(call, item(0), item(1))) == {0, 1}


async def test_an_item_that_is_not_pure_here_is_refused():
    """Whatever the caller thinks: nothing that has an effect is done in a batch."""
    effect = "input.size > 0 ? 'at_most_once' : 'pure'"
    async with served(version(effect=effect)) as call:
        found = await answers(call, item(0, size=1), item(1, size=0))
    assert found[0].code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert found[1]["run"] == "r1"


async def test_a_version_that_is_not_batchable_takes_none():
    """UNIMPLEMENTED, and calls go on."""
    async with served(version(batchable=False)) as call:
        stream = ask(call, item(0))
        assert await stream.code() is grpc.StatusCode.UNIMPLEMENTED
        assert (await call({})).code is grpc.StatusCode.OK


async def test_a_batch_has_bounds():
    """Items, bytes in, and bytes of one message out."""
    async with served(version()) as call:
        for items in (
            [item(number) for number in range(MAX_ITEMS + 1)],
            [pb.BatchItem(input=b"x" * (MAX_BYTES // 2 + 1))] * 2,
        ):
            stream = ask(call, *items)
            assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        items = [item(number, size=MESSAGE_BYTES * 3 // 4) for number in range(8)]
        sizes = [len(message) async for message in batch(call, *items)]
    assert sum(sizes) == 8
    assert max(sizes) == 2
