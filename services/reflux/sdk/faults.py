"""How a node version fails, by who is ill.

    Fault
    ├── NodeFault      the version or its provider: the mesh tries again, counts it, falls back
    │   └── Full       … has no room for the call now
    ├── TargetFault    what the input names: the mesh does nothing, the step's own `retry` decides
    └── Refusal        the SDK itself, before anything was processed; not for authors

A NodeFault travels trailers-only, a TargetFault after initial metadata: that is how Envoy tells them apart
(it can see no more). Whether an outside effect is possible is told apart from that: before the claim there
is none, after it only the author knows (`no_effect`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

import grpc

from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from reflux.core.errors import Violation

_SEEN_BY_THE_MESH: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
    }
)


class Fault(Exception):
    """Root of the tree.

    Args:
        code: canonical code, which a step's `retry.on` names.
        message: for people; never a secret, it is journaled.
        reason: for programs.
        metadata: facts for programs, such as the target's own status; journaled as well.
        retry_after: when the ill part said it will be well.
        no_effect: after a claim: nothing happened outside, for certain (declined, not connected).
        violations: wrong places in the input.
    """

    owner: ClassVar[str]
    """`node` or `target`, as it travels."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: Reason,
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        no_effect: bool = False,
        violations: Sequence[Violation] = (),
    ) -> None:
        if code is grpc.StatusCode.OK:
            raise ValueError("a fault cannot be OK")
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.no_effect = no_effect
        self.violations = tuple(violations)

    def hide(self, hide: Callable[[str], str]) -> None:
        """Take secrets out of what will be told."""
        self.message = hide(self.message)
        self.metadata = {key: hide(value) for key, value in self.metadata.items()}
        self.violations = tuple(replace(each, message=hide(each.message)) for each in self.violations)


class NodeFault(Fault):
    """The version or its provider is ill.

    >>> raise NodeFault(grpc.StatusCode.UNAVAILABLE, "the provider answers 503")

    Raises:
        ValueError: a code that the mesh would neither retry nor count; then it is a TargetFault.
    """

    owner = "node"

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: Reason = Reason.NODE_FAULT,
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        no_effect: bool = False,
    ) -> None:
        if code not in _SEEN_BY_THE_MESH:
            names = ", ".join(sorted(code.name for code in _SEEN_BY_THE_MESH))
            raise ValueError(f"the mesh does not act on {code.name}; a NodeFault has one of {names}")
        super().__init__(
            code,
            message,
            reason=reason,
            metadata=metadata,
            retry_after=retry_after,
            no_effect=no_effect,
        )


class Full(NodeFault):
    """No room for the call now; the call falls on to the next version.

    >>> raise Full("all 4 connections to the provider are in use")
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        super().__init__(code, message, reason=Reason.NODE_FULL, retry_after=retry_after)


class TargetFault(Fault):
    """What the input names is ill; nobody else's calls suffer from it.

    >>> raise TargetFault(grpc.StatusCode.NOT_FOUND, "no such customer", no_effect=True)
    """

    owner = "target"

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: Reason = Reason.TARGET_FAULT,
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        no_effect: bool = False,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(
            code,
            message,
            reason=reason,
            metadata=metadata,
            retry_after=retry_after,
            no_effect=no_effect,
            violations=violations,
        )


class Refusal(Fault):
    """The SDK does not let the call through: nothing was processed, another version may take it."""

    owner = "node"
