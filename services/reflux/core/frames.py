"""How a run moves: lists of steps are entered, their steps settle, and lists and containers end.

- A step is *ready* once all it waits for have settled; `pending` counts what is missing, so that settling a
  step costs its dependants only, never a scan. One that a person has skipped before its turn is settled, and
  what waits for it is not ready before that turn has come.
- A list that was entered is a **frame**. It is *over* once none of its steps is unsettled. What that means
  for its container is the container's rule (`_frame_over`): the next iteration begins, the race is won, or
  the container is *closable*, and the walker decides what follows.
- A frame *ends early* when a step in it failed for good, or when its container does. A container ends early
  when a frame failed and its rule does not catch that (`_frame_failed`), when its time is over, or when what
  is around it does; the run itself also after a cancel and a return.
- Ending early cancels what has no outside effect at once; an attempt that may have one keeps its step RUNNING
  until its outcome is known, and a step that was about to ask again for an effect of which nobody knows is
  PARKED. Nothing ends over a PARKED step but a cancel of the run, which lists it as unresolved.

Everything here follows from what was recorded and decides nothing: the same journal gives the same state.
"""

from bisect import insort
from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter

from reflux.core import clocks, compensation, cost
from reflux.core import event as ev
from reflux.core.document import Json, JsonValue
from reflux.core.event import SETTLED, RunPhase, StepState
from reflux.core.flow.model import (
    Flow,
    ForeachAction,
    ItemError,
    Loop,
    OnError,
    ParallelAction,
    Scope,
    TryAction,
    branches_of,
)
from reflux.core.names import StepPath
from reflux.core.state import ROOT, Closing, Frame, RunState, StepRun, error_of

CANCELED = Closing(RunPhase.CANCELED)


def create(state: RunState, scope: Scope, prefix: str, parent: StepPath) -> None:
    """Adds the steps of a list and of all lists inside, but for bodies of loops: those come by iteration."""
    for name in scope.steps:
        path = StepPath(prefix + name)
        step = state.flow.steps[name]
        state.steps[path] = StepRun(step, prefix, parent)
        for inner in branches_of(step.action):
            create(state, inner, prefix, path)


def size_of(flow: Flow, scope: Scope) -> int:
    """Steps that `create` adds for a list."""
    return sum(
        1 + sum(size_of(flow, inner) for inner in branches_of(flow.steps[name].action))
        for name in scope.steps
    )


def enter(
    state: RunState,
    container: StepPath,
    scope: Scope,
    *,
    prefix: str,
    values: dict[str, JsonValue],
    index: int = 0,
) -> Frame:
    """Begins a list of steps, which exist. Once all that begin together have, say `entered`."""
    steps = tuple(StepPath(prefix + name) for name in scope.steps)
    frame = Frame(container, scope.branch, index, prefix, steps, values, open=len(steps))
    state.frames.setdefault(container, []).append(frame)
    for path in steps:
        run = state.steps[path]
        run.frame = frame
        missing = len(run.step.after)
        state.pending[path] = missing
        if not missing:
            state.ready[path] = None
    return frame


def entered(state: RunState, frames: Iterable[Frame], time: datetime) -> None:
    """Sees to what was over before it began: empty lists."""
    for frame in frames:
        if not frame.open:
            _frame_over(state, frame, time)


def next_iteration(state: RunState, path: StepPath, action: Loop) -> None:
    """Begins one more iteration of a loop: its steps come into being, and see what the loop sees."""
    run = state.steps[path]
    index = run.begun
    run.begun += 1
    prefix = f"{path}[{index}]/"
    around = state.values_of(path)
    outside = around["steps"]
    assert isinstance(outside, dict)
    state.shown[prefix] = {name: outside[name] for name in action.outside if name in outside}
    before = len(state.steps)
    create(state, action.body, prefix, path)
    if isinstance(action, ForeachAction):
        state.promised -= len(state.steps) - before
    values = {**around, "steps": state.shown[prefix], "index": index}
    if isinstance(action, ForeachAction):
        values[action.name] = run.items[index]
    enter(state, path, action.body, prefix=prefix, values=values, index=index)


