"""The walker: what to do next.

`decide` looks at a run's state and a time and names one thing to do, or nothing. Its caller folds the answer
into the state and asks again, so each decision is made on the state as it is:

    while (command := decide(state, now)) is not None:
        ...                      # Record: evolve and journal; StartAttempt: evolve, journal if needed, call;
                                 # Piece: put

What follows from an attempt once it is over is `reflux.core.attempt`'s to say.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_never

from reflux.core import children, compensation, resolving
from reflux.core import event as ev
from reflux.core.attempt import total_deadline
from reflux.core.command import AskEffect, Command, Record, StartAttempt, StartChild
from reflux.core.containers import begin_foreach, choose, finish_container, gave, go_on, holds, last_output
from reflux.core.document import MAX_DOCUMENT_BYTES, Json, JsonValue
from reflux.core.event import RunPhase, SkipReason, StepState
from reflux.core.expression import ExpressionError
from reflux.core.flow.durations import LONGEST_WAIT, format_duration, parse_duration, parse_moment
from reflux.core.flow.model import (
    ApproveAction,
    FailAction,
    FlowAction,
    ForeachAction,
    IfAction,
    Join,
    NodeAction,
    ParallelAction,
    ReturnAction,
    SetAction,
    SignalAction,
    Step,
    StepRoute,
    SwitchAction,
    TryAction,
    WaitAction,
    WhileAction,
)
from reflux.core.kept import kept_outcome
from reflux.core.mapping import run_output
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.state import ROOT, Closing, RunState, StepRun
from reflux.core.waits import ask, listen, said, take, waited

_NO_ROUTE = StepRoute()


def decide(state: RunState, now: datetime) -> Command | None:
    """The next thing to do, or None while there is nothing to do before `next_wake`."""
    if state.finished is not None or _stands(state):
        return None
    if state.recall and (recalled := children.recall(state, now)) is not None:
        return Record(recalled)
    if (closing := state.closing.get(ROOT)) is not None:
        return _finish_early(state, closing, now)
    if state.queued:
        return None
    for path in state.closable:  # before deadlines: what was done in time stays so, whoever finds it late
        return _finish(state, now) if path == ROOT else finish_container(state, path, now)
    if state.signals and (taken := take(state, now)) is not None:
        return Record(taken)
    timer, over = state.timers.first(), state.deadlines.first(but=state.parked_in)
    if over is not None and over.at <= now:
        # What has only waited was over at its time. But nothing begins any more, not even an attempt whose
        # time came before.
        in_time = timer is not None and timer.at <= over.at
        return Record(waited(state, timer.path, now) if timer and in_time else ev.TimedOut(over.path, now))
    if state.ready:
        return kept_outcome(state, now) or _begin_step(state, next(iter(state.ready)), now)
    again = state.due.first()
    if again is not None and again.at <= now and (timer is None or again.at <= timer.at):
        return _attempt(state, again.path, now)
    if timer is not None and timer.at <= now:
        return Record(waited(state, timer.path, now))
    return None


def next_wake(state: RunState) -> datetime | None:
    """When `decide` may have something to say without any event: the earliest timer, None without one."""
    if state.finished or _stands(state):
        return None
    firsts = (state.due.first(), state.timers.first(), state.deadlines.first(but=state.parked_in))
    return min((first.at for first in firsts if first is not None), default=None)


def _stands(state: RunState) -> bool:
    """Whether nothing may be done before a person has spoken. A cancel is such a word; a recall is none."""
    if state.quarantine is not None and not state.canceled:
        return True
    return state.paused is not None and state.cancel is None


def _begin_step(state: RunState, path: StepPath, now: datetime) -> Command:
    step = state.steps[path].step
    if step.disabled:
        return _skipped(path, SkipReason.DISABLED, now)
    if not _joins(state, path, step):
        return _skipped(path, SkipReason.JOIN, now)
    try:
        asked = state.steps[path].pieces is None
        if asked and step.when is not None and not holds(step.when, state.values_of(path)):
            return _skipped(path, SkipReason.WHEN, now)
        return _act(state, path, step, now)
    except ExpressionError as error:
        return _failed(path, Reason.EXPRESSION_FAILED, error.render(), now)


def _act(state: RunState, path: StepPath, step: Step, now: datetime) -> Command:
    """The command of a step whose time has come.

    Raises:
        ExpressionError: one of its expressions cannot be evaluated.
    """
    action = step.action
    match action:
        case NodeAction():
            return _attempt(state, path, now)
        case SwitchAction():
            return choose(state, path, action, now)
        case IfAction() | ParallelAction() | TryAction():
            return Record(ev.StepEntered(path, _first_branches(state, path, action), now))
        case ForeachAction():
            return Record(begin_foreach(state, path, action, now))
        case WhileAction():
            return Record(go_on(state, path, action, now))
        case WaitAction():
            until = _until(action, state.values_of(path), now)
            return Record(ev.StepEntered(path, (), now, until=until))
        case SignalAction():
            return Record(listen(state, path, action, now))
        case ApproveAction():
            return Record(ask(state, path, action, now))
        case SetAction() | ReturnAction():
            return Record(gave(state, path, action.value.document(state.values_of(path)), now))
        case FlowAction():
            asked = children.ask(state, path, action, now)
            return asked if isinstance(asked, StartChild) else Record(asked)
        case FailAction():
            message = action.message.document(state.values_of(path))
            failure = ev.Failure(action.code, Reason.FAIL_STEP, said(message.value, path), step=path)
            return Record(ev.StepSettled(path, StepState.FAILED, now, failure=failure))
        case _:
            assert_never(action)


def _first_branches(
    state: RunState, path: StepPath, action: IfAction | ParallelAction | TryAction
) -> tuple[int, ...]:
    """The branches that a container begins with.

    Raises:
        ExpressionError: a condition cannot be evaluated.
    """
    values = state.values_of(path)
    match action:
        case IfAction():
            return (0,) if holds(action.condition, values) else (1,)
        case ParallelAction():
            return tuple(range(len(action.branches)))
        case TryAction():
            return (0,)


def _until(action: WaitAction, values: Mapping[str, JsonValue], now: datetime) -> datetime:
    """When a wait is over; at once when that has passed.

    Raises:
        ExpressionError: it cannot be evaluated, or is no time.
    """
    template = action.duration or action.until
    assert template is not None, "a wait has one of the two"
    value = template.evaluate(values)
    try:
        until = now + parse_duration(value) if action.duration is not None else parse_moment(value)
        if until - now <= LONGEST_WAIT:
            return max(until, now)
        message = f"a wait is at most {format_duration(LONGEST_WAIT)} long"
    except (ValueError, OverflowError) as error:
        message = str(error)
    raise template.unfit(message, value)


def _attempt(state: RunState, path: StepPath, now: datetime) -> Command:
    run = state.steps[path]
    step, action = run.step, run.step.action
    assert isinstance(action, NodeAction)
    total = total_deadline(run)
    if total is None and step.timeout.total is not None:
        total = now + step.timeout.total
    try:
        document = action.with_.document(state.values_of(path))
        cache = step.cache
        key = cache.key.document(state.values_of(path)) if cache and cache.key else document
        route = step.route or _NO_ROUTE
        template = route.sticky
        sticky = template.evaluate(state.values_of(path)) if template else None
    except ExpressionError as error:
        return _failed(path, Reason.EXPRESSION_FAILED, error.render(), now)
    if len(document.raw) > MAX_DOCUMENT_BYTES:
        message = f"the input of step {path} is {len(document.raw)} bytes; the limit is {MAX_DOCUMENT_BYTES}"
        return _failed(path, Reason.DOCUMENT_TOO_LARGE, message, now)
    if (question := resolving.due_question(run, now)) is not None:
        return AskEffect(resolving.ask(run, path, question, now), action.node, document, step.credentials)
    return StartAttempt(
        step=path,
        attempt=run.attempt + 1,
        generation=run.generation,
        node=action.node,
        version=_claimed_version(run) or run.pinned or run.next_version or action.version,
        input=document,
        attempt_timeout=step.timeout.attempt,
        total_deadline=total,
        effect=step.effect,
        fallback=bool(run.next_version) and run.unresolved is None and not run.pinned,
        credentials=step.credentials,
        versions=route.versions,
        sticky=None if sticky is None else Json.of(sticky),
        own_sticky=template is not None,
        drawn=route.drawn,
        tries=route.tries,
        try_timeout=route.try_timeout,
        cache_key=key if cache is not None else None,
        cache_ttl=cache.ttl if cache is not None else timedelta(0),
    )


def _claimed_version(run: StepRun) -> str | None:
    """The version that holds an ambiguous claim: its scope is the only one that may be asked again."""
    last = run.unresolved
    return None if last is None else last.assignment.answered_by or last.assignment.chosen or None


def _joins(state: RunState, path: StepPath, step: Step) -> bool:
    """Whether what the step waited for ended as its join asks.

    A step skipped by its own condition or by the branch counts as success: it was not wanted. One skipped by
    its join did not get what it needed, and passes that on.
    """
    prefix = state.steps[path].prefix
    runs = [state.steps[StepPath(prefix + name)] for name in step.after]
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


def _skipped(path: StepPath, reason: SkipReason, now: datetime) -> Record:
    return Record(ev.StepSettled(path, StepState.SKIPPED, now, skip_reason=reason))


def _failed(path: StepPath, reason: Reason, message: str, now: datetime) -> Record:
    failure = ev.Failure("INVALID_ARGUMENT", reason, message, step=path)
    return Record(ev.StepSettled(path, StepState.FAILED, now, failure=failure))


def _finish(state: RunState, now: datetime) -> Command | None:
    output = run_output(state)
    if isinstance(output, ev.Failure):
        return _end(state, Closing(RunPhase.FAILED, failure=output), now)
    output = output or last_output(state, state.flow.root, "")
    unknown = state.unresolved_effects  # of a run below, whose failure was let pass
    return Record(ev.RunFinished(RunPhase.SUCCEEDED, now, output=output, unresolved_effects=unknown))


def _finish_early(state: RunState, closing: Closing, now: datetime) -> Command | None:
    """Ends the run once nothing is in flight, and all is undone; over a PARKED step only a cancel does.

    A recall is none: no time that is over, and nothing that happened beside the child, decides about an
    effect of which nobody knows.
    """
    if state.compensation is not None:
        for path in state.ready:
            return _attempt(state, path, now)
        if (again := state.due.first()) is not None:
            return _attempt(state, again.path, now) if again.at <= now else None
    if state.flights or state.child_runs or (state.parked and not state.canceled):
        return None
    return _end(state, closing, now)


def _end(state: RunState, closing: Closing, now: datetime) -> Command | None:
    """Undoes what must be undone, tells who must be told, and ends the run."""
    if (undo := compensation.start(state, closing, now)) is not None:
        return Record(undo)
    if (told := children.tell_failure(state, closing, now)) is not None:
        return told
    if ROOT in state.unstarted:
        return None
    return Record(
        ev.RunFinished(
            closing.state,
            now,
            output=closing.output,
            failure=closing.failure,
            unresolved_effects=state.unresolved_effects,
            uncompensated=() if closing.state is RunPhase.SUCCEEDED else compensation.uncompensated(state),
        )
    )
