"""Errors on the wire, interception on the server, channels on the client.

One table maps the tree of `reflux.core.errors` to google.rpc.Status, and the same table reads it back. A
status carries exactly one ErrorInfo (reason, domain `reflux.dev`, metadata), a BadRequest when places are
known, and a RetryInfo when the same request may work later. It travels in trailers, which many peers bound at
8 KiB: long texts are cut, and the last violations are left out with a note that says how many.

What is not a RefluxError is a defect: the caller gets INTERNAL and an `error_id`, the log gets the traceback
under the same id, and no text of ours leaks.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from reflux.core import errors
from reflux.core.errors import Defect, InvalidArgument, RefluxError, TryLater, Unavailable, Violation
from reflux.core.reasons import Reason
from reflux.runtime import logs
from reflux.runtime.secure_channel import SecureChannel
from reflux.runtime.tls import target_options

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from reflux.runtime.settings import Address
    from reflux.runtime.tls import Identity, Role

DOMAIN: Final = "reflux.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
"""Trailer that carries a serialized google.rpc.Status."""
MAX_MESSAGE_BYTES: Final = 4 << 20
"""Largest message either side takes: a 1 MiB document, its envelope and room for pages of them."""

CODES: Final[Mapping[type[RefluxError], grpc.StatusCode]] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Defect: grpc.StatusCode.INTERNAL,
}
"""The one table: each leaf of the tree and its code."""

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_CLASSES: Final = {code: kind for kind, code in CODES.items()}
_TRANSPORT: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
_MAX_TEXT_BYTES: Final = 1024
_MAX_DETAILS_BYTES: Final = 3072
_RETRY_SECONDS: Final = 1

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead peer is noticed after 30 s without calls, and at once with one that has a deadline.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # One owner per kind of retry (Envoy, the orchestrator), and no detour around the mesh.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Each channel its own connection: two parts of one process do not share a fate.
    ("grpc.use_local_subchannel_pool", 1),
)

log = logs.get_logger("rpc")


@dataclass(frozen=True, slots=True)
class RpcFailure:
    """What a failed call says, of whatever origin; `reason` is empty when it is not ours."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str]
    violations: tuple[Violation, ...]
    retry_seconds: float | None = None
    """When the same request may be sent again, if it says so."""


def to_status(error: RefluxError) -> status_pb2.Status:
    """`error` as google.rpc.Status."""
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    return make_status(
        code,
        error.message,
        reason=error.reason,
        metadata=error.metadata,
        violations=error.violations,
        retry_seconds=_retry_seconds(error),
    )


def _retry_seconds(error: RefluxError) -> float | None:
    if not isinstance(error, TryLater):
        return None
    return _RETRY_SECONDS if error.retry_seconds is None else error.retry_seconds


def make_status(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str,
    metadata: Mapping[str, str],
    violations: Sequence[Violation] = (),
    retry_seconds: float | None = None,
) -> status_pb2.Status:
    """A status with its details, small enough for trailers.

    Args:
        code: canonical code; not OK.
        message: for people; cut at 1 KiB.
        reason: for programs.
        metadata: of the ErrorInfo; each value is cut at 1 KiB.
        violations: the wrong places; as many as fit.
        retry_seconds: when the same request may be sent again.
    """
    status = status_pb2.Status(code=code.value[0], message=_cut(message))
    info = {key: _cut(value) for key, value in metadata.items()}
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=info))
    if retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(retry_seconds * 1000))
        status.details.add().Pack(retry)
    if violations:
        status.details.add().Pack(_bad_request(violations, _MAX_DETAILS_BYTES - status.ByteSize()))
    return status


def retry_after(status: status_pb2.Status) -> str | None:
    """Its RetryInfo in the words of the header Retry-After (RFC 9110 §10.2.3): whole seconds, rounded up."""
    seconds = read_status(status).retry_seconds
    return None if seconds is None else str(ceil(seconds))


