"""One tree of errors, by who must act.

    RefluxError
    ├── CallerError            the caller must change the request
    │   ├── InvalidArgument    … its content                      INVALID_ARGUMENT
    │   ├── NotFound           … what it names                    NOT_FOUND
    │   ├── AlreadyExists      … its name or handle               ALREADY_EXISTS
    │   ├── Conflict           … after reading anew               ABORTED
    │   ├── Unauthenticated    … and prove who sends it           UNAUTHENTICATED
    │   └── Refused            … or the state of the world first  FAILED_PRECONDITION
    ├── TryLater               nobody: the same request may work later
    │   ├── Unavailable                                           UNAVAILABLE
    │   └── Exhausted                                             RESOURCE_EXHAUSTED
    └── Defect                 we must: INTERNAL, and the log has the cause

`reflux.runtime.rpc` maps the tree to google.rpc.Status in one table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reflux.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong place in a request."""

    pointer: str
    """JSON pointer into the document, or the name of a request field."""
    message: str
    """What is wrong and what to do about it."""


class RefluxError(Exception):
    """Root of the tree. `reason` is for programs, the message for people, `metadata` for both."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)


class CallerError(RefluxError):
    """The caller must change the request."""


class InvalidArgument(CallerError):
    """The request's content is wrong whatever the state of the world."""


class NotFound(CallerError):
    """What the request names does not exist."""


class AlreadyExists(CallerError):
    """The name or the start-once handle is taken."""


class Conflict(CallerError):
    """The resource changed since the caller read it."""


class Unauthenticated(CallerError):
    """Who sends the request is not proven."""


class Refused(CallerError):
    """The state of the world forbids it now."""


class TryLater(RefluxError):
    """The same request may succeed later; `retry_seconds` from now, if anybody knows."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(reason, message, metadata=metadata, violations=violations)
        self.retry_seconds = retry_seconds


class Unavailable(TryLater):
    """A part is starting, draining or unreachable."""


class Exhausted(TryLater):
    """A limit is reached."""


class Defect(RefluxError):
    """Our fault."""
