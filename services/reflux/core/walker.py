"""The walker: what to do next.

`decide` looks at a run's state and a time and names one thing to do, or nothing. Its caller folds the answer
into the state and asks again, so each decision is made on the state as it is:

    while (command := decide(state, now)) is not None:
        ...                      # Record: evolve and journal; StartAttempt: evolve, journal if needed, call

What follows from an attempt once it is over is `reflux.core.attempt`'s to say.
"""

from datetime import datetime

from reflux.core import event as ev
from reflux.core.attempt import total_deadline
from reflux.core.command import Command, Record, StartAttempt
from reflux.core.document import MAX_DOCUMENT_BYTES, NULL, Json
from reflux.core.event import RunPhase, SkipReason, StepState
from reflux.core.expression import ErrorCode, Expression, ExpressionError
from reflux.core.flow.model import (
    FailAction,
    IfAction,
    Join,
    NodeAction,
    ParallelAction,
    ReturnAction,
    SetAction,
    Step,
    SwitchAction,
)
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.run import MAX_RUN_BYTES, ROOT, Closing, RunState, StepRun, children, no_room


def decide(state: RunState, now: datetime) -> Command | None:
    """The next thing to do, or None while there is nothing to do before `next_wake`."""
    if state.finished is not None:
        return None
    if (closing := state.closing.get(ROOT)) is not None:
        return _finish_early(state, closing, now)
    if state.quarantine is not None:
        return None
    for path, deadline in state.deadlines.items():
        if now >= deadline and not _holds_parked(state, path):
            return Record(ev.TimedOut(path, now))
    for path in state.ready:
        return _begin_step(state, path, now)
    for path in state.closable:
        return Record(_finish(state, now) if path == ROOT else _settle_container(state, path, now))
    for path, at in state.due.items():
        if at <= now:
            return _attempt(state, path, now)
    return None


def next_wake(state: RunState) -> datetime | None:
    """When `decide` may have something to say without any event: the earliest timer, None without one."""
    if state.finished or state.quarantine:
        return None
    deadlines = [at for path, at in state.deadlines.items() if not _holds_parked(state, path)]
    return min((*state.due.values(), *deadlines), default=None)


def _holds_parked(state: RunState, container: StepPath) -> bool:
    """Whether a PARKED step is inside: no timeout fires over it."""
    for path in state.parked:
        around: StepPath | None = path
        while around is not None and around != container:
            around = state.flow.steps[around].parent
        if around is not None or container == ROOT:
            return True
    return False


def _begin_step(state: RunState, path: StepPath, now: datetime) -> Command:
    step = state.flow.steps[path]
    if step.disabled:
        return _skipped(path, SkipReason.DISABLED, now)
    if not _joins(state, step):
        return _skipped(path, SkipReason.JOIN, now)
    try:
        if step.when is not None and not _holds(step.when, state):
            return _skipped(path, SkipReason.WHEN, now)
        return _act(state, step, now)
    except ExpressionError as error:
        return _failed(path, Reason.EXPRESSION_FAILED, error.render(), now)


def _act(state: RunState, step: Step, now: datetime) -> Command:
    """The command of a step whose time has come.

    Raises:
        ExpressionError: one of its expressions cannot be evaluated.
    """
    action = step.action
    match action:
        case NodeAction():
            return _attempt(state, step.path, now)
        case IfAction():
            taken = 0 if _holds(action.condition, state) else 1
            return Record(ev.StepEntered(step.path, (taken,), now))
        case SwitchAction():
            return Record(ev.StepEntered(step.path, _switch(state, action), now))
        case ParallelAction():
            return Record(ev.StepEntered(step.path, tuple(range(len(action.branches))), now))
        case SetAction() | ReturnAction():
            return Record(_gave(state, step.path, Json.of(action.value.evaluate(state.values)), now))
        case FailAction():
            message = action.message.evaluate(state.values)
            text = message if isinstance(message, str) else Json.of(message).raw.decode()
            failure = ev.Failure(action.code, Reason.FAIL_STEP, text, step=step.path)
            return Record(ev.StepSettled(step.path, StepState.FAILED, now, failure=failure))


def _switch(state: RunState, action: SwitchAction) -> tuple[int, ...]:
    for index, condition in enumerate(action.conditions):
        if condition is None or _holds(condition, state):
            return (index,)
    return ()


