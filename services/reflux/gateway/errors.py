"""Errors as HTTP answers, in the shape the edge gives those of transcoded calls.

The body is google.rpc.Status in JSON, `{"code", "message", "details"}`, made by `reflux.runtime.rpc` from the
same table as everywhere; only what HTTP has is added here: the status, as Envoy's transcoder maps it
(google/rpc/code.proto), and what a RetryInfo says as the header Retry-After.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from reflux.core.errors import Conflict, NotFound, RefluxError
from reflux.core.reasons import Reason
from reflux.runtime import logs, rpc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

HTTP: Final[Mapping[grpc.StatusCode, HTTPStatus]] = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Every code of `rpc.CODES` and its HTTP status."""
_NAMES: Final = frozenset(code.name for code in grpc.StatusCode) - {"OK"}
log = logs.get_logger("gateway")

_BY_NUMBER: Final[Mapping[int, int]] = {
    grpc.StatusCode.CANCELLED.value[0]: 499,
    grpc.StatusCode.UNKNOWN.value[0]: HTTPStatus.INTERNAL_SERVER_ERROR,
    grpc.StatusCode.DEADLINE_EXCEEDED.value[0]: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.PERMISSION_DENIED.value[0]: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.OUT_OF_RANGE.value[0]: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED.value[0]: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.DATA_LOSS.value[0]: HTTPStatus.INTERNAL_SERVER_ERROR,
} | {code.value[0]: status for code, status in HTTP.items()}
"""Of every canonical code: a run may fail with any of them."""


def failed_run(run: Mapping[str, Any], headers: Mapping[str, str]) -> JSONResponse:
    """Answer with the error of a run (reflux.api.run.v1.Run as JSON) that FAILED."""
    error = run["error"]
    code = grpc.StatusCode[error["code"]] if error["code"] in _NAMES else grpc.StatusCode.UNKNOWN
    status = rpc.make_status(
        code,
        error["message"],
        reason=error["reason"],
        metadata={"run_id": run["id"], "step": error["step"]},
    )
    return _answer(status, headers=headers)


def canceled_run(run: Mapping[str, Any], headers: Mapping[str, str]) -> JSONResponse:
    """Answer that a run was cancelled before it had an output."""
    message = f"run {run['id']} was cancelled before it had an output"
    error = Conflict(Reason.RUN_CANCELED, message, metadata={"run_id": run["id"]})
    return _answer(rpc.to_status(error), headers=headers)


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Answer with a RefluxError."""
    del request
    assert isinstance(error, RefluxError)
    return _answer(rpc.to_status(error))


async def on_refusal(request: Request, error: Exception) -> JSONResponse:
    """Answer a path or a method that no route takes (404, 405)."""
    assert isinstance(error, HTTPException)
    unknown = NotFound(
        Reason.PATH_UNKNOWN,
        f"there is no {request.method} {request.url.path}; /openapi.yaml lists what there is",
    )
    return _answer(rpc.to_status(unknown), status_code=error.status_code, headers=error.headers)


async def on_defect(request: Request, error: Exception) -> JSONResponse:
    """Answer a defect of ours; the log has its traceback under the id in the answer."""
    error_id = secrets.token_hex(8)
    log.exception(  # noqa: LOG004 - Starlette calls this while it handles the exception
        "request_failed", path=request.url.path, error_id=error_id, error=type(error).__name__
    )
    return _answer(rpc.to_status(rpc.defect(error_id)))


def _answer(
    status: Any, *, status_code: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    if (after := rpc.retry_after(status)) is not None:
        headers = {**(headers or {}), "Retry-After": after}
    body = MessageToDict(status, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return JSONResponse(body, status_code=status_code or _BY_NUMBER[status.code], headers=headers)