def _bad_request(violations: Sequence[Violation], room: int) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    for index, violation in enumerate(violations):
        pointer, message = _cut(violation.pointer), _cut(violation.message)
        room -= len(pointer.encode()) + len(message.encode()) + 16
        if room < 0 and index > 0:
            request.field_violations.add(description=f"and {len(violations) - index} more")
            break
        request.field_violations.add(field=pointer, description=message)
    return request


def _cut(text: str) -> str:
    """Text that fits and that protobuf takes: half a surrogate pair becomes a question mark."""
    raw = text.encode(errors="replace")
    if len(raw) <= _MAX_TEXT_BYTES:
        return raw.decode()
    return raw[: _MAX_TEXT_BYTES - 3].decode(errors="ignore") + "…"


def read(error: grpc.RpcError) -> RpcFailure:
    """What a failed call says, its details included."""
    assert isinstance(error, grpc.aio.AioRpcError | grpc.Call)
    return _read(error.code(), error.details() or "", _details(error.trailing_metadata()))


def read_status(status: status_pb2.Status) -> RpcFailure:
    """What a status says that came in a message; a code that gRPC does not know is UNKNOWN."""
    return _read(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status.details)


def _read(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> RpcFailure:
    reason, info, violations, retry_seconds = "", {}, [], None
    for detail in details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            unpacked = error_details_pb2.ErrorInfo()
            detail.Unpack(unpacked)
            if unpacked.domain == DOMAIN:
                reason, info = unpacked.reason, dict(unpacked.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest()
            detail.Unpack(request)
            violations += [Violation(each.field, each.description) for each in request.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return RpcFailure(code, message, reason, info, tuple(violations), retry_seconds)


def _details(trailers: Any) -> Sequence[Any]:
    for key, value in trailers or ():
        if key == DETAILS_KEY:
            return list(status_pb2.Status.FromString(value).details)
    return []


def to_error(error: grpc.RpcError) -> RefluxError:
    """A failed call to one of our services as the error that the service raised.

    A failure of the transport, or a call that was not answered in time, is `Unavailable`; a status that no
    service of ours makes is a `Defect`.
    """
    failure = read(error)
    if failure.reason in Reason.__members__:
        kind = _CLASSES.get(failure.code, Defect)
        said: dict[str, Any] = {"metadata": failure.metadata, "violations": failure.violations}
        if issubclass(kind, TryLater):
            said["retry_seconds"] = failure.retry_seconds
        return kind(Reason(failure.reason), failure.message, **said)
    if failure.code in _TRANSPORT:
        return Unavailable(Reason.SERVICE_UNREACHABLE, "a service of the platform did not answer; try again")
    return Defect(Reason.INTERNAL, f"a service answered {failure.code.name}: {failure.message}")


def channel(
    address: Address | str,
    role: Role | None = None,
    identity: Identity | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.aio.Channel:
    """A lazy channel to `address`, or to any target of gRPC's; the caller closes it and gives every call a
    deadline. Options given here win over those of every channel.

    Plaintext; with an identity of this process TLS, and what answers must have the role: see
    `reflux.runtime.tls`.

    >>> async with channel(settings.registry_address) as registry:
    ...     stub = EndpointServiceStub(registry)
    ...     await stub.RenewEndpoint(request, timeout=2.0)
    """
    all_options = tuple((dict(_CHANNEL_OPTIONS) | dict(options)).items())
    if identity is None or role is None:
        return grpc.aio.insecure_channel(str(address), options=all_options)
    return SecureChannel(str(address), (*all_options, *target_options(role)), identity)


def defect(error_id: str) -> Defect:
    """What a caller is told of an unexpected exception that the log has under `error_id`."""
    message = f"an internal error; the log has it under {error_id}"
    return Defect(Reason.INTERNAL, message, metadata={"error_id": error_id})


def _status_of(error: Exception, method: str) -> status_pb2.Status:
    """What the caller of `method` is told of an error.

    Raises:
        grpc.aio.AbortError: it is one: the handler has told the caller itself.
    """
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, RefluxError):
        return to_status(error)
    from psycopg import OperationalError  # loaded in every service that has a database, in no client
    from psycopg_pool import PoolTimeout

    if isinstance(error, OperationalError | PoolTimeout):
        log.warning("database_away", method=method, error=logs.redact(str(error)))
        away = Unavailable(Reason.SERVICE_UNREACHABLE, "the database does not answer; try again")
        return to_status(away)
    error_id = secrets.token_hex(8)
    log.exception("rpc_failed", method=method, error_id=error_id, error=type(error).__name__)  # noqa: LOG004 - inside of one
    return to_status(defect(error_id))


async def _abort(context: Any, status: status_pb2.Status) -> None:
    """Ends a call with a status.

    What a RetryInfo says stands in the trailers too, since an answer that is nothing but an error is headers
    to the edge: it hands them on as they are, and details only in the body.
    """
    made = rpc_status.to_status(status)
    after = retry_after(status)
    more = () if after is None else (("retry-after", after),)
    await context.abort(made.code, made.details, (*made.trailing_metadata, *more))


def _as_it_is(request: Any) -> Any:
    return request


def _reader(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Reads the bytes of a request.

    Raises:
        InvalidArgument: they are no such message.
    """

    def read(request: bytes) -> Any:
        try:
            return request if deserialize is None else deserialize(request)
        except DecodeError as error:
            message = f"these bytes are not the message that the method takes: {error}"
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message) from None

    return read


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what handlers raise into statuses; a handler's own `abort` passes through.

    It also knows the streams that are open, so that a draining server can end them: their clients see
    UNAVAILABLE (NOT_ACCEPTING) and go elsewhere, instead of holding the server up until its grace is over.

    Args:
        finite: full names of methods whose streams end by themselves: they are left to, as unary calls are.
        admit: called with the full method and the context of each call; raises where the caller may not.
    """

    def __init__(
        self, *, finite: Collection[str] = (), admit: Callable[[str, Any], None] | None = None
    ) -> None:
        self._admit = admit
        self._finite = frozenset(finite)
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._streams: set[asyncio.Task[Any]] = set()
        self._ending = False

    def end_streams(self) -> None:
        """End every open response stream, and those that open later; unary calls go on."""
        self._ending = True
        for task in self._streams:
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a method, once for all its calls; an unknown method stays unknown."""
        method = handler_call_details.method
        if (known := self._wrapped.get(method)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        self._wrapped[method] = made = self._wrap(method, handler)
        return made

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        kind = ("stream_" if handler.request_streaming else "unary_") + (
            "stream" if handler.response_streaming else "unary"
        )
        behaviour = getattr(handler, kind)
        endless = handler.response_streaming and method not in self._finite
        # Read here and not by gRPC, which calls bytes that are no such message an UNKNOWN error of its own.
        read = _as_it_is if handler.request_streaming else _reader(handler.request_deserializer)
        wrapped: Any
        if inspect.isasyncgenfunction(behaviour):

            async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
                try:
                    if self._admit is not None:
                        self._admit(method, context)
                    with self._known() if endless else nullcontext():
                        async with aclosing(behaviour(read(request), context)) as items:
                            async for item in items:
                                yield item
                except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
                    await _abort(context, _status_of(error, method))

            wrapped = generate
        else:

            async def answer(request: Any, context: Any) -> Any:
                try:
                    if self._admit is not None:
                        self._admit(method, context)
                    with self._known() if endless else nullcontext():
                        return await behaviour(read(request), context)
                except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
                    await _abort(context, _status_of(error, method))

            wrapped = answer
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        made: grpc.RpcMethodHandler[Any, Any] = make(
            wrapped,
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )
        return made

    @contextmanager
    def _known(self) -> Iterator[None]:
        """Keep the current task among the open streams, and tell `end_streams` from a client that left."""
        stopping = Unavailable(Reason.NOT_ACCEPTING, "this service is stopping; try again")
        if self._ending:
            raise stopping
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            raise stopping from None
        finally:
            self._streams.discard(task)
