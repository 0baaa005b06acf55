"""A node version takes so many calls and no more, gives up at the deadline, and answers at most 1 MiB."""

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest

from reflux.api.node.v1 import node_service_pb2_grpc
from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Settings
from reflux.sdk import Context, Model, node
from reflux.sdk.claims import Claims
from reflux.sdk.effects import Effect
from reflux.sdk.servicer import NodeServicer
from reflux.sdk.serving import node_server
from tests.unit.sdk.served import FREE, Caller, served

SECONDS = timedelta(seconds=5)


class Input(Model):
    seconds: float = 0
    size: int = 0


class Output(Model):
    text: str = ""
    thread: str = ""


class Gate:
    """Holds calls until it is opened, and knows how many are in."""

    def __init__(self):
        self.open = threading.Event()
        self.inside = threading.Semaphore(0)


@asynccontextmanager
async def gate(_settings):
    yield Gate()


@node("test.slow", "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=0.2))
async def slow(given: Input) -> Output:
    """Takes its time."""
    await asyncio.sleep(given.seconds)
    return Output(text="x" * given.size)


@node(
    "test.blocking",
    "1.0.0",
    effect=EffectClass.PURE,
    attempt_timeout=SECONDS,
    max_concurrency=2,
    resources=gate,
)
def blocking(given: Input, ctx: Context[Gate]) -> Output:
    """Blocks its thread."""
    ctx.resources.inside.release()
    ctx.resources.open.wait(10)
    return Output(thread=threading.current_thread().name)


@node("test.two", "1.0.0", effect=EffectClass.PURE, attempt_timeout=SECONDS, max_concurrency=2)
async def two(given: Input) -> Output:
    """Two at once."""
    await asyncio.sleep(given.seconds)
    return Output()


async def test_one_call_too_many_is_answered_at_once_and_not_processed():
    """RESOURCE_EXHAUSTED, marked: the call falls on to the next version while the others go on."""
    async with served(two) as call, asyncio.timeout(20):
        await call({})  # connected: what is sent first from here on arrives first
        running = [asyncio.ensure_future(call({"seconds": 1.5})) for _ in range(2)]
        await asyncio.sleep(0.5)
        answer = await call({})
        assert (answer.code, answer.failure.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            Reason.NODE_FULL,
        )
        assert answer.retry_safe
        assert [each.code for each in await asyncio.gather(*running)] == [grpc.StatusCode.OK] * 2
        assert (await call({})).code is grpc.StatusCode.OK


async def test_a_blocking_function_has_a_thread_and_the_place_is_free_when_the_thread_is():
    """A caller that gives up frees no thread, so the node stays full until the function returns."""
    gates = []

    @asynccontextmanager
    async def known_gate(_settings):
        gates.append(Gate())
        yield gates[0]

    version = replace(blocking, resources=known_gate)
    async with served(version) as call, asyncio.timeout(20):
        given_up = [asyncio.ensure_future(call({}, timeout=0.3)) for _ in range(2)]
        codes = [(await each).code for each in given_up]
        assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 2
        assert (await call({})).failure.reason == Reason.NODE_FULL
        gates[0].open.set()
        answer = await call({})
        while answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            answer = await call({})
        assert answer.output["thread"] != threading.current_thread().name


async def test_the_version_gives_up_at_its_own_timeout_when_the_call_brings_no_deadline():
    """DEADLINE_EXCEEDED as a NodeFault: it was too slow."""
    async with served(slow) as call:
        answer = await call({"seconds": 30}, timeout=None)
    assert (answer.code, answer.failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.TIMEOUT)
    assert answer.failure.metadata["fault"] == "node"


async def test_the_calls_deadline_replaces_the_versions_timeout():
    """A step may allow more than the version would by itself."""
    async with served(slow) as call:
        assert (await call({"seconds": 0.4}, timeout=10)).code is grpc.StatusCode.OK


@pytest.mark.parametrize(("size", "fits"), [((1 << 20) - 100, True), (1 << 20, False)])
async def test_an_output_over_1_mib_is_refused_with_its_step_and_size(size, fits):
    """It could not be journaled; trying again elsewhere would not help."""
    async with served(slow) as call:
        answer = await call({"size": size}, step="lines[3]/price")
    if fits:
        assert len(answer.output["text"]) == size
    else:
        assert (answer.code, answer.failure.reason) == (
            grpc.StatusCode.OUT_OF_RANGE,
            Reason.OUTPUT_TOO_LARGE,
        )
        assert int(answer.failure.metadata["size"]) > 1 << 20
        assert answer.failure.message.startswith("the output of step lines[3]/price is 10")
        assert answer.headers["x-reflux-fault"] == "target"


async def test_a_call_after_the_drain_began_is_handed_on():
    """UNAVAILABLE and marked not processed: the mesh gives it to another endpoint."""
    servicer = NodeServicer(two, resources=None, claims=Claims())

    def register(server):
        node_service_pb2_grpc.add_NodeServiceServicer_to_server(servicer, server)

    server = grpc_server(address=FREE, register=[register], services=[])
    async with server as address, rpc.channel(address) as channel, asyncio.timeout(20):
        call = Caller(channel)
        running = asyncio.ensure_future(call({"seconds": 0.5}))
        while servicer._in_flight == 0:
            await asyncio.sleep(0.01)
        servicer.drain()
        answer = await call({})
        assert (answer.code, answer.failure.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.NODE_DRAINING)
        assert answer.retry_safe
        assert (await running).code is grpc.StatusCode.OK


async def test_a_call_that_waits_for_its_claim_has_a_place_already():
    """Else a slow orchestrator would let in more than the limit, all acting at once when it answers."""
    asked, answered = asyncio.Event(), asyncio.Event()

    class Slow(Claims):
        async def claim(self, envelope, *, scope, node_version, key_ttl):
            asked.set()
            await answered.wait()

    version = replace(two, effect=Effect.declare(EffectClass.AT_MOST_ONCE), max_concurrency=1)
    server = node_server(version, Settings(), claims=Slow(), address=FREE)
    async with server as address, rpc.channel(address) as channel, asyncio.timeout(20):
        call = Caller(channel)
        first = asyncio.ensure_future(call({}))
        await asked.wait()
        assert (await call({})).failure.reason == Reason.NODE_FULL
        answered.set()
        assert (await first).code is grpc.StatusCode.OK
