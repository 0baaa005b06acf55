"""A run's state: the fold of its journal.

`begin` makes the state of a new run, `evolve` folds one event into it. Folding is deterministic and decides
nothing; what follows from an event stands in the event. The state is a plain mutable value owned by whoever
folds it, because copying a run of ten thousand steps for each event would cost more than the run.

How the parts move:

- A step is *ready* once all it waits for have settled; `pending` counts what is missing, so that settling a
  step costs its dependants only, never a scan.
- A container (if, switch, parallel; the run itself is the container `ROOT`) is *open* while steps of its
  entered branches are unsettled, and *closable* once none is.
- A container is *closing* when it must end early: a step in it failed for good, the run was cancelled, timed
  out or returned. Closing cancels what has no outside effect at once; an attempt that may have one keeps its
  step RUNNING until its outcome is known, and a step that was about to ask again for an effect of which
  nobody knows is PARKED.
- Nothing closes over a PARKED step but a cancel, which lists it among the unresolved effects.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, assert_never

from reflux.core import event as ev
from reflux.core.document import Json, JsonValue
from reflux.core.effect import EffectClass
from reflux.core.event import SETTLED, RunPhase, StepState
from reflux.core.flow.model import Flow, OnError, ReturnAction, Step, branches_of
from reflux.core.flow.webhook import MANUAL, TRIGGER_TYPE
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason

ROOT: Final = StepPath("")
"""The run itself, as the container of the top list."""


MAX_RUN_BYTES: Final = 64 << 20
"""Of a run's input and all its outputs as JSON: what one run may hold in memory."""


@dataclass(slots=True)
class Flight:
    """An attempt whose outcome is not known yet."""

    started: ev.AttemptStarted
    claim: ev.EffectClaimed | None = None


@dataclass(slots=True)
class StepRun:
    """One step in one run."""

    state: StepState = StepState.PENDING
    attempt: int = 0
    """Number of the newest attempt; 0 before the first."""
    used: int = 0
    """Attempts that count against the step's retry policy."""
    generation: int = 0
    """Rises when the next attempt must carry another idempotency key."""
    flight: Flight | None = None
    finished: list[ev.AttemptFinished] = field(default_factory=list)
    claims: dict[int, ev.EffectClaimed] = field(default_factory=dict)
    """By the number of the attempt, in order."""
    branches: tuple[int, ...] | None = None
    """Indices of the branches that were entered; None before, and for steps without branches."""
    output: Json | None = None
    failure: ev.Failure | None = None
    skip_reason: ev.SkipReason | None = None
    start_time: datetime | None = None
    finish_time: datetime | None = None

    @property
    def unresolved(self) -> ev.AttemptFinished | None:
        """The last attempt, if nobody knows what became of its outside effect."""
        last = self.finished[-1] if self.finished else None
        return last if last is not None and last.outcome is ev.Outcome.AMBIGUOUS else None


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a container ends early, and how it will end."""

    state: RunPhase
    """SUCCEEDED after a return, FAILED, or CANCELED."""
    output: Json | None = None
    failure: ev.Failure | None = None


@dataclass(slots=True)
class RunState:
    """Everything the walker knows of a run. Made by `begin`, changed by `evolve` alone."""

    id: RunId
    flow: Flow
    created: ev.RunCreated
    steps: dict[StepPath, StepRun]
    values: dict[str, JsonValue]
    """What expressions see: input, vars, steps, run, flow, trigger."""
    pending: dict[StepPath, int] = field(default_factory=dict)
    ready: dict[StepPath, None] = field(default_factory=dict)
    due: dict[StepPath, datetime] = field(default_factory=dict)
    """Steps that wait for the time of their next attempt."""
    open: dict[StepPath, int] = field(default_factory=dict)
    closable: dict[StepPath, None] = field(default_factory=dict)
    closing: dict[StepPath, Closing] = field(default_factory=dict)
    deadlines: dict[StepPath, datetime] = field(default_factory=dict)
    """When the total time of a container in progress, or of the run, is over."""
    parked: dict[StepPath, None] = field(default_factory=dict)
    flights: int = 0
    stored: int = 0
    """Bytes of the input and of all outputs."""
    quarantine: ev.Failure | None = None
    cancel: ev.CancelRequested | None = None
    finished: ev.RunFinished | None = None

    @property
    def phase(self) -> RunPhase:
        """Where the run stands, as people see it."""
        if self.finished:
            return self.finished.state
        if self.cancel:
            return RunPhase.CANCELING
        moves = self.ready or self.due or self.flights or (self.closable and ROOT not in self.closing)
        if self.quarantine or (self.parked and not moves):
            return RunPhase.PARKED
        return RunPhase.RUNNING

    @property
    def unresolved_effects(self) -> tuple[StepPath, ...]:
        """Steps whose outside effect is not known."""
        return tuple(self.parked)


def begin(run_id: RunId, flow: Flow, created: ev.RunCreated) -> RunState:
    """The state of a run that has just been accepted, its first steps ready."""
    state = RunState(
        id=run_id,
        flow=flow,
        created=created,
        steps={path: StepRun() for path in flow.steps},
        values={
            "input": created.input.value,
            "vars": dict(flow.vars),
            "steps": {},
            "run": {"id": run_id, "started_at": created.time.isoformat(), "attempt": 1},
            "flow": {"name": created.flow_name, "version": created.flow_version},
            "trigger": _trigger(created),
        },
    )
    state.stored = len(created.input.raw)
    _enter(state, ROOT, flow.root.steps)
    if flow.timeout is not None:
        state.deadlines[ROOT] = created.time + flow.timeout
    return state


def _trigger(created: ev.RunCreated) -> dict[str, JsonValue]:
    """What expressions see of what started the run: `id` is absent when a person did."""
    return {"type": TRIGGER_TYPE, "id": created.trigger} if created.trigger else {"type": MANUAL}


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
        case ev.StepSettled():
            _step_settled(state, event)
        case ev.StepEntered():
            _step_entered(state, event)
        case ev.EffectClaimed():
            _effect_claimed(state, event)
        case ev.CancelRequested():
            _cancel_requested(state, event)
        case ev.TimedOut():
            _timed_out(state, event)
        case ev.RunRecovered():
            pass  # for the history; who counts recoveries must do so before a run can crash its owner again
        case ev.RunParked():
            state.quarantine = event.failure
        case ev.RunFinished():
            _run_finished(state, event)
        case ev.RunCreated():
            raise ValueError(f"the journal of run {state.id} begins twice")
        case _:
            assert_never(event)


def no_room(path: StepPath) -> ev.Failure:
    """The run's outputs are together more than a run may hold."""
    message = f"the outputs of this run are more than {MAX_RUN_BYTES >> 20} MiB together with that of {path}"
    return ev.Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=path)


