"""What follows in a container: its branches and iterations, one after the other, and what it gives.

A container is asked about (`finish_container`) whenever none of its lists goes on: then a `try` may begin a
handler, a `while` one more iteration, and any other container settles. The answer depends on what was
recorded alone, so asking again after a takeover gives the same. Where it takes an expression per iteration
or branch, the answer is their values first, one by one (`Piece`).

What a container gives: `if`, `switch` and `try` the output of the last step, in list order, of the branch
that counts; `parallel` an object with that of each branch; `foreach` a list with a value per item; `while`
the value of its last iteration. Null where there is no such step, or it did not succeed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from reflux.core import event as ev
from reflux.core.command import Piece, Record
from reflux.core.document import MAX_DEPTH, MAX_DOCUMENT_BYTES, NULL, Json, JsonValue, TooDeep
from reflux.core.event import RunPhase, StepState
from reflux.core.expression import ErrorCode, Expression, ExpressionError, Room
from reflux.core.expression.values import described
from reflux.core.flow.model import (
    ForeachAction,
    Loop,
    ParallelAction,
    Scope,
    SwitchAction,
    TryAction,
    WhileAction,
    branches_of,
)
from reflux.core.frames import size_of
from reflux.core.mapping import mapped
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.state import (
    MAX_STEP_RUNS,
    Frame,
    Pieces,
    RunState,
    StepRun,
    error_of,
)

_UNSEEN: Final[Mapping[str, JsonValue]] = {
    "state": StepState.PENDING.value,
    "attempts": 0,
    "error": None,
    "version": None,
    "cost": None,
}
"""What expressions see of a step that has not run: what `frames.show` gives, but for the output."""


def holds(condition: Expression, values: Mapping[str, JsonValue]) -> bool:
    """The value of a condition.

    Raises:
        ExpressionError: it cannot be evaluated, or is no bool.
    """
    value = condition.evaluate(values)
    if not isinstance(value, bool):
        message = f"a condition must give true or false, not {described(value)}; compare it with something"
        raise ExpressionError(message, ErrorCode.WRONG_TYPE, 0, condition.source, condition.at)
    return value


def gave(state: RunState, path: StepPath, output: Json, now: datetime) -> ev.StepSettled:
    """The end of a step that has done what it was to, without a node; with its output, if it can be kept."""
    size = len(output.raw)
    if size > MAX_DOCUMENT_BYTES:
        message = f"the output of step {path} is {size} bytes; the limit is {MAX_DOCUMENT_BYTES}"
        return _failed(
            path, ev.Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=path), now, acted=True
        )
    given = mapped(state, path, output)
    if isinstance(given, ev.Failure):
        return _failed(path, given, now, acted=True)
    return ev.StepSettled(path, StepState.SUCCEEDED, now, output=given)


def gave_value(state: RunState, path: StepPath, value: JsonValue, now: datetime) -> ev.StepSettled:
    """As `gave`, of a value in which outputs are put together, and which so may nest too deep."""
    try:
        return gave(state, path, Json.bounded(value), now)
    except TooDeep:
        message = f"the output of step {path} nests deeper than {MAX_DEPTH} levels"
        return _failed(
            path, ev.Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=path), now, acted=True
        )


def last_output(state: RunState, scope: Scope, prefix: str) -> Json:
    """What the last step of a list gave."""
    last = state.steps[StepPath(prefix + scope.last)] if scope.last is not None else None
    return (last.output if last else None) or NULL


def choose(state: RunState, path: StepPath, action: SwitchAction, now: datetime) -> Record | Piece:
    """The branch of a switch that is taken, if one is; first each condition before it, which does not hold.

    Raises:
        ExpressionError: a condition cannot be evaluated.
    """
    number = _first_to_hold(state, path, action.conditions, state.values_of(path))
    if isinstance(number, Piece):
        return number
    return Record(ev.StepEntered(path, () if number is None else (number,), now))


def _first_to_hold(
    state: RunState, path: StepPath, conditions: Sequence[Expression | None], values: Mapping[str, JsonValue]
) -> int | Piece | None:
    """Which condition holds, the first of them to do so; None: none does; a `Piece`: not the next one.

    Raises:
        ExpressionError: it cannot be evaluated.
    """
    pieces = state.steps[path].pieces or Pieces()
    number = len(pieces.values)
    if number == len(conditions):
        return None
    condition = conditions[number]
    if condition is None or holds(condition, values):
        return number
    return Piece(path, value=False, room=pieces.room)


def finish_container(state: RunState, path: StepPath, now: datetime) -> Record | Piece:
    """What follows now that none of the container's lists goes on."""
    closing = state.closing.get(path)
    if closing is not None and closing.state is not RunPhase.SUCCEEDED:
        to = StepState.FAILED if closing.state is RunPhase.FAILED else StepState.CANCELED
        return Record(ev.StepSettled(path, to, now, failure=closing.failure))
    try:
        follows = _follows(state, path, now)
    except ExpressionError as error:
        return Record(_unreadable(path, error, now))
    return follows if isinstance(follows, Piece) else Record(follows)


