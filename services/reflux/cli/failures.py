"""Why a client command did not succeed: one value, shown to people or to programs.

Whatever goes wrong (a status of a service, a document that cannot be read, a setting, nothing listening)
becomes a google.rpc.Status, because that is what programs already parse. From it follow the exit status and
what people see: the reason, the message, each wrong place, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Any, Final, cast

from reflux.cli import exits
from reflux.cli.exits import Exit
from reflux.core.errors import InvalidArgument, RefluxError, Unavailable, Violation
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from reflux.cli.documents import Document
    from reflux.cli.target import Target
    from reflux.runtime.rpc import RpcFailure

_HINTS: Final = {
    "ABORTED": "it changed since it was read: look at it again, then repeat the command",
    "UNIMPLEMENTED": "that server does not know this call: perhaps it is of another release",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure.

    Attributes:
        status: a google.rpc.Status in its JSON form.
        exit: what the command ends with.
        reason: of the closed list; empty when the failure is not ours.
        message: for people.
        violations: the wrong places.
        hint: what to do; may be empty.
    """

    status: dict[str, Any]
    exit: Exit
    reason: str
    message: str
    violations: tuple[Violation, ...] = ()
    hint: str = ""


class CommandError(Exception):
    """Ends the command; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def wrong(message: str, *, hint: str = "", violations: Sequence[Violation] = ()) -> CommandError:
    """An argument that no service has to see to know that it is wrong."""
    return CommandError(
        of_error(InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=violations), hint)
    )


def not_found(message: str) -> CommandError:
    """Something inside an answer that is not there."""
    status = {"code": 5, "message": message, "details": []}
    return CommandError(Failure(status, Exit.NOT_FOUND, "", message))


def with_lines(failure: Failure, document: Document) -> Failure:
    """The same failure; places in the document say their line too. Programs see what the service said."""
    violations = []
    for each in failure.violations:
        line = document.line(each.pointer) if each.pointer.startswith("/") else None
        violations.append(Violation(f"{each.pointer} (line {line})", each.message) if line else each)
    return replace(failure, violations=tuple(violations))


def of_error(error: RefluxError, hint: str = "") -> Failure:
    """An error of our own tree."""
    from reflux.runtime import rpc

    status = rpc.to_status(error)
    return Failure(
        _to_json(status), exits.of_code(status.code), error.reason, error.message, error.violations, hint
    )


def of_call(error: grpc.RpcError, target: Target) -> Failure:
    """A failed call to the server at `target`."""
    from reflux.runtime import rpc

    read = rpc.read(error)
    code = int(read.code.value[0])
    if not read.reason and read.code.name in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        return of_error(Unavailable(Reason.SERVICE_UNREACHABLE, *_unheard(error, target)), target.hint)
    status = _status(error) or {"code": code, "message": read.message, "details": []}
    hint = _HINTS.get(read.code.name, "") or _again(read)
    message = read.message
    if not read.reason:
        message = f"{target.address} answered {read.code.name}: {read.message}"
    return Failure(status, exits.of_code(code), read.reason, message, read.violations, hint)


def _again(read: RpcFailure) -> str:
    """When to come again, if a limit says so."""
    from reflux.core.flow.durations import format_duration

    if read.code.name != "RESOURCE_EXHAUSTED" or read.retry_seconds is None:
        return ""
    wait = timedelta(seconds=max(1, ceil(read.retry_seconds)))  # rounded up, as Retry-After is
    return f"the same command may work in {format_duration(wait)}"


def _unheard(error: grpc.RpcError, target: Target) -> tuple[str]:
    """Nothing listens, or the edge is there and what is behind it is not."""
    call = cast("grpc.Call", error)
    text = str(call.details() or "").strip()
    if call.initial_metadata():
        return (f"{target.address} is there, but what should answer does not: {text}",)
    if call.code().name == "DEADLINE_EXCEEDED":
        return (f"{target.address} did not answer in time",)
    return (f"nothing answers at {target.address} ({target.source})",)


def _status(error: grpc.RpcError) -> dict[str, Any] | None:
    from google.rpc import status_pb2  # type: ignore[import-untyped]

    from reflux.runtime import rpc

    for key, value in cast("grpc.Call", error).trailing_metadata() or ():
        if key == rpc.DETAILS_KEY:
            return _to_json(status_pb2.Status.FromString(value))
    return None


def _to_json(status: Any) -> dict[str, Any]:
    from google.protobuf import json_format
    from google.rpc import error_details_pb2  # noqa: F401 - details are Anys of it

    try:
        made: dict[str, Any] = json_format.MessageToDict(status, preserving_proto_field_name=True)
    except TypeError:  # a detail of a type that this release does not know
        made = {"code": status.code, "message": status.message}
    return {"code": status.code, "message": status.message, "details": [], **made}
