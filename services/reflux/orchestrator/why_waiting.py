"""Why what has not settled waits, and until when if anybody knows."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from reflux.core.attempt import total_deadline
from reflux.core.event import FINAL, SETTLED, RunPhase, StepState
from reflux.core.state import ROOT
from reflux.orchestrator.evidence import why_asking, why_parked
from reflux.orchestrator.words import view as words

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from reflux.core import event as ev
    from reflux.core.names import RunId, StepPath
    from reflux.core.state import Flight, RunState, StepRun

MOST_NAMED: Final = 10
"""Steps in one sentence: a wide loop may have a thousand that are ready."""


class Waiting(NamedTuple):
    """The reason, for people, and when it is over at the latest; None: nobody knows."""

    why: str
    until: datetime | None = None


def of_run(state: RunState, parked: Collection[RunId]) -> Waiting | None:
    """Of a run; `parked`: runs of its steps that wait for a person. None once it has ended."""
    if state.phase in FINAL:
        return None
    if state.quarantine and not state.canceled:
        return Waiting("a person must look at it: " + state.quarantine.message)
    if state.paused and not state.cancel:
        return Waiting(words.why_paused(state))
    if state.phase is RunPhase.QUEUED:
        return Waiting("waits for a limit of its flow")
    for path, run in state.steps.items():
        if run.held is not None and run.state not in SETTLED:
            return Waiting(f"step {path}: {_held(run.held)}", run.held.until)
        if run.flight is not None:
            return Waiting(
                f"step {path}: {_in_flight(run.flight)}", _answered_by(state, path, run, run.flight.started)
            )
        if run.asking is not None:
            return Waiting(f"step {path}: {why_asking(run)}", _until(state, path))
    if state.child_runs and not state.due:
        first = next(iter(state.child_runs))
        path = next((path for path, child in state.child_runs.items() if child in parked), first)
        return Waiting(f"step {path}: {_child(state, path, parked)}", _until(state, path))
    if timers := {**state.due, **state.timers}:
        path, at = min(timers.items(), key=lambda item: item[1])
        why = _on_timer(state, path) if path in state.timers else _before_retry(state.steps[path])
        return Waiting(f"step {path}: {why}", _until(state, path, at))
    for path, awaited in state.awaited.items():
        why = words.why_awaited(awaited, state.steps[path])
        return Waiting(f"step {path}: {why}", _until(state, path))
    if state.parked:
        path = next(iter(state.parked))
        return Waiting(f"step {path}: {why_parked(state.steps[path])}")
    if (told := state.unstarted.get(ROOT)) is not None:
        return Waiting(f"begins run {told.run_id} of flow {told.flow}, which hears of its failure")
    if state.ready:
        return Waiting("its next steps are about to start: " + _named(state.ready))
    return Waiting("about to go on")


def of_step(state: RunState, path: StepPath, run: StepRun, parked: Collection[RunId]) -> Waiting | None:
    """Of a step; None once it has settled, or its run has ended."""
    if run.state in SETTLED or state.phase in FINAL:
        return None
    if run.state is StepState.PARKED:
        return Waiting(why_parked(run))
    if state.quarantine and not state.canceled:
        return Waiting("a person must look at the run")
    if state.paused and not state.cancel and run.flight is None and path not in state.awaited:
        return Waiting(f"the run is {words.why_paused(state)}")
    if state.phase is RunPhase.QUEUED:
        return Waiting("the run waits for its beginning")
    if run.held is not None:
        return Waiting(_held(run.held), run.held.until)
    if run.state is StepState.RETRYING:
        return Waiting(_before_retry(run), _until(state, path, state.due.get(path)))
    if run.flight is not None:
        return Waiting(_in_flight(run.flight), _answered_by(state, path, run, run.flight.started))
    if path in state.child_runs:
        return Waiting(_child(state, path, parked), _until(state, path))
    if path in state.timers or path in state.awaited:
        return Waiting(_on_timer(state, path), _until(state, path, state.timers.get(path)))
    return Waiting(_before_its_turn(state, path, run), _until(state, path))


def _until(state: RunState, path: StepPath, own: datetime | None = None) -> datetime | None:
    """When it is over at the latest: its own time, or that of what it is in; a pause knows none."""
    if state.paused and not state.cancel:
        return None
    ends = [own] if own is not None else []
    while True:
        if path in state.deadlines and path not in state.stopped:
            ends.append(state.deadlines[path])
        if path not in state.steps:
            return min(ends, default=None)
        path = state.steps[path].parent


def _answered_by(
    state: RunState, path: StepPath, run: StepRun, started: ev.AttemptStarted
) -> datetime | None:
    """When the call in flight is given up at the latest: in a pause, too, by its own limits."""
    limit = started.limit or run.step.timeout.attempt
    own = started.time + limit if limit is not None else None
    total = total_deadline(run)
    ends = [at for at in (own, total, _until(state, path)) if at is not None]
    return min(ends, default=None)


def _child(state: RunState, path: StepPath, parked: Collection[RunId]) -> str:
    """Why a step waits that begins a run."""
    run_id = state.steps[path].child
    if path in state.unstarted:
        return f"begins run {run_id}"
    why = f"run {run_id} is being cancelled" if state.steps[path].ending else f"waits for run {run_id}"
    return f"{why}, which is PARKED: it waits for a person" if run_id in parked else why


def _before_its_turn(state: RunState, path: StepPath, run: StepRun) -> str:
    if run.branches is not None:
        return "its own steps are being done"
    if missing := state.waits_for(path):
        return "waits for " + _named(missing)
    if run.frame is None:
        return f"waits for {run.parent} to begin"
    return "about to start"


def _named(paths: Collection[StepPath]) -> str:
    more = len(paths) - MOST_NAMED
    return ", ".join(islice(paths, MOST_NAMED)) + (f" and {more} more" if more > 0 else "")


def _on_timer(state: RunState, path: StepPath) -> str:
    awaited = state.awaited.get(path)
    return "waits for its time" if awaited is None else words.why_awaited(awaited, state.steps[path])


def _before_retry(run: StepRun) -> str:
    if (asking := why_asking(run)) is not None:
        return asking
    code = run.failure.code if run.failure else "no answer"
    return f"attempt {run.attempt} ended with {code}; the next one waits for its time"


def _held(held: ev.AttemptHeld) -> str:
    return f"attempt {held.attempt} has not left: {held.why}"


def _in_flight(flight: Flight) -> str:
    claimed = f", its effect claimed by {flight.claim.node_version}" if flight.claim else ""
    return f"attempt {flight.started.attempt} is in flight{claimed}"