def _follows(state: RunState, path: StepPath, now: datetime) -> ev.Event | Piece:
    """What follows in a container that does not end early.

    Raises:
        ExpressionError: one of its expressions cannot be evaluated.
    """
    run = state.steps[path]
    action = run.step.action
    match action:
        case TryAction():
            return _next_of_try(state, path, action, now)
        case WhileAction():
            return go_on(state, path, action, now)
        case ForeachAction():
            return _next_of_foreach(state, path, action, now)
        case ParallelAction():
            return gave_value(state, path, _by_branch(state, run, action), now)
        case _:
            return gave(state, path, _output(state, run), now)


def _output(state: RunState, run: StepRun) -> Json:
    """Of the branch taken: what its last step gave."""
    if not run.branches:
        return NULL
    return last_output(state, branches_of(run.step.action)[run.branches[0]], run.prefix)


def _by_branch(state: RunState, run: StepRun, action: ParallelAction) -> JsonValue:
    """What the last step of each branch gave."""
    won = {frame.branch for frame in run.over if frame.closing is None}
    return {
        name: last_output(state, scope, run.prefix).value if scope.branch in won else None
        for name, scope in zip(action.names, branches_of(action), strict=True)
    }


def _next_of_try(state: RunState, path: StepPath, action: TryAction, now: datetime) -> ev.Event | Piece:
    """The body is over: its handler, then `finally`, then the end, which is that of whoever ran last."""
    run = state.steps[path]
    over = {frame.branch: frame for frame in run.over}
    ended = max((number for number in over if number <= len(action.handlers)), default=0)
    failure = _failure_of(over[ended])
    if failure is not None and ended == 0:
        try:
            handler = _handler(state, path, action, failure)
        except ExpressionError as error:
            handler, failure = None, _unreadable(path, error, now).failure
        if isinstance(handler, Piece):
            return handler
        if handler is not None:
            return ev.StepEntered(path, (handler + 1,), now)
    number = len(action.handlers) + 1
    if action.last is not None and number not in over:
        return ev.StepEntered(path, (number,), now)
    failure = (_failure_of(over[number]) if number in over else None) or failure
    if failure is not None:
        return _failed(path, failure, now)
    return gave(state, path, last_output(state, branches_of(action)[ended], run.prefix), now)


def _failure_of(frame: Frame) -> ev.Failure | None:
    return frame.closing.failure if frame.closing is not None else None


def _handler(state: RunState, path: StepPath, action: TryAction, failure: ev.Failure) -> int | Piece | None:
    """Which handler takes the failure, as `_first_to_hold`.

    Raises:
        ExpressionError: a condition cannot be evaluated.
    """
    values = {**state.values_of(path), "error": error_of(state, failure)}
    return _first_to_hold(state, path, action.conditions, values)


def begin_foreach(state: RunState, path: StepPath, action: ForeachAction, now: datetime) -> ev.Event:
    """Its items, counted.

    Raises:
        ExpressionError: what it goes through cannot be evaluated, or is no list.
    """
    items = items_of(action, state.values_of(path))
    steps = len(items) * size_of(state.flow, action.body)
    if steps > state.room:
        taken = MAX_STEP_RUNS - state.room
        message = (
            f"{len(items)} items make {steps} steps, and the run has {taken} besides; "
            f"it may have at most {MAX_STEP_RUNS} in all"
        )
        return _failed(path, ev.Failure("OUT_OF_RANGE", Reason.LOOP_LIMIT, message, step=path), now)
    return ev.StepEntered(path, (), now, count=len(items))


