"""A server says that it is leaving, ends its streams, finishes its calls, and is gone in bounded time."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from reflux.core.errors import Unavailable
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from reflux.runtime.service import grpc_server, serve_grpc
from reflux.runtime.settings import Address

SERVICE = "reflux.api.node.v1.NodeService"
FREE = Address("127.0.0.1", 0)


class Work:
    """One slow call and one endless stream."""

    def __init__(self):
        self.entered = asyncio.Event()
        self.finish = asyncio.Event()

    async def slow(self, request, context):
        self.entered.set()
        await self.finish.wait()
        return b"done"

    async def endless(self, request, context):
        yield b"first"
        await asyncio.sleep(60)

    def register(self, server):
        handlers = {
            "slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Work", handlers),))


async def health(channel, service=SERVICE):
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    return (await stub.Check(request, timeout=5)).status


async def test_a_draining_server_finishes_calls_and_ends_streams():
    """The call in flight gets its answer; the stream gets UNAVAILABLE, so that its client goes elsewhere."""
    work = Work()
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        seen = asyncio.Event()
        register = [work.register]
        server = grpc_server(address=FREE, register=register, services=[SERVICE], on_drain=seen.wait)
        address = await server.__aenter__()
        channel = await stack.enter_async_context(rpc.channel(address))
        assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
        call = channel.unary_unary("/test.Work/slow")(b"", timeout=10)
        stream = channel.unary_stream("/test.Work/endless")(b"", timeout=10)
        assert await stream.read() == b"first"
        await work.entered.wait()

        leaving = asyncio.ensure_future(server.__aexit__(None, None, None))
        while await health(channel) != health_pb2.HealthCheckResponse.NOT_SERVING:
            await asyncio.sleep(0.01)
        seen.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        error = rpc.to_error(caught.value)
        assert (type(error), error.reason) == (Unavailable, Reason.NOT_ACCEPTING)
        work.finish.set()
        assert await call == b"done"
        await leaving


async def test_a_call_that_never_ends_does_not_hold_the_server_up():
    """After `drain_seconds` it is cancelled."""
    work = Work()
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        server = grpc_server(address=FREE, register=[work.register], services=[], drain_seconds=0.1)
        address = await server.__aenter__()
        channel = await stack.enter_async_context(rpc.channel(address))
        call = channel.unary_unary("/test.Work/slow")(b"", timeout=10)
        await work.entered.wait()
        await server.__aexit__(None, None, None)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call


async def test_serving_ends_with_its_task():
    """`serve_grpc` sets `ready` when calls are accepted and stops when it is cancelled."""
    ready = asyncio.Event()
    async with asyncio.timeout(10):
        task = asyncio.ensure_future(serve_grpc(address=FREE, register=[], services=[], ready=ready))
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_taken_port_is_named():
    """Two servers never share a port."""
    async with grpc_server(address=FREE, register=[], services=[]) as address:
        with pytest.raises(OSError, match=str(address)):
            async with grpc_server(address=address, register=[], services=[]):
                pass


async def test_the_services_are_listed_by_reflection_and_health_knows_only_them():
    """A client without our protos finds the services; an unknown service is NOT_FOUND."""
    import reflux.api.node.v1.node_service_pb2  # noqa: F401 - reflection serves what is loaded

    async with grpc_server(address=FREE, register=[], services=[SERVICE]) as address:
        listed = await asyncio.to_thread(_list_services, address)
        assert SERVICE in listed
        assert "grpc.health.v1.Health" in listed
        async with rpc.channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health(channel, "unknown.Service")
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_answers_in_both_versions(version):
    """Newer tools ask v1 first, older ones v1alpha only."""
    from grpc_reflection.v1alpha import reflection_pb2

    server = grpc_server(address=FREE, register=[], services=[SERVICE])
    async with server as address, rpc.channel(address) as channel:
        method = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        answers = [answer async for answer in method(iter([request]), timeout=5)]
    assert answers[0].file_descriptor_response.file_descriptor_proto


def _list_services(address):
    with grpc.insecure_channel(str(address)) as channel:
        return list(ProtoReflectionDescriptorDatabase(channel).get_services())
