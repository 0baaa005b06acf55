"""A node version whose behaviour a test can change between calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import (
    NodeServiceServicer,
    add_NodeServiceServicer_to_server,
)
from reflux.controlplane.graph import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Behaviour = Callable[[grpc.aio.ServicerContext[Any, Any]], Awaitable[None]]


async def work(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Answer."""


def node_fault(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Behaviour:
    """Fail trailers-only, as the SDK does when the version itself is ill."""

    async def fail(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(code, "ill")

    return fail


def not_processed(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Behaviour:
    """Fail trailers-only and say that nothing was done."""

    async def fail(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(code, "not processed", (("x-reflux-retry", "safe"),))

    return fail


def target_fault(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Behaviour:
    """Fail after initial metadata, as the SDK does when what the input names is ill."""

    async def fail(context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.send_initial_metadata(())
        await context.abort(code, "the target is ill")

    return fail


async def hang(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Never answer; the caller goes away some time."""
    await asyncio.sleep(60)


@dataclass(slots=True)
class Node(NodeServiceServicer):
    """A server of one node version. `calls` holds the metadata of every call that reached it."""

    version: str
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("127.0.0.1", 0))
    behaviour: Behaviour = work
    calls: list[dict[str, Any]] = field(default_factory=list)

    async def Execute(
        self, request: pb.ExecuteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExecuteResponse:
        self.calls.append(dict(context.invocation_metadata() or ()))
        await self.behaviour(context)
        return pb.ExecuteResponse(output=self.version.encode())

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Node]:
        """Listen on a free port, or on the one given."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_NodeServiceServicer_to_server(self, server)
        self.endpoint = Endpoint("127.0.0.1", server.add_insecure_port(f"127.0.0.1:{port}"))
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)
