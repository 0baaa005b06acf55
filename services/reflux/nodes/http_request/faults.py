"""What can go wrong with a target, as faults. All of it is the target's: none ejects the node.

address refused                     PERMISSION_DENIED    ADDRESS_REFUSED       nothing was sent
not resolved, not connected, TLS    UNAVAILABLE          TARGET_UNREACHABLE    nothing was sent
connection broke                    UNAVAILABLE          TARGET_UNREACHABLE    nobody knows
no answer in time                   DEADLINE_EXCEEDED    TARGET_TIMEOUT        nobody knows
status from 400                     see `_CODES`         TARGET_STATUS         4xx: nothing; 5xx: nobody knows
answer too large                    OUT_OF_RANGE         RESPONSE_TOO_LARGE    done
too many redirects                  FAILED_PRECONDITION  TOO_MANY_REDIRECTS    nobody knows
credential not for this request     INVALID_ARGUMENT     CREDENTIAL_UNFIT      nothing was sent
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import aiohttp
import grpc

from reflux.nodes.http_request.guard import AddressRefused
from reflux.sdk import Reason, TargetFault

_CODES: Final = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    410: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_EXCERPT: Final = 500


def of_exception(error: Exception, *, target: str, first: bool) -> TargetFault:
    """A failed exchange.

    Args:
        error: what aiohttp, the guard or a timeout raised.
        target: the request, for people; without query, which may hold a secret.
        first: whether nothing had been sent before this request (no redirect).
    """
    if isinstance(error, AddressRefused):
        return TargetFault(
            grpc.StatusCode.PERMISSION_DENIED, str(error), reason=Reason.ADDRESS_REFUSED, no_effect=first
        )
    if isinstance(error, TimeoutError):
        connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
        return TargetFault(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"{target} did not answer in time",
            reason=Reason.TARGET_TIMEOUT,
            no_effect=first and connecting,
        )
    connecting = isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
    said = _said(error) or type(error).__name__
    return TargetFault(
        grpc.StatusCode.UNAVAILABLE,
        f"{target} could not be reached: {said}" if connecting else f"{target} broke off: {said}",
        reason=Reason.TARGET_UNREACHABLE,
        no_effect=first and connecting,
    )


def _said(error: Exception) -> str:
    """What an error says of its cause; never the whole URL, whose query may hold a secret."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status}, {error.message}"
    if isinstance(error, aiohttp.InvalidURL):
        return error.description or ""
    return str(getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error)


def unfit(why: str) -> TargetFault:
    """The credential cannot be used for this request; nothing was sent."""
    code = grpc.StatusCode.INVALID_ARGUMENT
    return TargetFault(code, why, reason=Reason.CREDENTIAL_UNFIT, no_effect=True)


def of_status(
    status: int, *, target: str, body: bytes, first: bool, retry_after: float | None
) -> TargetFault:
    """An answer that says no. A 4xx is a refusal, so nothing was done; 408 and 5xx tell nothing."""
    default = grpc.StatusCode.FAILED_PRECONDITION if status < 500 else grpc.StatusCode.UNAVAILABLE
    return TargetFault(
        _CODES.get(status, default),
        f"{target} answered {status}",
        reason=Reason.TARGET_STATUS,
        metadata={"status": str(status), "body": body[: _EXCERPT * 4].decode(errors="replace")[:_EXCERPT]},
        no_effect=first and status < 500 and status != 408,
        retry_after=None if retry_after is None else timedelta(seconds=retry_after),
    )


def too_large(target: str, limit: int) -> TargetFault:
    """An answer that does not fit."""
    return TargetFault(
        grpc.StatusCode.OUT_OF_RANGE,
        f"{target} answered with more than {limit} bytes",
        reason=Reason.RESPONSE_TOO_LARGE,
        metadata={"limit": str(limit)},
    )


def too_many_redirects(target: str, limit: int) -> TargetFault:
    """A chain of redirects longer than allowed."""
    return TargetFault(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"{target} redirects more than {limit} times",
        reason=Reason.TOO_MANY_REDIRECTS,
    )
