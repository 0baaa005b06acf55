"""Why something failed, as a part of the facts of `reflux.core.event`."""

from dataclasses import dataclass

MAX_MESSAGE = 4_000
"""Characters of a failure's message."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed."""

    code: str
    """gRPC canonical code, e.g. `UNAVAILABLE`."""
    reason: str
    """One of `reflux.core.reasons`, or a reason of the node's own."""
    message: str
    retryable: bool = False
    step: str = ""
    """The step in which it arose; empty for the run's own."""

    def __post_init__(self) -> None:
        """Messages may quote what somebody sent: they are bounded, and hold nothing that no store takes."""
        message = self.message[:MAX_MESSAGE].replace("\0", "\ufffd").encode(errors="replace").decode()
        if message != self.message:
            object.__setattr__(self, "message", message)