def items_of(action: ForeachAction, values: Mapping[str, JsonValue]) -> list[JsonValue]:
    """What a foreach goes through, by what it sees.

    Raises:
        ExpressionError: it cannot be evaluated, or is no list.
    """
    items = action.items.evaluate(values)
    if not isinstance(items, list):
        raise action.items.unfit(f"foreach goes through a list, not {described(items)}", items)
    return items


def _next_of_foreach(
    state: RunState, path: StepPath, action: ForeachAction, now: datetime
) -> ev.StepSettled | Piece:
    """One value per item, in their order; of an iteration that failed, its error."""
    run = state.steps[path]
    if action.result is None:
        return gave_value(state, path, [_of_item(state, frame, action, Room()) for frame in run.over], now)
    pieces = run.pieces or Pieces()
    if len(pieces.values) == len(run.over):
        return gave_value(state, path, pieces.values, now)
    room = Room(pieces.room)
    try:
        value = _of_item(state, run.over[len(pieces.values)], action, room)
    except ExpressionError as error:
        return _unreadable(path, error, now, acted=True)
    return Piece(path, value, room.left)


def _of_item(state: RunState, frame: Frame, action: ForeachAction, room: Room) -> JsonValue:
    failure = _failure_of(frame)
    return _result(state, frame, action, room) if failure is None else {"error": error_of(state, failure)}


def _result(state: RunState, frame: Frame, action: Loop, room: Room) -> JsonValue:
    """What an iteration gives.

    Raises:
        ExpressionError: its `result` cannot be evaluated.
    """
    if action.result is not None:
        return action.result.evaluate(frame.values, room)
    return last_output(state, action.body, frame.prefix).value


def go_on(state: RunState, path: StepPath, action: WhileAction, now: datetime) -> ev.Event:
    """One more iteration of a while, or its end.

    Raises:
        ExpressionError: the condition, or the `result` of no iteration, cannot be evaluated.
    """
    run = state.steps[path]
    former = run.over[-1] if run.over else None
    values = former.values if former is not None else _before_the_first(state, path, action)
    if holds(action.condition, {**values, "index": run.begun}):
        room = size_of(state.flow, action.body) <= state.room
        if run.begun < action.max and room:
            return ev.StepEntered(path, (), now)
        message = f"the condition of {path} still holds after {run.begun} iterations"
        message += "" if room else f", and a run has at most {MAX_STEP_RUNS} steps"
        return _failed(path, ev.Failure("OUT_OF_RANGE", Reason.LOOP_LIMIT, message, step=path), now)
    if former is not None:
        try:
            value = _result(state, former, action, Room())
        except ExpressionError as error:
            return _unreadable(path, error, now, acted=True)
        return gave_value(state, path, value, now)
    nothing = action.result.document({**values, "index": 0}) if action.result is not None else NULL
    return gave(state, path, nothing, now)


def _before_the_first(state: RunState, path: StepPath, action: WhileAction) -> dict[str, JsonValue]:
    """What the condition sees before any iteration: the body's steps are there, and have not run."""
    values = state.values_of(path)
    outside = values["steps"]
    assert isinstance(outside, dict)
    unseen: dict[str, JsonValue] = {}
    scopes = [action.body]
    while scopes:
        for name in scopes.pop().steps:
            unseen[name] = dict(_UNSEEN)
            scopes.extend(branches_of(state.flow.steps[name].action))
    return {**values, "steps": {**outside, **unseen}}


def _failed(path: StepPath, failure: ev.Failure, now: datetime, *, acted: bool = False) -> ev.StepSettled:
    return ev.StepSettled(path, StepState.FAILED, now, failure=failure, acted=acted)


def _unreadable(
    path: StepPath, error: ExpressionError, now: datetime, *, acted: bool = False
) -> ev.StepSettled:
    """A step one of whose expressions cannot be evaluated."""
    failure = ev.Failure("INVALID_ARGUMENT", Reason.EXPRESSION_FAILED, error.render(), step=path)
    return _failed(path, failure, now, acted=acted)
