"""What the worker writes: events in portions, and whether a run got further by them."""

from collections.abc import Sequence
from typing import Final

from reflux.core import event as ev

SUBMISSION_BYTES: Final = 4 << 20
"""Events of one walk are written in portions of about this size."""


def portions(payloads: Sequence[bytes]) -> list[list[bytes]]:
    """`payloads` in portions of at most about `SUBMISSION_BYTES`; one empty portion when there are none."""
    parts: list[list[bytes]] = [[]]
    size = 0
    for payload in payloads:
        if parts[-1] and size + len(payload) > SUBMISSION_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(payload)
        size += len(payload)
    return parts


def is_progress(event: ev.Event) -> bool:
    """Whether the run got further by this, for the count of recoveries without progress."""
    return isinstance(event, ev.StepSettled | ev.StepEntered | ev.RunResumed) or (
        isinstance(event, ev.AttemptFinished) and event.counted
    )
