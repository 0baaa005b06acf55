"""Envoy's access log of tries on the wire (`envoy.service.accesslog.v3`): entries in, `Try` out.

A proxy opens a stream per worker and sends entries in bulk; it says once, at the beginning, which log it is.
Nothing is ever answered. For the server it is a stream in both directions, which on the wire is the same, so
that a drain ends it as it ends those of ADS; the proxy then tells the next control plane. Messages are those
of Envoy's own descriptors, as for ADS.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import grpc

from reflux.controlplane.envoy import access_log, faults, xds
from reflux.controlplane.tries import Try

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

SERVICE: Final = "envoy.service.accesslog.v3.AccessLogService"
MAX_CALL: Final = 2_000
"""Characters of the name of a call; a step within many containers has a long path."""

_MESSAGE: Final = "envoy.service.accesslog.v3.StreamAccessLogsMessage"
_ANSWER: Final = "envoy.service.accesslog.v3.StreamAccessLogsResponse"

_FLAGS: Final = {
    # Those that one try can have, as Envoy's %RESPONSE_FLAGS% spells them.
    "no_healthy_upstream": "UH",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_remote_reset": "UR",
    "local_reset": "LR",
    "upstream_overflow": "UO",
    "upstream_request_timeout": "UT",
    "upstream_max_stream_duration_reached": "UMSDR",
    "upstream_protocol_error": "UPE",
    "downstream_connection_termination": "DC",
    "duration_timeout": "DT",
    "overload_manager": "OM",
}


def handler(logs: Mapping[str, Callable[[Iterator[Try]], None]]) -> grpc.GenericRpcHandler:
    """The service, for `add_generic_rpc_handlers`; `logs` says by the name of a log who gets its tries."""

    async def stream(requests: AsyncIterator[Any], _context: grpc.aio.ServicerContext[Any, Any]) -> None:
        take = None
        async for message in requests:
            if message.HasField("identifier"):
                take = logs.get(message.identifier.log_name)
            if take is not None:
                take(read(message.http_logs.log_entry))

    method = grpc.stream_stream_rpc_method_handler(
        stream,
        request_deserializer=xds.message_class(_MESSAGE).FromString,
        response_serializer=xds.message_class(_ANSWER).SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": method})


def read(entries: Any) -> Iterator[Try]:
    """Those of calls that have a name: attempts and batches."""
    for entry in entries:
        call = _call(entry.request.request_headers)
        if not call or len(call) > MAX_CALL or "\0" in call:
            continue
        common, response = entry.common_properties, entry.response
        status = response.response_headers.get(access_log.STATUS) or response.response_trailers.get(
            access_log.STATUS, ""
        )
        gate = response.response_headers.get(access_log.GATE, "")
        unanswered = ""
        if faults.is_twin(common.upstream_cluster):
            unanswered = response.response_headers.get(access_log.UNANSWERED, "")
        yield Try(
            call=call,
            leaf=faults.tried_leaf(common.upstream_cluster),
            endpoint=_endpoint(common.upstream_remote_address.socket_address),
            started_at=common.start_time.ToDatetime(tzinfo=UTC),
            took_us=common.duration.ToMicroseconds(),
            # What the internal listener says is no answer, but for an abort: then it says what was asked for.
            code="" if unanswered not in ("", faults.ABORTED) else _code(status),
            flags=unanswered or gate or _flags(common.response_flags),
        )


def _call(headers: Any) -> str:
    if batch := headers.get(access_log.BATCH):
        return str(batch)
    run = headers.get(access_log.RUN)
    if not run:
        return ""
    return f"{run}/{headers.get(access_log.STEP, '')}/{headers.get(access_log.ATTEMPT, '')}"


def _endpoint(address: Any) -> str:
    return f"{address.address}:{address.port_value}" if address.address else ""


def _code(status: str) -> str:
    """`14` as `UNAVAILABLE`; what is no status as it is."""
    return _CODES.get(status, status)


def _flags(flags: Any) -> str:
    return ",".join(short for name, short in _FLAGS.items() if getattr(flags, name, False))


_CODES: Final = {str(code.value[0]): code.name for code in grpc.StatusCode}
