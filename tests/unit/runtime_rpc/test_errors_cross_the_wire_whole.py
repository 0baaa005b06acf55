"""An error raised behind an RPC is the same error in front of it; other exceptions tell nothing."""

import asyncio
import logging
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc import error_details_pb2

from reflux.core import errors
from reflux.core.errors import Defect, Exhausted, InvalidArgument, RefluxError, Violation
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address


def leaves(kind: type[RefluxError]) -> set[type[RefluxError]]:
    """The leaves of the tree itself: what services derive from them crosses the wire as its base."""
    below = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return set().union(*map(leaves, below)) if below else {kind}


@asynccontextmanager
async def serving(raised: BaseException):
    """A server whose four methods raise `raised`; yields a caller for each by name."""

    async def coroutine(request, context):
        raise raised

    async def generator(request, context):
        yield b"first"
        raise raised

    async def writing(request, context):
        await context.write(b"first")
        raise raised

    handlers = {
        "unary": grpc.unary_unary_rpc_method_handler(coroutine),
        "stream": grpc.unary_stream_rpc_method_handler(generator),
        "writing": grpc.unary_stream_rpc_method_handler(writing),
    }

    def register(server):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Failing", handlers),))

    options = {"address": Address("127.0.0.1", 0), "register": [register], "services": []}
    async with grpc_server(**options) as address, rpc.channel(address) as channel:
        yield channel


async def call(channel, method):
    if method == "unary":
        await channel.unary_unary("/test.Failing/unary")(b"", timeout=5)
    else:
        async for _ in channel.unary_stream(f"/test.Failing/{method}")(b"", timeout=5):
            pass


async def failure(raised: BaseException, method: str = "unary") -> grpc.aio.AioRpcError:
    async with serving(raised) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, method)
        return caught.value


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_bytes_that_are_no_message_are_the_callers_mistake(kind):
    """Also those are told in the one shape that errors have, and nothing is done."""
    asked = []

    async def unary_unary(request, context):
        asked.append(request)
        return b""

    async def unary_stream(request, context):
        asked.append(request)
        yield b""

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    behaviour = {"unary_unary": unary_unary, "unary_stream": unary_stream}[kind]
    handlers = {"ask": make(behaviour, request_deserializer=error_details_pb2.ErrorInfo.FromString)}

    def register(server):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Asked", handlers),))

    options = {"address": Address("127.0.0.1", 0), "register": [register], "services": []}
    async with grpc_server(**options) as address, rpc.channel(address) as channel:
        for sent in (b"", b"\xff\xff"):
            ask = getattr(channel, kind)("/test.Asked/ask")
            try:
                answer = ask(sent, timeout=5)
                await (answer if kind == "unary_unary" else answer.read())
            except grpc.aio.AioRpcError as error:
                refused = rpc.to_error(error)
    assert asked == [error_details_pb2.ErrorInfo()]
    assert isinstance(refused, InvalidArgument)
    assert refused.reason == Reason.ARGUMENT_INVALID


def test_the_table_knows_every_leaf_of_the_tree():
    """No error can be raised that has no code, and no two kinds share one."""
    assert set(rpc.CODES) == leaves(RefluxError)
    assert len(set(rpc.CODES.values())) == len(rpc.CODES)


@pytest.mark.parametrize("kind", sorted(leaves(RefluxError), key=lambda kind: kind.__name__))
@pytest.mark.parametrize("method", ["unary", "stream", "writing"])
async def test_every_error_arrives_as_it_was_raised(kind, method):
    """Kind, reason, message, metadata and places survive the wire, in answers and in streams."""
    raised = kind(
        Reason.FLOW_INVALID,
        "zwei Fehler: ä",
        metadata={"flow": "a"},
        violations=[Violation("/steps/0", "no node"), Violation("/steps/1", "no id")],
    )
    arrived = rpc.to_error(await failure(raised, method))
    assert type(arrived) is kind
    assert arrived.reason is raised.reason
    assert arrived.message == raised.message
    assert arrived.metadata == raised.metadata
    assert arrived.violations == raised.violations