def settle(
    state: RunState, path: StepPath, to: StepState, time: datetime, output: Json | None = None
) -> None:
    """Ends a step, frees its dependants, and ends its list early when it failed for good."""
    run = state.steps[path]
    frame = run.frame
    assert frame is not None, f"step {path} settles in a list that was not entered"
    land(state, run)
    run.state = to
    run.output = output
    state.stored += len(output.raw) if output is not None else 0
    run.finish_time = time
    if len(run.items) > run.begun and isinstance(run.step.action, ForeachAction):
        state.promised -= (len(run.items) - run.begun) * size_of(state.flow, run.step.action.body)
    run.over.clear()
    run.items = ()
    run.pieces = None
    for waiting in (state.ready, state.due, state.timers, state.closable, state.frames):
        waiting.pop(path, None)
    state.deadlines.pop(path, None)
    state.stopped.pop(path, None)
    for child in (state.unstarted, state.child_runs, state.recall):
        child.pop(path, None)
    state.awaited.pop(path, None)
    if path in state.parked:
        unpark(state, path, time)
    for number, scope in enumerate(branches_of(run.step.action)):
        if number not in (run.branches or ()):
            skip_all(state, scope, run.prefix, time)
    if run.undoes is None:
        show(state, path, run)
        compensation.remember(state, path, run)
    frame.open -= 1
    if not state.pending.get(path):
        _free_dependants(state, path)
    if to is StepState.FAILED and run.step.on_error is OnError.FAIL:
        _frame_failed(state, frame, Closing(RunPhase.FAILED, failure=run.failure), time)
    if not frame.open:
        _frame_over(state, frame, time)
    if run.undoes is not None:
        compensation.begin_next(state)


def _free_dependants(state: RunState, path: StepPath) -> None:
    """Lets those that wait for a step wait for one less.

    A step that was settled before its turn frees its own only when that comes: else they would overtake what
    it had waited for.
    """
    turns = [path]
    while turns:
        run = state.steps[turns.pop()]
        for name in run.step.dependants:
            dependant = StepPath(run.prefix + name)
            state.pending[dependant] -= 1
            if state.pending[dependant]:
                continue
            if state.steps[dependant].state is StepState.PENDING:
                state.ready[dependant] = None
            elif state.steps[dependant].state in SETTLED:
                turns.append(dependant)


def skip_all(state: RunState, scope: Scope, prefix: str, time: datetime) -> None:
    """Marks a branch that is not taken; nothing waits for its steps but each other."""
    for name in scope.steps:
        path = StepPath(prefix + name)
        run = state.steps[path]
        if run.state is StepState.SKIPPED:
            continue
        run.state = StepState.SKIPPED
        run.skip_reason = ev.SkipReason.BRANCH
        run.finish_time = time
        show(state, path, run)
        for inner in branches_of(run.step.action):
            skip_all(state, inner, prefix, time)


def show(state: RunState, path: StepPath, run: StepRun) -> None:
    """Makes a settled step readable to expressions.

    `attempts` are those with an outcome: of one that was abandoned the journal may know nothing.
    """
    shown: dict[str, JsonValue] = {
        "state": run.state.value,
        "attempts": len(run.finished),
        "error": None,
        "version": run.finished[-1].assignment.answered_by if run.finished else None,
        "cost": cost.dollars(run.cost_nanos),
    }
    if run.kept is not None:
        shown |= {"attempts": run.kept.attempts, "version": run.kept.version or None}
    if run.output is not None:
        shown["output"] = run.output.value
    if run.failure is not None and run.state is StepState.FAILED:
        shown["error"] = error_of(state, run.failure)
    state.shown[run.prefix][path.removeprefix(run.prefix)] = shown


def close(state: RunState, container: StepPath, closing: Closing, time: datetime) -> None:
    """Ends a container early; the first reason stands, but a cancel goes over everything."""
    if container in state.closing and closing.state is not RunPhase.CANCELED:
        return
    state.closing[container] = closing
    state.deadlines.pop(container, None)
    frames = tuple(state.frames.get(container, ()))
    for frame in frames:
        _end_early(state, frame, CANCELED, time)
    if container in state.child_runs:
        state.recall[container] = None
    elif not frames:
        state.closable[container] = None


