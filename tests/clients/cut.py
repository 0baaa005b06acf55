"""A hop before the edge that breaks one stream: it passes every call on, as bytes, but for the first watch.

That one is cut with UNAVAILABLE after `EVENTS` answers, as by a lost connection. What each watch asked for is
kept, so a test sees from where a client resumed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc

from reflux.api.run.v1.run_service_pb2 import WatchRunRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 2
WATCH = "/reflux.api.run.v1.RunService/WatchRun"


class CutOnce(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Listens on `address` for as long as the block runs."""

    def __init__(self, edge: str) -> None:
        self._channel = grpc.insecure_channel(edge)
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.asked_after: list[int] = []
        """after_seq of each watch, in order."""

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait()
        self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Whatever is called, as bytes."""

        def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
            return _told(context, lambda: self._channel.unary_unary(details.method)(request, timeout=30))

        def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self.asked_after.append(WatchRunRequest.FromString(request).after_seq)
            first = len(self.asked_after) == 1
            for count, answer in enumerate(self._channel.unary_stream(details.method)(request, timeout=30)):
                if first and count == EVENTS:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
                yield answer

        if details.method == WATCH:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


def _told(context: grpc.ServicerContext, call: Any) -> bytes:
    """What the call answers; what it fails with is passed on whole, details included."""
    try:
        return bytes(call())
    except grpc.RpcError as error:
        context.set_trailing_metadata(error.trailing_metadata())
        context.abort(error.code(), error.details())
        raise
