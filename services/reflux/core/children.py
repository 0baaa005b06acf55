"""Runs that a run starts: those of its `flow` steps, and the one that hears of its failure.

A child is asked for by `ChildRequested`, which says its id. The id follows from the parent, the step and the
generation, so whoever carries the request out again, after whatever crash, begins the same run or finds it
begun. Once the run is durable `ChildStarted` says so. A detached step is then over, and gives the run's id;
any other one waits, which costs no memory, until the word comes that the child has finished. That word is
written in the statement that finishes the child.

- The output of the child is the output of the step. Its failure is the step's, with the path of the step in
  which it arose: `report/fetch`. A child that somebody else cancelled fails the step with CHILD_CANCELED.
- When the list around a waiting step ends early, or its time is over, the child is recalled: cancelled, and
  then waited for, because it may have to undo what it did. What waits for a person in a recalled run, or in
  one below it, goes on waiting, and so does the step: only a cancel of the parent ends that too.
- A child keeps the version it began with, and may begin children itself, `MAX_DEPTH` deep.

`policies.on_failure` is a detached child of the run as a whole, asked for before the run is FAILED: so it is
started once and by all means, or the journal says why not. A run that hears of a failure has no such child
itself, nor has anything below it: a failure is told once.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from reflux.core import event as ev
from reflux.core.command import StartChild
from reflux.core.containers import gave
from reflux.core.document import MAX_DOCUMENT_BYTES, NULL, Json, JsonValue, TooDeep
from reflux.core.event import RunPhase, StepState
from reflux.core.flow.model import FlowAction
from reflux.core.left import NOTHING_LEFT, Left
from reflux.core.mapping import run_output
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.state import ROOT, Closing, RunState, caught

MAX_DEPTH: Final = 16
"""Runs below each other, the outermost not counted."""


def child_id(parent: RunId, step: StepPath, generation: int, time: datetime) -> RunId:
    """The id of a child: a UUIDv7 of this time, the rest of it made from what asks for it."""
    digest = sha256(f"child\n{parent}\n{step}\n{generation}".encode()).digest()
    chance = int.from_bytes(digest[:10]) >> 6
    high, low = chance >> 62, chance & ((1 << 62) - 1)
    milliseconds = int(time.timestamp() * 1000)
    return RunId(str(UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)))


def ask(state: RunState, path: StepPath, action: FlowAction, now: datetime) -> StartChild | ev.StepSettled:
    """The request for a child, or why there is none.

    Raises:
        ExpressionError: its input cannot be evaluated.
    """
    if state.created.depth >= MAX_DEPTH:
        message = f"step {path} would begin a run {MAX_DEPTH + 1} levels below the first one"
        return _failed(path, ev.Failure("FAILED_PRECONDITION", Reason.FLOW_DEPTH, message, step=path), now)
    document = action.with_.document(state.values_of(path))
    if len(document.raw) > MAX_DOCUMENT_BYTES:
        message = f"the input of step {path} is {len(document.raw)} bytes; the limit is {MAX_DOCUMENT_BYTES}"
        failure = ev.Failure("INVALID_ARGUMENT", Reason.DOCUMENT_TOO_LARGE, message, step=path)
        return _failed(path, failure, now)
    run_id = child_id(state.id, path, state.steps[path].generation, now)
    requested = ev.ChildRequested(
        path, run_id, action.flow, action.version or 0, detached=action.detached, time=now
    )
    return StartChild(requested, document)


def tell_failure(state: RunState, closing: Closing, now: datetime) -> StartChild | None:
    """The request for the run that hears of this one's failure; None when there is nobody to tell."""
    told = state.flow.on_failure
    nothing = closing.state is not RunPhase.FAILED or state.error_flow is not None
    if nothing or told is None or state.created.failure_of or closing.failure is None:
        return None
    run_id = child_id(state.id, ROOT, 0, now)
    requested = ev.ChildRequested(ROOT, run_id, told.flow, told.version or 0, detached=True, time=now)
    return StartChild(requested, _failure_input(state, closing.failure))


def again(state: RunState, path: StepPath) -> StartChild:
    """A request that was recorded and not carried out, with the input that it had."""
    requested = state.unstarted[path]
    if path == ROOT:
        output = None if ROOT in state.closing else run_output(state)
        failure = output if isinstance(output, ev.Failure) else state.closing[ROOT].failure
        return StartChild(requested, _failure_input(state, failure))
    action = state.steps[path].step.action
    assert isinstance(action, FlowAction), f"{path} begins no run"
    return StartChild(requested, action.with_.document(state.values_of(path)))