def park(state: RunState, path: StepPath, run: StepRun, time: datetime) -> None:
    """Leaves a step to a person: nobody knows what became of its effect, and it may not be asked again."""
    land(state, run)
    run.state = StepState.PARKED
    state.due.pop(path, None)
    state.parked[path] = None
    state.parked_in.update(state.around(path))
    clocks.stop(state, state.around(path), time)
    if run.undoes is not None:
        compensation.begin_next(state)


def unpark(state: RunState, path: StepPath, time: datetime) -> None:
    """A person has decided about a step: nothing is held up by it any more."""
    del state.parked[path]
    state.parked_in = {container for other in state.parked for container in state.around(other)}
    clocks.go_on(state, time)


def spend(state: RunState, path: StepPath, nanos: int | None, *, kept: bool = False) -> None:
    """Adds a cost to a step and what is around it, and to the run unless it was kept from its origin."""
    if nanos is None:
        return
    for each in (path, *state.around(path)):
        if each != ROOT:
            run = state.steps[each]
            run.cost_nanos = cost.total(run.cost_nanos, nanos)
    if not kept:
        state.cost_nanos = cost.total(state.cost_nanos, nanos)


def land(state: RunState, run: StepRun) -> None:
    """Takes what is in flight for a step as over."""
    if run.flight is not None:
        run.flight = None
        state.flights -= 1
    if run.asking is not None:
        run.asking = None
        state.flights -= 1


def _frame_failed(state: RunState, frame: Frame, closing: Closing, time: datetime) -> None:
    """A step of the frame failed for good: the frame ends early, and perhaps its container with it."""
    if frame.closing is not None:
        return
    frame.closing = closing
    if _survives(state, frame):
        _end_early(state, frame, closing, time)
    else:
        close(state, frame.container, closing, time)


def _survives(state: RunState, frame: Frame) -> bool:
    """Whether its container goes on when this frame has failed."""
    if frame.container == ROOT:
        return False
    run = state.steps[frame.container]
    match run.step.action:
        case TryAction():
            return True  # what follows is decided when all of it is over
        case ForeachAction() as action:
            return action.on_item_error is ItemError.COLLECT
        case ParallelAction() as action:
            begun = (*run.over, *state.frames[frame.container])
            failed = sum(each.closing is not None for each in begun)
            return len(action.branches) - failed >= action.needed
        case _:
            return False


def _end_early(state: RunState, frame: Frame, closing: Closing, time: datetime) -> None:
    """Begins nothing more in a frame, and gives up what can be given up."""
    frame.closing = frame.closing or closing
    for path in frame.steps:
        run = state.steps[path]
        waits = run.state in (StepState.PENDING, StepState.RETRYING)
        waits = waits or path in state.timers or path in state.awaited
        if waits or run.flies_pure:
            if run.unresolved is None:
                settle(state, path, StepState.CANCELED, time)
            else:
                park(state, path, run, time)
        elif path in state.child_runs:
            state.recall[path] = None
            state.deadlines.pop(path, None)
        elif run.branches is not None and run.state is StepState.RUNNING:
            close(state, path, CANCELED, time)


def _frame_over(state: RunState, frame: Frame, time: datetime) -> None:
    """No step of the frame is unsettled: what that means for its container."""
    container = frame.container
    going_on = state.frames.get(container, [])
    if frame not in going_on:
        return  # it was found out while its last steps were being cancelled
    going_on.remove(frame)
    if container != ROOT and container not in state.closing:
        run = state.steps[container]
        insort(run.over, frame, key=attrgetter("index"))
        match run.step.action:
            case ForeachAction() as action if run.begun < len(run.items):
                next_iteration(state, container, action)
            case ParallelAction() as action if going_on:
                if sum(each.closing is None for each in run.over) >= action.needed:
                    close(state, container, Closing(RunPhase.SUCCEEDED), time)
    if not going_on:
        state.closable[container] = None
