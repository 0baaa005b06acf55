"""What the worker must know of the events that it writes: what is progress, and what belongs together."""

from collections.abc import Sequence
from itertools import pairwise

from reflux.core import event as ev


def is_progress(event: ev.Event) -> bool:
    """Whether the run got further by this, for the count of recoveries without progress."""
    return isinstance(event, ev.StepSettled | ev.StepEntered | ev.RunResumed) or (
        isinstance(event, ev.AttemptFinished) and event.counted
    )


def tied(events: Sequence[ev.Event]) -> frozenset[int]:
    """The places of events that mean nothing without the one behind them.

    A word that was heard is not heard again, and a child that has begun is not begun again. So what a person
    decided, and what follows from it, must be durable together: a run read between the two would never learn
    the second half.
    """
    return frozenset(place for place, (event, after) in enumerate(pairwise(events)) if _tie(event, after))


def binds(event: ev.Event) -> bool:
    """Whether the event behind this one may belong to it: a walk does not stop between the two."""
    return isinstance(event, ev.StepAnswered | ev.StepOverruled | ev.ChildStarted | ev.RunTerminated)


def _tie(event: ev.Event, after: ev.Event) -> bool:
    if not binds(event):
        return False
    if isinstance(event, ev.RunTerminated):
        return isinstance(after, ev.RunFinished)
    return isinstance(after, ev.StepSettled) and after.step == event.step  # type: ignore[union-attr]
