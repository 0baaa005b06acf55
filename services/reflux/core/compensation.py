"""Undoing: what a run that did not end well does about what it has done.

The scope is the run. Each step with `compensate` that has SUCCEEDED is remembered in the order of completion;
so is one that FAILED although what it was to do is done (a call, a run that it began, the steps in it),
because what it gave could not be kept. When the run is
about to end FAILED or CANCELED, and nothing is in flight any more, `CompensationStarted` says why, and then
they are undone one after the other, the last one first. A failure that a `catch` took, or that `on_error`
let pass, undoes nothing; nor does a terminate. What a run has kept from its origin is the origin's: it may
have ended well by it, so nobody else undoes it. If the origin should have and has not, this run says so too.

A run that a step has begun undoes its own, and what it could not undo comes up. One that ended well is not
undone by the end of its parent: the step that began it says with `compensate` what undoes it.

A compensation is a step run of its own, under the path of what it undoes and `~compensate`: with attempts,
retries, claims and an idempotency key of its own. Its `with` sees what the step saw, and `self` and `error`.

Certainty is never invented. One that FAILED is recorded, and the next begins: the run ends with what was not
undone in `uncompensated`. One that is ambiguous and may not be asked again is PARKED, like any step: the
others go on, then a failed run waits for a person, and a cancelled one ends with it in `unresolved_effects`.
A step whose own effect is not known is not undone, because it may never have happened; it is unresolved.

A cancel while a failed run is undoing makes the run end CANCELED and stops nothing.
"""

from datetime import datetime

from reflux.core import event as ev
from reflux.core.event import SETTLED, RunPhase, StepState
from reflux.core.names import UNDO, StepPath
from reflux.core.reasons import Reason
from reflux.core.state import ROOT, Closing, Frame, RunState, StepRun, caught


def path_of(undone: StepPath) -> StepPath:
    """Where the compensation of a step stands."""
    return StepPath(undone + UNDO)


def remember(state: RunState, path: StepPath, run: StepRun) -> None:
    """Notes a step that has just settled, if there is something to undo.

    Also while the run undoes: a person may confirm a PARKED step then, and it is the next one to be undone.
    """
    if run.step.compensation is None or run.kept is not None:
        return
    if run.state is StepState.SUCCEEDED or run.acted:
        state.to_undo.append(path)


def start(state: RunState, closing: Closing, now: datetime) -> ev.CompensationStarted | None:
    """What begins to undo a run that ends so; None when there is nothing to undo, or nobody who could.

    A quarantined run kills its owners: it ends as it is.
    """
    ended_well = closing.state is RunPhase.SUCCEEDED
    if ended_well or state.compensation is not None or state.quarantine is not None or not state.to_undo:
        return None
    return ev.CompensationStarted(len(state.to_undo), _why(state, closing), now)


def _why(state: RunState, closing: Closing) -> ev.Failure:
    if closing.failure is not None:
        return closing.failure
    reason = state.cancel.reason if state.cancel is not None else ""
    return ev.Failure("CANCELLED", Reason.RUN_CANCELED, reason or "the run was cancelled")


def begin(state: RunState, event: ev.CompensationStarted) -> None:
    """Gives up what is left of the steps, and begins the first compensation."""
    state.compensation = event
    if ROOT not in state.closing:
        state.closing[ROOT] = Closing(RunPhase.FAILED, failure=event.failure)
    for waiting in (state.ready, state.due, state.timers, state.closable, state.deadlines):
        waiting.clear()
    for run in state.steps.values():
        if run.state not in SETTLED and run.state is not StepState.PARKED:
            run.state = StepState.CANCELED
            run.finish_time = event.time
    begin_next(state)


def begin_next(state: RunState) -> None:
    """Makes the next compensation ready, if there is one."""
    if state.compensation is None or not state.to_undo:
        return
    if state.undone and state.steps[path_of(state.undone[-1])].state not in (*SETTLED, StepState.PARKED):
        return  # somebody has decided about one before it
    undone = state.to_undo.pop()
    state.undone.append(undone)
    run = state.steps[undone]
    assert run.step.compensation is not None, f"{undone} has nothing that undoes it"
    shown = state.shown[run.prefix][undone.removeprefix(run.prefix)]
    values = {**state.values_of(undone), "self": shown, "error": caught(state.compensation.failure)}
    path = path_of(undone)
    # A frame of its own, which is no container's: nothing ends it early.
    frame = Frame(ROOT, 0, 0, run.prefix, (path,), values, open=1)
    state.steps[path] = StepRun(run.step.compensation, run.prefix, ROOT, frame, undoes=undone)
    state.ready[path] = None


def uncompensated(state: RunState) -> tuple[StepPath, ...]:
    """What should have been undone, and surely or perhaps is not."""
    failed = [path for path in state.undone if state.steps[path_of(path)].state is not StepState.SUCCEEDED]
    return (*failed, *reversed(state.to_undo), *state.owed, *state.below.uncompensated)
