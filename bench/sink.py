"""A collector that takes every span and keeps none: tracing costs those who are traced, not the reader."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class _Sink(TraceServiceServicer):  # type: ignore[misc]
    async def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        del request, context
        return ExportTraceServiceResponse()


@asynccontextmanager
async def sink() -> AsyncIterator[str]:
    """Its endpoint, within the body. It runs in the load generator, which shares the machine anyway."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    add_TraceServiceServicer_to_server(_Sink(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(0)