def children(flow: Flow, path: StepPath, branches: tuple[int, ...] | None) -> Iterator[StepPath]:
    """The steps directly in the entered branches of a container; of the whole run for `ROOT`."""
    if path == ROOT:
        yield from flow.root.steps
        return
    scopes = branches_of(flow.steps[path].action)
    for index in branches or ():
        yield from scopes[index].steps


def _enter(state: RunState, container: StepPath, steps: Iterable[StepPath]) -> None:
    count = 0
    for path in steps:
        count += 1
        missing = len(state.flow.steps[path].after)
        state.pending[path] = missing
        if not missing:
            state.ready[path] = None
    state.open[container] = count
    if not count:
        state.closable[container] = None


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
    run.start_time = run.start_time or event.time
    state.flights += 1


def _effect_claimed(state: RunState, event: ev.EffectClaimed) -> None:
    flight = state.steps[event.step].flight
    if flight is not None and flight.started.attempt == event.attempt:
        flight.claim = event
        state.steps[event.step].claims[event.attempt] = event


def _attempt_finished(state: RunState, event: ev.AttemptFinished) -> None:
    run = state.steps[event.step]
    _land(state, run)
    if run.state in SETTLED:
        return
    state.ready.pop(event.step, None)
    state.due.pop(event.step, None)
    run.start_time = run.start_time or event.start_time
    run.attempt = event.attempt
    run.used += event.counted
    run.generation = event.generation + (event.outcome is ev.Outcome.NO_EFFECT)
    run.finished.append(event)
    run.failure = event.failure
    if event.state is StepState.RETRYING and event.retry_at is not None:
        run.state = StepState.RETRYING
        state.due[event.step] = event.retry_at
    elif event.state is StepState.PARKED:
        _park(state, event.step, run)
    else:
        _settle(state, state.flow.steps[event.step], event.state, event.finish_time, event.output)


def _step_entered(state: RunState, event: ev.StepEntered) -> None:
    run = state.steps[event.step]
    if run.state in SETTLED:
        return
    state.ready.pop(event.step, None)
    run.state = StepState.RUNNING
    run.start_time = event.time
    run.branches = event.branches
    step = state.flow.steps[event.step]
    for index, scope in enumerate(branches_of(step.action)):
        if index not in event.branches:
            _skip_all(state, scope.steps, event.time)
    _enter(state, event.step, tuple(children(state.flow, event.step, event.branches)))
    if step.timeout.total is not None:
        state.deadlines[event.step] = event.time + step.timeout.total


def _skip_all(state: RunState, steps: Iterable[StepPath], time: datetime) -> None:
    """Marks a branch that is not taken; nothing waits for its steps but each other."""
    for path in steps:
        run = state.steps[path]
        run.state = StepState.SKIPPED
        run.skip_reason = ev.SkipReason.BRANCH
        run.finish_time = time
        _show(state, path, run)
        for scope in branches_of(state.flow.steps[path].action):
            _skip_all(state, scope.steps, time)