def test_a_status_has_one_error_info_and_a_retry_info_only_when_retrying_helps():
    """Clients of other languages find exactly one ErrorInfo of our domain."""
    for kind in leaves(RefluxError):
        details = rpc.to_status(kind(Reason.INTERNAL, "m")).details
        infos = [each for each in details if each.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
        retries = [each for each in details if each.Is(error_details_pb2.RetryInfo.DESCRIPTOR)]
        assert len(infos) == 1
        assert len(retries) == issubclass(kind, errors.TryLater)


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_the_time_to_come_again_arrives(method):
    """To the millisecond in the details; as a header in whole seconds, never too early."""
    error = await failure(Exhausted(Reason.RATE_LIMIT, "m", retry_seconds=2.25), method)
    arrived = rpc.to_error(error)
    assert isinstance(arrived, Exhausted)
    assert arrived.retry_seconds == 2.25
    assert dict(error.trailing_metadata())["retry-after"] == "3"
    assert "retry-after" not in dict((await failure(Defect(Reason.INTERNAL, "m"))).trailing_metadata())


async def test_an_error_too_large_for_trailers_arrives_cut():
    """A thousand violations and a huge message fit into 8 KiB, and the rest is counted."""
    places = [Violation(f"/steps/{index}/with/url", "is missing " + "x" * 40) for index in range(1000)]
    raised = InvalidArgument(
        Reason.FLOW_INVALID, "ä" * 100_000, metadata={"k": "v" * 9999}, violations=places
    )
    assert rpc.to_status(raised).ByteSize() < 5000
    arrived = rpc.to_error(await failure(raised))
    assert arrived.violations[:5] == tuple(places[:5])
    assert arrived.violations[-1].message == f"and {1000 - len(arrived.violations) + 1} more"


def test_text_that_is_no_text_still_travels():
    """Half a surrogate pair, from somebody's input, must not turn an error into another one."""
    status = rpc.to_status(InvalidArgument(Reason.FLOW_INVALID, "half \ud83d", metadata={"k": "\ud83d"}))
    assert status.message == "half ?"


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_an_unexpected_exception_tells_the_caller_nothing_but_an_id(method, caplog):
    """The text may hold a secret: it goes to the log, under the id that the caller got."""
    with caplog.at_level(logging.ERROR, "rpc"):
        error = await failure(ValueError("password is swordfish"), method)
    assert "swordfish" not in str(error)
    arrived = rpc.to_error(error)
    assert type(arrived) is Defect
    record = next(each for each in caplog.records if each.getMessage() == "rpc_failed")
    assert record.reflux_fields["error_id"] == arrived.metadata["error_id"]
    assert "swordfish" in str(record.exc_info[1])


async def test_a_service_that_is_not_there_is_unavailable():
    """Transport failures are errors of the tree too."""
    async with rpc.channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "unary")
        assert rpc.to_error(caught.value).reason is Reason.SERVICE_UNREACHABLE


async def test_a_client_that_leaves_is_not_an_error(caplog):
    """Cancellation passes through: nothing is logged as a defect."""
    entered = asyncio.Event()

    async def hang(request, context):
        entered.set()
        await asyncio.sleep(30)

    def register(server):
        handlers = {"hang": grpc.unary_unary_rpc_method_handler(hang)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Hanging", handlers),))

    options = {"address": Address("127.0.0.1", 0), "register": [register], "services": []}
    async with grpc_server(**options) as address, rpc.channel(address) as channel:
        left = channel.unary_unary("/test.Hanging/hang")(b"", timeout=5)
        async with asyncio.timeout(5):
            await entered.wait()
        left.cancel()
    assert not [record for record in caplog.records if record.name == "rpc"]