def _failure_input(state: RunState, failure: ev.Failure | None) -> Json:
    """What a run is told of a failure; without the input where that leaves no room."""
    created = state.created
    told: dict[str, JsonValue] = {
        "run_id": state.id,
        "flow": {"name": created.flow_name, "version": created.flow_version},
        "error": caught(failure) if failure is not None else None,
        "input": created.input.value,
    }
    with suppress(TooDeep):
        document = Json.bounded(told)
        if len(document.raw) <= MAX_DOCUMENT_BYTES:
            return document
    return Json.of({**told, "input": None})


def started(
    state: RunState, path: StepPath, *, flow_name: str, flow_version: int, now: datetime
) -> list[ev.Event]:
    """The child is durable."""
    requested = state.unstarted.get(path)
    if requested is None:
        return []
    event = ev.ChildStarted(path, requested.run_id, flow_name, flow_version, now)
    if path == ROOT or not requested.detached:
        return [event]
    return [event, gave(state, path, Json.of({"run_id": requested.run_id}), now)]


def refused(state: RunState, path: StepPath, failure: ev.Failure | None, now: datetime) -> list[ev.Event]:
    """The child was not begun and will not be: for this reason, or because nobody wants it any more."""
    requested = state.unstarted.get(path)
    if requested is None:
        return []
    if path == ROOT:
        return [ev.ChildStarted(ROOT, requested.run_id, requested.flow, requested.version, now, failure)]
    if state.steps[path].ending:
        return [ev.StepSettled(path, StepState.CANCELED, now)]
    closing = state.closing.get(path)
    failure = closing.failure if closing is not None else failure
    return [ev.StepSettled(path, StepState.FAILED, now, failure=failure)]


def unwanted(state: RunState, path: StepPath) -> bool:
    """Whether a child that is not begun yet should not be."""
    return path in state.recall


def recall(state: RunState, now: datetime) -> ev.ChildRecalled | None:
    """The next child to be cancelled, once it is known to have begun."""
    for path in state.recall:
        if path not in state.unstarted:
            closing = state.closing.get(path)
            why = "the step's time is over" if closing is not None else "the run around it goes on without it"
            why = f"cancelled with run {state.id}" if state.canceled else why
            return ev.ChildRecalled(path, state.child_runs[path], why, now)
    return None


def finished(
    state: RunState,
    path: StepPath,
    run_id: RunId,
    phase: RunPhase,
    now: datetime,
    *,
    output: Json | None = None,
    failure: ev.Failure | None = None,
    left: Left = NOTHING_LEFT,
) -> list[ev.Event]:
    """The word that a child has finished; nothing when nobody waits any more, or it was heard before."""
    if state.finished is not None or state.child_runs.get(path) != run_id:
        return []
    settled = _settled(state, path, run_id, phase, now, output=output, failure=failure)
    return [replace(settled, left=left.under(path))]


def _settled(
    state: RunState,
    path: StepPath,
    run_id: RunId,
    phase: RunPhase,
    now: datetime,
    *,
    output: Json | None,
    failure: ev.Failure | None,
) -> ev.StepSettled:
    """What a step makes of the end of its child."""
    if phase is RunPhase.SUCCEEDED:
        return gave(state, path, output or NULL, now)
    if state.steps[path].ending:
        return ev.StepSettled(path, StepState.CANCELED, now)
    if (closing := state.closing.get(path)) is not None and closing.failure is not None:
        return _failed(path, closing.failure, now)
    if phase is RunPhase.CANCELED or failure is None:
        message = f"run {run_id} was cancelled"
        return _failed(path, ev.Failure("CANCELLED", Reason.CHILD_CANCELED, message, step=path), now)
    where = f"{path}/{failure.step}" if failure.step else path
    failure = ev.Failure(
        failure.code, failure.reason, failure.message, retryable=failure.retryable, step=where
    )
    return _failed(path, failure, now)


def _failed(path: StepPath, failure: ev.Failure, now: datetime) -> ev.StepSettled:
    return ev.StepSettled(path, StepState.FAILED, now, failure=failure)


def fold(state: RunState, event: ev.ChildRequested | ev.ChildStarted | ev.ChildRecalled) -> None:
    """Folds what is known of a child."""
    match event:
        case ev.ChildRequested():
            _requested(state, event)
        case ev.ChildStarted():
            state.unstarted.pop(event.step, None)
            if event.step == ROOT:
                state.error_flow_refused = event.failure
            else:
                state.steps[event.step].child_began = True
        case ev.ChildRecalled():
            state.recall.pop(event.step, None)


def _requested(state: RunState, event: ev.ChildRequested) -> None:
    state.unstarted[event.step] = event
    if event.step == ROOT:
        state.error_flow = event
        state.deadlines.pop(ROOT, None)  # it has failed: nothing but this is left to do
        return
    run = state.steps[event.step]
    state.ready.pop(event.step, None)
    run.state = StepState.RUNNING
    run.start_time = event.time
    run.child = event.run_id
    state.child_runs[event.step] = event.run_id
    if run.step.timeout.total is not None:
        state.deadlines[event.step] = event.time + run.step.timeout.total