def _step_settled(state: RunState, event: ev.StepSettled) -> None:
    run = state.steps[event.step]
    step = state.flow.steps[event.step]
    state.closable.pop(event.step, None)
    if run.state in SETTLED:
        return
    run.failure = event.failure
    run.skip_reason = event.skip_reason
    _settle(state, step, event.state, event.time, event.output)
    if isinstance(step.action, ReturnAction) and event.state is StepState.SUCCEEDED:
        _close(state, ROOT, Closing(RunPhase.SUCCEEDED, output=event.output), event.time)


def _settle(state: RunState, step: Step, to: StepState, time: datetime, output: Json | None = None) -> None:
    """Ends a step, frees its dependants, and closes its container when it failed for good."""
    run = state.steps[step.path]
    _land(state, run)
    run.state = to
    run.output = output
    state.stored += len(output.raw) if output is not None else 0
    run.finish_time = time
    state.ready.pop(step.path, None)
    state.due.pop(step.path, None)
    state.deadlines.pop(step.path, None)
    if run.branches is None:
        for scope in branches_of(step.action):
            _skip_all(state, scope.steps, time)
    _show(state, step.path, run)
    container = step.parent or ROOT
    state.open[container] -= 1
    if not state.open[container]:
        state.closable[container] = None
    for path in step.dependants:
        state.pending[path] -= 1
        if not state.pending[path] and state.steps[path].state is StepState.PENDING:
            state.ready[path] = None
    if to is StepState.FAILED and step.on_error is OnError.FAIL:
        _close(state, container, Closing(RunPhase.FAILED, failure=run.failure), time)


def _show(state: RunState, path: StepPath, run: StepRun) -> None:
    """Makes a settled step readable to expressions.

    `attempts` are those with an outcome: of one that was abandoned the journal may know nothing.
    """
    shown: dict[str, JsonValue] = {
        "state": run.state.value,
        "attempts": len(run.finished),
        "error": None,
        "version": run.finished[-1].assignment.answered_by if run.finished else None,
    }
    if run.output is not None:
        shown["output"] = run.output.value
    if run.failure is not None and run.state is StepState.FAILED:
        shown["error"] = {
            "code": run.failure.code,
            "reason": str(run.failure.reason),
            "message": run.failure.message,
            "retryable": run.failure.retryable,
        }
    steps = state.values["steps"]
    assert isinstance(steps, dict)
    steps[path] = shown


def _close(state: RunState, container: StepPath, closing: Closing, time: datetime) -> None:
    """Ends a container early; the first reason stands, but a cancel goes over everything."""
    if container in state.closing and closing.state is not RunPhase.CANCELED:
        return
    state.closing[container] = closing
    state.deadlines.pop(container, None)
    branches = None if container == ROOT else state.steps[container].branches
    for path in tuple(children(state.flow, container, branches)):
        run = state.steps[path]
        if run.state in (StepState.PENDING, StepState.RETRYING) or _is_pure_flight(run):
            if run.unresolved is None:
                _settle(state, state.flow.steps[path], StepState.CANCELED, time)
            else:
                _park(state, path, run)
        elif run.branches is not None and run.state is StepState.RUNNING:
            _close(state, path, Closing(RunPhase.CANCELED), time)


def _is_pure_flight(run: StepRun) -> bool:
    return run.flight is not None and run.flight.started.assignment.effect is EffectClass.PURE


def _park(state: RunState, path: StepPath, run: StepRun) -> None:
    """Leaves a step to a person: nobody knows what became of its effect, and it may not be asked again."""
    _land(state, run)
    run.state = StepState.PARKED
    state.due.pop(path, None)
    state.parked[path] = None


def _land(state: RunState, run: StepRun) -> None:
    if run.flight is not None:
        run.flight = None
        state.flights -= 1


def _cancel_requested(state: RunState, event: ev.CancelRequested) -> None:
    if state.cancel is None and state.finished is None:
        state.cancel = event
        _close(state, ROOT, Closing(RunPhase.CANCELED), event.time)


def _timed_out(state: RunState, event: ev.TimedOut) -> None:
    whose = f"step {event.step}" if event.step else "the flow"
    failure = ev.Failure(
        "DEADLINE_EXCEEDED", Reason.TIMEOUT, f"the total time of {whose} is over", step=event.step
    )
    _close(state, event.step, Closing(RunPhase.FAILED, failure=failure), event.time)


def _run_finished(state: RunState, event: ev.RunFinished) -> None:
    state.finished = event
    state.ready.clear()
    state.due.clear()
    state.closable.clear()
    for run in state.steps.values():
        if run.state not in SETTLED and run.state is not StepState.PARKED:
            _land(state, run)
            run.state = StepState.CANCELED
            run.finish_time = event.time