def _attempt(state: RunState, path: StepPath, now: datetime) -> Command:
    step, run = state.flow.steps[path], state.steps[path]
    action = step.action
    assert isinstance(action, NodeAction)
    total = total_deadline(state, path, run)
    if total is None and step.timeout.total is not None:
        total = now + step.timeout.total
    try:
        document = Json.of(action.with_.evaluate(state.values))
    except ExpressionError as error:
        return _failed(path, Reason.EXPRESSION_FAILED, error.render(), now)
    if len(document.raw) > MAX_DOCUMENT_BYTES:
        message = f"the input of step {path} is {len(document.raw)} bytes; the limit is {MAX_DOCUMENT_BYTES}"
        return _failed(path, Reason.DOCUMENT_TOO_LARGE, message, now)
    return StartAttempt(
        step=path,
        attempt=run.attempt + 1,
        generation=run.generation,
        node=action.node,
        version=_claimed_version(run) or action.version,
        input=document,
        attempt_timeout=step.timeout.attempt,
        total_deadline=total,
    )


def _claimed_version(run: StepRun) -> str | None:
    """The version that holds an ambiguous claim: its scope is the only one that may be asked again."""
    last = run.unresolved
    return None if last is None else last.assignment.answered_by or last.assignment.chosen or None


def _joins(state: RunState, step: Step) -> bool:
    """Whether what the step waited for ended as its join asks.

    A step skipped by its own condition or by the branch counts as success: it was not wanted. One skipped by
    its join did not get what it needed, and passes that on.
    """
    runs = [state.steps[path] for path in step.after]
    match step.join:
        case Join.ALL_DONE:
            return True
        case Join.ALL_SUCCESS:
            return all(_is_fine(run) for run in runs)
        case Join.ANY_SUCCESS:
            return any(run.state is StepState.SUCCEEDED for run in runs)
        case Join.ONE_FAILED:
            return any(run.state is StepState.FAILED for run in runs)


def _is_fine(run: StepRun) -> bool:
    if run.state is StepState.SKIPPED:
        return run.skip_reason is not SkipReason.JOIN
    return run.state is StepState.SUCCEEDED


def _holds(condition: Expression, state: RunState) -> bool:
    """The value of a condition.

    Raises:
        ExpressionError: it cannot be evaluated, or is no bool.
    """
    value = condition.evaluate(state.values)
    if not isinstance(value, bool):
        message = (
            f"a condition must give true or false, not {type(value).__name__}; compare it with something"
        )
        raise ExpressionError(message, ErrorCode.WRONG_TYPE, 0, condition.source)
    return value


def _skipped(path: StepPath, reason: SkipReason, now: datetime) -> Record:
    return Record(ev.StepSettled(path, StepState.SKIPPED, now, skip_reason=reason))


def _failed(path: StepPath, reason: Reason, message: str, now: datetime) -> Record:
    failure = ev.Failure("INVALID_ARGUMENT", reason, message, step=path)
    return Record(ev.StepSettled(path, StepState.FAILED, now, failure=failure))


def _gave(state: RunState, path: StepPath, output: Json, now: datetime) -> ev.StepSettled:
    """The end of a step that needs no node: with its output, if there is room for it."""
    size = len(output.raw)
    failure = None
    if size > MAX_DOCUMENT_BYTES:
        message = f"the output of step {path} is {size} bytes; the limit is {MAX_DOCUMENT_BYTES}"
        failure = ev.Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=path)
    elif state.stored + size > MAX_RUN_BYTES:
        failure = no_room(path)
    if failure is not None:
        return ev.StepSettled(path, StepState.FAILED, now, failure=failure)
    return ev.StepSettled(path, StepState.SUCCEEDED, now, output=output)


def _settle_container(state: RunState, path: StepPath, now: datetime) -> ev.StepSettled:
    closing = state.closing.get(path)
    if closing is None:
        return _gave(state, path, _container_output(state, path), now)
    to = StepState.FAILED if closing.state is RunPhase.FAILED else StepState.CANCELED
    return ev.StepSettled(path, to, now, failure=closing.failure)


def _container_output(state: RunState, path: StepPath) -> Json:
    """Of the branch taken: what its last step gave. Of parallel: that, by branch."""
    step, run = state.flow.steps[path], state.steps[path]
    if isinstance(step.action, ParallelAction):
        return Json.of(
            {
                name: _last_output(state, scope.steps).value
                for name, scope in zip(step.action.names, step.action.branches, strict=True)
            }
        )
    return _last_output(state, tuple(children(state.flow, path, run.branches)))


def _last_output(state: RunState, steps: tuple[StepPath, ...]) -> Json:
    return (state.steps[steps[-1]].output if steps else None) or NULL


def _finish(state: RunState, now: datetime) -> ev.RunFinished:
    return ev.RunFinished(RunPhase.SUCCEEDED, now, output=_last_output(state, state.flow.root.steps))


def _finish_early(state: RunState, closing: Closing, now: datetime) -> Command | None:
    """Ends the run once nothing is in flight; over a PARKED step only a cancel does."""
    if state.flights or (state.parked and closing.state is not RunPhase.CANCELED):
        return None
    return Record(
        ev.RunFinished(
            closing.state,
            now,
            output=closing.output,
            failure=closing.failure,
            unresolved_effects=state.unresolved_effects,
        )
    )
