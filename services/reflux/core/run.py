"""A run is the fold of its journal.

`begin` makes the state of a new run, `evolve` folds one event into it. Folding is deterministic and decides
nothing; what follows from an event stands in the event. What is known of a run is `reflux.core.state`; how
its parts move when a step settles is `reflux.core.frames`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from reflux.core import children, clocks, compensation, resolving
from reflux.core import event as ev
from reflux.core.containers import items_of
from reflux.core.event import SETTLED, RunPhase, StepState
from reflux.core.flow.durations import format_moment
from reflux.core.flow.model import (
    ApproveAction,
    ForeachAction,
    ReturnAction,
    SignalAction,
    TryAction,
    WaitAction,
    WhileAction,
    branches_of,
)
from reflux.core.flow.variant import context_of, variant
from reflux.core.flow.webhook import MANUAL, TRIGGER_TYPE
from reflux.core.frames import (
    CANCELED,
    close,
    create,
    enter,
    entered,
    land,
    next_iteration,
    park,
    settle,
    size_of,
    skip_all,
    spend,
    unpark,
)
from reflux.core.kept import keep, take_over
from reflux.core.reasons import Reason
from reflux.core.state import (
    ROOT,
    Awaited,
    Closing,
    Flight,
    Pieces,
    RunState,
    Spoken,
    StepRun,
    error_of,
    said_digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.core.command import Piece
    from reflux.core.document import JsonValue
    from reflux.core.flow.model import Flow
    from reflux.core.names import RunId, StepPath


def begin(run_id: RunId, flow: Flow, created: ev.RunCreated) -> RunState:
    """The state of a run that has just been accepted, its first steps ready."""
    flow = variant(flow, created.pins, created.only_step)
    context = context_of(created.only_step)
    state = RunState(
        id=run_id,
        flow=flow,
        created=created,
        values={
            "input": created.input.value,
            "steps": {},
            **context,
            "vars": dict(flow.vars),
            "run": {"id": run_id, "started_at": created.time.isoformat(), "attempt": created.attempt},
            "flow": {"name": created.flow_name, "version": created.flow_version},
            "trigger": _trigger(created),
        },
    )
    state.shown[""] = state.values["steps"]  # type: ignore[assignment]
    state.stored = len(created.input.raw)
    create(state, flow.root, "", ROOT)
    enter(state, ROOT, flow.root, prefix="", values=state.values)
    state.queued = created.queued
    if flow.timeout is not None and not created.queued:
        state.deadlines[ROOT] = created.time + flow.timeout
    return state


def _trigger(created: ev.RunCreated) -> dict[str, JsonValue]:
    """What expressions see of what started the run: `id` is absent when a person did, without a trigger."""
    if not created.trigger:
        return {"type": MANUAL}
    said: dict[str, JsonValue] = {"type": created.trigger_type or TRIGGER_TYPE, "id": created.trigger}
    if created.scheduled_for is not None:
        said["scheduled_for"] = format_moment(created.scheduled_for)
    return said


def fold(run_id: RunId, flow: Flow, events: Iterable[ev.Event]) -> RunState:
    """The state after a whole journal.

    Raises:
        ValueError: the journal does not begin with `RunCreated`.
    """
    journal = iter(events)
    created = next(journal, None)
    if not isinstance(created, ev.RunCreated):
        raise ValueError(f"the journal of run {run_id} does not begin with RunCreated")  # noqa: TRY004 - a wrong journal, not a wrong type
    state = begin(run_id, flow, created)
    for event in journal:
        evolve(state, event)
    return state


def evolve(state: RunState, event: ev.Event) -> None:
    """Folds one event into the state.

    An event about a step that has settled meanwhile changes nothing: the outcome recorded first stands.
    """
    match event:
        case ev.AttemptFinished():
            _attempt_finished(state, event)
        case ev.AttemptStarted():
            _attempt_started(state, event)
        case ev.AttemptHeld():
            run = state.steps[event.step]
            run.held = event if event.why and run.state not in SETTLED else None
        case ev.StepSettled():
            _step_settled(state, event)
        case ev.StepEntered():
            _step_entered(state, event)
        case ev.EffectClaimed():
            _effect_claimed(state, event)
        case ev.EffectAsked() | ev.EffectAnswered():
            resolving.fold(state, event)
        case ev.OutcomeKept():
            keep(state, event)
        case ev.CancelRequested():
            _cancel_requested(state, event)
        case ev.TimedOut():
            _timed_out(state, event)
        case ev.RunAdmitted():
            _admitted(state, event)
        case ev.CompensationStarted():
            compensation.begin(state, event)
        case ev.ChildRequested() | ev.ChildStarted() | ev.ChildRecalled():
            children.fold(state, event)
        case ev.RunRecovered():
            pass  # for the history; who counts recoveries must do so before a run can crash its owner again
        case ev.RunParked():
            state.quarantine = event.failure
            clocks.stop(state, state.deadlines, event.time)
        case ev.RunFinished():
            _run_finished(state, event)
        case ev.SignalReceived() | ev.StepAnswered() | ev.StepOverruled():
            _heard(state, event)
        case ev.RunPaused() | ev.RunResumed() | ev.RunTerminated():
            _heard(state, event)
        case ev.RunCreated():
            raise ValueError(f"the journal of run {state.id} begins twice")
        case _:
            assert_never(event)


def put(state: RunState, piece: Piece) -> None:
    """Remembers a value until the decision that it is a part of; it is no part of the journal."""
    run = state.steps[piece.step]
    run.pieces = run.pieces or Pieces()
    run.pieces.values.append(piece.value)
    run.pieces.room = piece.room


def _heard(state: RunState, event: Spoken) -> None:
    """Somebody said something; the same word will not be heard again."""
    state.heard[event.word] = event.step if isinstance(event, ev.StepAnswered | ev.StepOverruled) else ROOT
    state.said[event.word] = said_digest(event)
    match event:
        case ev.SignalReceived():
            state.signals[event.word] = event
            state.stored += len(event.payload.raw)
        case ev.StepAnswered():
            state.steps[event.step].answer = event
        case ev.StepOverruled():
            _step_overruled(state, event)
        case ev.RunPaused():
            state.paused = event
        case ev.RunResumed():
            state.paused = state.quarantine = None
            clocks.go_on(state, event.time)
        case ev.RunTerminated():
            pass  # the events that follow end it


def _admitted(state: RunState, event: ev.RunAdmitted) -> None:
    """Its time begins now: what it waited before is no fault of its own."""
    if not state.queued:
        return
    state.queued = False
    if state.flow.timeout is not None and ROOT not in state.closing:
        state.deadlines[ROOT] = event.time + state.flow.timeout


def _attempt_started(state: RunState, event: ev.AttemptStarted) -> None:
    run = state.steps[event.step]
    if run.state in SETTLED or run.flight is not None:
        return
    state.ready.pop(event.step, None)
    state.due.pop(event.step, None)
    run.state = StepState.RUNNING
    run.attempt = event.attempt
    run.generation = event.generation
    run.flight = Flight(event)
    run.held = None
    run.start_time = run.start_time or event.time
    state.flights += 1


def _effect_claimed(state: RunState, event: ev.EffectClaimed) -> None:
    flight = state.steps[event.step].flight
    if flight is not None and flight.started.attempt == event.attempt:
        flight.claim = event
        state.steps[event.step].claims[event.attempt] = event


def _attempt_finished(state: RunState, event: ev.AttemptFinished) -> None:
    run = state.steps[event.step]
    land(state, run)
    if run.state in SETTLED:
        return
    run.held = None
    state.ready.pop(event.step, None)
    state.due.pop(event.step, None)
    run.start_time = run.start_time or event.start_time
    run.attempt = event.attempt
    run.used += event.counted
    run.generation = event.generation + (event.outcome is ev.Outcome.NO_EFFECT)
    run.finished.append(event)
    run.acted = event.outcome is ev.Outcome.DONE
    spend(state, event.step, event.cost_nanos)
    run.failure = event.failure
    resolving.follow(run, event)
    if event.state is StepState.RETRYING and event.retry_at is not None:
        run.state = StepState.RETRYING
        state.due[event.step] = event.retry_at
    elif event.state is StepState.PARKED:
        park(state, event.step, run, event.finish_time)
    else:
        settle(state, event.step, event.state, event.finish_time, event.output)


def _step_entered(state: RunState, event: ev.StepEntered) -> None:
    path, run = event.step, state.steps[event.step]
    if run.state in SETTLED:
        return
    state.ready.pop(path, None)
    state.closable.pop(path, None)
    run.state = StepState.RUNNING
    if run.start_time is None:
        run.start_time = event.time
        if run.step.timeout.total is not None:
            state.deadlines[path] = event.time + run.step.timeout.total
    match run.step.action:
        case WaitAction():
            assert event.until is not None, f"{path} waits without an end"
            state.timers[path] = event.until
        case SignalAction(name=name):
            state.awaited[path] = Awaited(name, event.key)
            if event.until is not None:
                state.timers[path] = event.until
        case ApproveAction():
            state.awaited[path] = Awaited()
            run.asked = event
            if event.until is not None:
                state.timers[path] = event.until
        case ForeachAction() as action:
            run.branches = ()
            run.items = items_of(action, state.values_of(path))
            if len(run.items) != event.count:
                raise ValueError(
                    f"{path} goes through {len(run.items)} items, and once went through {event.count}"
                )
            state.promised += event.count * size_of(state.flow, action.body)
            for _ in range(min(event.count, action.parallel)):
                next_iteration(state, path, action)
            if not run.items:
                state.closable[path] = None
        case WhileAction() as action:
            run.branches = ()
            next_iteration(state, path, action)
        case _:
            _enter_branches(state, path, run, event)


def _enter_branches(state: RunState, path: StepPath, run: StepRun, event: ev.StepEntered) -> None:
    """Those of a try come one after the other; all others at once, and the rest of them never."""
    scopes = branches_of(run.step.action)
    run.branches = (*(run.branches or ()), *event.branches)
    action = run.step.action
    handlers = len(action.handlers) if isinstance(action, TryAction) else 0
    finally_begins = isinstance(action, TryAction) and event.branches[0] > handlers
    for number, scope in enumerate(scopes):
        # Until `finally` begins nobody knows which handler is never needed.
        if number not in run.branches and (finally_begins or not isinstance(action, TryAction)):
            skip_all(state, scope, run.prefix, event.time)
    values = state.values_of(path)
    ended = run.over[0].closing if handlers and run.over else None
    if ended is not None and ended.failure is not None and not finally_begins:
        values = {**values, "error": error_of(state, ended.failure)}
    frames = [
        enter(state, path, scopes[number], prefix=run.prefix, values=values) for number in event.branches
    ]
    entered(state, frames, event.time)
    if not event.branches:
        state.closable[path] = None


def _step_settled(state: RunState, event: ev.StepSettled) -> None:
    run = state.steps[event.step]
    state.closable.pop(event.step, None)
    if run.state in SETTLED:
        return
    if event.kept:
        take_over(state, event)
        return
    run.failure = event.failure
    run.skip_reason = event.skip_reason
    run.acted = event.acted
    state.below += event.left
    if event.signal and (taken := state.signals.pop(event.signal, None)) is not None:
        state.heard[event.signal] = event.step
        state.stored -= len(taken.payload.raw)
    settle(state, event.step, event.state, event.time, event.output)
    if isinstance(run.step.action, ReturnAction) and event.state is StepState.SUCCEEDED:
        close(state, ROOT, Closing(RunPhase.SUCCEEDED, output=event.output), event.time)


def _step_overruled(state: RunState, event: ev.StepOverruled) -> None:
    """What is done again begins anew: another key, all of its attempts and time, perhaps another version."""
    run = state.steps[event.step]
    if event.choice not in (ev.Choice.RETRY, ev.Choice.FALL_BACK) or run.state is not StepState.PARKED:
        return
    unpark(state, event.step, event.time)
    run.state = StepState.RETRYING
    run.generation += 1
    run.used = 0
    run.renewed = event.time
    run.pinned = event.version or run.pinned
    run.next_version, run.tried, run.next_question = "", (), None
    state.due[event.step] = event.time


def _cancel_requested(state: RunState, event: ev.CancelRequested) -> None:
    if not state.canceled and state.finished is None:
        state.cancel = event
        close(state, ROOT, CANCELED, event.time)


def _timed_out(state: RunState, event: ev.TimedOut) -> None:
    whose = f"step {event.step}" if event.step else "the flow"
    failure = ev.Failure(
        "DEADLINE_EXCEEDED", Reason.TIMEOUT, f"the total time of {whose} is over", step=event.step
    )
    close(state, event.step, Closing(RunPhase.FAILED, failure=failure), event.time)


def _run_finished(state: RunState, event: ev.RunFinished) -> None:
    state.finished = event
    state.ready.clear()
    state.due.clear()
    state.timers.clear()
    state.awaited.clear()
    state.signals.clear()
    state.closable.clear()
    for run in state.steps.values():
        if run.state not in SETTLED and run.state is not StepState.PARKED:
            land(state, run)
            run.state = StepState.CANCELED
            run.finish_time = event.time
