"""Whether a run got further by what the worker writes."""

from reflux.core import event as ev


def is_progress(event: ev.Event) -> bool:
    """Whether the run got further by this, for the count of recoveries without progress."""
    return isinstance(event, ev.StepSettled | ev.StepEntered | ev.RunResumed) or (
        isinstance(event, ev.AttemptFinished) and event.counted
    )
