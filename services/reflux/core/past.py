"""What became of the steps of a run, for whoever goes on from it: what ended it, and what of it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core import event as ev
from reflux.core.effect import EffectClass
from reflux.core.event import Outcome, RunPhase, StepState
from reflux.core.flow.model import (
    FailAction,
    FlowAction,
    ForeachAction,
    ItemError,
    NodeAction,
    OnError,
    ParallelAction,
    TryAction,
    WhileAction,
    branches_of,
)
from reflux.core.kept import items_digest
from reflux.core.names import StepPath
from reflux.core.state import ROOT, attempts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.core.flow.model import Flow, Step
    from reflux.core.state import RunState, StepRun


def failed_steps(origin: RunState, container: StepPath = ROOT, branch: int | None = None) -> list[StepPath]:
    """The steps that ended a list for good, and containers that failed by themselves.

    A handler that passes the failure on (`fail`) did nothing that could be done better: then it is the steps
    of the body. With `branch` only those of that branch, whatever the container made of its failure.
    """
    found: list[StepPath] = []
    for path in origin.children(container):
        run = origin.steps[path]
        if not is_reached(run) or run.state not in (StepState.FAILED, StepState.CANCELED):
            continue
        if run.state is StepState.FAILED and run.step.on_error is OnError.CONTINUE:
            continue
        if run.step.branch != branch if branch is not None else handled(origin, path, origin.flow):
            continue
        if run.branches is None:
            found += [path] if began(run) else []
            continue
        inner = failed_steps(origin, path)
        if (
            isinstance(run.step.action, TryAction)
            and inner
            and all(_passes_on(origin, each) for each in inner)
        ):
            inner = failed_steps(origin, path, branch=0) or inner
        found += inner or [path]
    return found


def _passes_on(origin: RunState, path: StepPath) -> bool:
    return isinstance(origin.steps[path].step.action, FailAction)


def is_reached(run: StepRun) -> bool:
    """Whether its list was entered, or its outcome came with that of its container."""
    return run.frame is not None or run.kept is not None


def handled(origin: RunState, path: StepPath, flow: Flow) -> bool:
    """Whether the list of a step failed and the container around it went on, as this version has it."""
    run = origin.steps[path]
    if run.parent == ROOT or not list_failed(origin, run):
        return False
    around = origin.steps[run.parent]
    match flow.steps[around.step.path].action:
        case ForeachAction() as action:
            return action.on_item_error is ItemError.COLLECT
        case TryAction() as action:
            handlers = range(1, len(action.handlers) + 1)
            # Of a handler without steps nothing is kept; but without one a failed `try` would not end well.
            entered = any(number in handlers for number in around.branches or ())
            well = entered or (around.state is StepState.SUCCEEDED and bool(handlers))
            return run.step.branch == 0 and well
        case ParallelAction() as action:
            firsts = [scope.steps[0] for scope in branches_of(around.step.action) if scope.steps]
            failed = sum(list_failed(origin, origin.steps[StepPath(run.prefix + each)]) for each in firsts)
            return len(action.branches) - failed >= action.needed
        case _:
            return False


def list_failed(origin: RunState, run: StepRun) -> bool:
    """Whether a step of the list that `run` stands in ended it."""
    if run.frame is not None:
        return run.frame.closing is not None and run.frame.closing.state is RunPhase.FAILED
    steps = [origin.steps[StepPath(run.prefix + each)] for each in origin.flow.scopes[run.step.scope].steps]
    return any(each.state is StepState.FAILED and each.step.on_error is OnError.FAIL for each in steps)


def outcome_of(origin: RunState, path: StepPath, run: StepRun, *, owed: bool) -> ev.OutcomeKept:
    """What a new run takes over of a settled step."""
    former, last = run.kept, run.finished[-1] if run.finished else None
    outcome, attempts = attempts_of(origin, run.failure) if run.failure is not None else (None, 0)
    return ev.OutcomeKept(
        step=path,
        state=run.state,
        run_id=former.run_id if former else origin.id,
        output=run.output,
        failure=run.failure,
        skip_reason=run.skip_reason,
        attempts=former.attempts if former else len(run.finished),
        version=former.version if former else last.assignment.answered_by if last else "",
        items_digest=items_digest(origin, path),
        cost_nanos=run.cost_nanos,
        owed=owed,
        acted=acted_in(run) or _acted_inside(origin, path, run),
        failed_outcome=outcome,
        failed_attempts=attempts,
    )


def owed(origin: RunState) -> frozenset[StepPath]:
    """Steps that the origin should have undone and has not; and those that are kept in place of such a step.

    These are the loops around it, whose iterations are left behind, and the step that had begun its run.
    """
    left = origin.finished.uncompensated if origin.finished is not None else ()
    return frozenset(each for path in left for each in _kept_for(path))


def _kept_for(path: StepPath) -> Iterator[StepPath]:
    """`lines[3]/pay` and `lines`; `report/pay` and `report`."""
    while path:
        yield path
        outer, _, _ = path.rpartition("/")
        path = StepPath(outer.rpartition("[")[0] if outer.endswith("]") else outer)


def began(run: StepRun) -> bool:
    """Whether anything was done for it, here or in a run before this one."""
    return not never_ran(run)


def never_ran(run: StepRun) -> bool:
    """Whether it was left out, or its turn did not come; a person may leave out also what has begun."""
    if run.state is StepState.SKIPPED:
        return run.start_time is None and not acted_in(run)
    if run.state is StepState.PENDING:
        return True
    return run.state is StepState.CANCELED and run.start_time is None and run.kept is None


def acted_in(run: StepRun) -> bool:
    """Whether one of its calls may have had an outside effect; of a run that it has begun, any step's."""
    if run.kept is not None:
        return acted_before(run.kept, run.step)
    if run.claims or run.unresolved is not None or run.child_began:
        return True
    return any(
        each.assignment.effect is not EffectClass.PURE and each.outcome in (Outcome.DONE, Outcome.AMBIGUOUS)
        for each in run.finished
    )


def acted_before(kept: ev.OutcomeKept, step: Step) -> bool:
    """The same of an outcome that came from another run."""
    if kept.acted is not None:
        return kept.acted
    may = isinstance(step.action, NodeAction | FlowAction | ForeachAction | WhileAction)
    return may and kept.state is not StepState.SKIPPED


def _acted_inside(origin: RunState, path: StepPath, run: StepRun) -> bool:
    """Whether a step in the iterations of a loop has acted: these are left behind when it is kept."""
    if not isinstance(run.step.action, ForeachAction | WhileAction):
        return False
    waiting = [path]
    while waiting:
        for inner in origin.children(waiting.pop()):
            if acted_in(origin.steps[inner]):
                return True
            if origin.steps[inner].branches is not None:
                waiting.append(inner)
    return False


def undone(origin: RunState) -> frozenset[StepPath]:
    """Steps whose compensation has surely been done: what they did does not stand any more."""
    return frozenset(
        run.undoes
        for run in origin.steps.values()
        if run.undoes is not None and run.state is StepState.SUCCEEDED
    )
