"""When a run may leave memory, and how its row reads: what brings it back.

`runs.wake_at` of a run in memory lies in the past, so that one which was dropped is found at once. One that
waits has the time of its next timer there; without a timer it waits for a word, which brings it back itself.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from reflux.core.effect import EffectClass
from reflux.core.event import RunPhase
from reflux.core.state import RunState
from reflux.core.walker import next_wake
from reflux.orchestrator.operations.seen import seen_as
from reflux.orchestrator.store.journal import RunUpdate

EVICT_AFTER: Final = timedelta(seconds=2)
"""A run that waits for longer than this leaves memory."""

LOOK_AGAIN: Final = timedelta(hours=1)
"""A run that waits for a child alone is read again after this, in case that it has ended without a word."""

FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""When a run is due that waits for a word alone."""


def row_of(
    state: RunState, shown: RunUpdate, now: datetime, *, begins_at: datetime | None = None
) -> RunUpdate:
    """How the row of a run in memory should read.

    Args:
        state: the run's.
        shown: how it reads now.
        now: the database's time.
        begins_at: when a queued run may begin, if that is known.
    """
    phase = state.phase
    if state.finished:
        failure = state.finished.failure
        update = RunUpdate(phase, finished_at=state.finished.time, failure=failure, progressed=False)
        return replace(update, fingerprint=seen_as(state, failure))
    failure = None
    if phase is RunPhase.PARKED:
        failure = state.quarantine or state.steps[next(iter(state.parked))].failure
    if state.queued and phase in (RunPhase.QUEUED, RunPhase.PAUSED):
        later = FOREVER if phase is RunPhase.PAUSED else None
        return RunUpdate(phase, wake_at=begins_at or later, progressed=False)
    wake = None if phase is RunPhase.PARKED else state.created.time
    if rests(state, now):
        late = _later(shown, now) if state.child_runs else FOREVER
        wake = next_wake(state) or (late if wake is not None else None)
    seen = seen_as(state, failure)
    return RunUpdate(phase, wake_at=wake, failure=failure, fingerprint=seen, progressed=False)


def queues(state: RunState) -> bool:
    """Whether a run that was queued may still begin, and has not: nothing has ended it or put it aside."""
    return state.queued and state.finished is None and state.cancel is None and state.quarantine is None


def rests(state: RunState, now: datetime, *, begins_at: datetime | None = None) -> bool:
    """Whether nothing can happen to the run for long, so that it need not be in memory."""
    if state.flights or state.finished or state.unstarted:
        return False
    if state.queued and state.cancel is None:
        return begins_at is None or begins_at - now > EVICT_AFTER
    if state.paused is not None and state.cancel is None:
        return True
    if state.ready or state.closes:
        return False
    wake = next_wake(state)
    by_word = bool(state.awaited or state.child_runs)
    return by_word if wake is None else wake - now > EVICT_AFTER


def acts(state: RunState) -> bool:
    """Whether an attempt is in flight that may have an outside effect."""
    return state.flights > 0 and any(
        run.flight is not None and run.flight.started.assignment.effect is not EffectClass.PURE
        for run in state.steps.values()
    )


def _later(shown: RunUpdate, now: datetime) -> datetime:
    """When to look at a run that waits for a child alone; the time it has, unless that is near."""
    known = shown.wake_at
    return known if known is not None and known - now > LOOK_AGAIN / 2 else now + LOOK_AGAIN
