"""A fact that is there to be seen alone: an attempt that cannot leave yet. A part of `reflux.core.event`.

Nothing is decided by it. Whoever folds a journal, on whichever orchestrator, can say by it why a step waits.
"""

from dataclasses import dataclass
from datetime import datetime

from reflux.core.names import StepPath


@dataclass(frozen=True, slots=True)
class AttemptHeld:
    """An attempt cannot leave yet; or can now, when `why` is empty. No state follows."""

    step: StepPath
    attempt: int
    why: str
    """In people's words."""
    until: datetime | None
    """When its step has no more time, or patience; None: it has no such limit."""
    time: datetime
