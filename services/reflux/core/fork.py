"""What a new run takes over from another one, and what it does anew: the plan of a fork and of a retry.

A fork goes on *from* some steps. They and everything that comes after them are done anew; the outcomes of all
other steps that have settled are kept. What comes after a step P:

- in P's own list, every step that waits for it, directly or through others;
- of a `while` around P, every later iteration; of a `try` around P, every later branch (handlers and
  `finally` after the body, `finally` after a handler);
- and so on outwards: for the container around P, as for P itself.

A container around P is entered again and decides again, with the outcomes that were kept inside of it. So a
fork from `lines[3]/price` prices the fourth line again and no other, and then does what comes after `lines`.

**What is kept.** SUCCEEDED and SKIPPED; FAILED and CANCELED only where the flow had dealt with it
(`on_error: continue`, a list that was caught, collected or lost a race): a failure that ended everything is
done anew, or the new run would end at once. A `return` is done anew: it has no effect but the end. When a
container has no outcome to keep, those inside of it are kept one by one.

**What cannot be.** A step whose outside effect nobody knows is never kept, and never repeated unasked: unless
it comes after P, the fork is refused. So is a fork over a step that is still being done.

The new run may walk another flow version. Both versions then say what comes after P, and an outcome is kept
only if its step stands inside the same containers in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core import event as ev
from reflux.core.cut import Cut, Why, split
from reflux.core.effect import EffectClass
from reflux.core.errors import NotFound, Refused
from reflux.core.event import SETTLED, Outcome, RunPhase, SkipReason, StepState
from reflux.core.flow.model import (
    Container,
    FailAction,
    ForeachAction,
    ItemError,
    OnError,
    ParallelAction,
    ReturnAction,
    TryAction,
    branches_of,
)
from reflux.core.flow.problems import nearest
from reflux.core.kept import items_digest
from reflux.core.names import StepPath
from reflux.core.origin import Operation, Origin
from reflux.core.reasons import Reason
from reflux.core.state import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from reflux.core.flow.model import Flow, Step
    from reflux.core.state import RunState, StepRun


@dataclass(frozen=True, slots=True)
class Anew:
    """A step that had begun in the origin and is not kept."""

    step: StepPath
    why: Why
    state: StepState
    """In the origin."""
    acted: bool
    """It may have had an outside effect there: doing it anew may have another one."""


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """What becomes of each step of the origin that had begun."""

    points: tuple[StepPath, ...]
    kept: tuple[ev.OutcomeKept, ...]
    anew: tuple[Anew, ...]

    def begins(self, operation: Operation, origin: RunState) -> Origin:
        """How the new run begins; a retry is one more attempt at the same, a fork is something else."""
        created = origin.created
        attempt = created.attempt + 1 if operation is Operation.RETRY else 1
        return Origin(operation, origin.id, self.points, created.flow_version, len(self.kept), attempt)


def plan_fork(origin: RunState, target: Flow, point: StepPath) -> ForkPlan:
    """The plan of going on from one step.

    Raises:
        NotFound: STEP_NOT_FOUND, in the run or in the other flow version.
        Refused: STEP_NEVER_RAN, STEP_UNRESOLVED, STEP_UNSETTLED, STEP_MOVED.
    """
    run = origin.steps.get(point)
    if run is None:
        raise step_not_found(point, origin.steps, f"run {origin.id}")
    if _never_ran(run):
        message = f"step {point} of run {origin.id} never ran ({run.state}): fork from a step that did"
        raise Refused(Reason.STEP_NEVER_RAN, message, metadata={"run_id": origin.id, "step": point})
    _check_place(origin, target, point, run)
    return _Planner(origin, target, (point,)).plan()


def plan_retry(origin: RunState, target: Flow) -> ForkPlan:
    """The plan of doing again whatever made the run fail, or was cut off by its cancel.

    Raises:
        Refused: RUN_NOT_FAILED; STEP_UNRESOLVED: an effect of which nobody knows would be repeated unasked.
        NotFound, Refused: as a fork.
    """
    if origin.phase not in (RunPhase.FAILED, RunPhase.CANCELED):
        message = f"run {origin.id} is {origin.phase}: only a run that FAILED or was CANCELED can be retried"
        raise Refused(Reason.RUN_NOT_FAILED, message, metadata={"run_id": origin.id, "state": origin.phase})
    for path in origin.unresolved_effects:
        run = origin.steps.get(path)
        if run is not None and run.child is None:  # what is below a step is the business of its child's plan
            raise _unresolved(origin, path)
    failed = _failed(origin)
    for path in failed:
        _check_place(origin, target, path, origin.steps[path])
    leaves = [path for path in failed if origin.steps[path].branches is None]
    containers = [path for path in failed if origin.steps[path].branches is not None]
    return _Planner(origin, target, leaves, containers).plan()


def plan_child(origin: RunState, target: Flow) -> ForkPlan:
    """The plan of a child that is begun again because its parent is retried: only what it did not do well.

    Raises:
        Refused: as a retry; STEP_UNSETTLED: it has not ended.
        NotFound: as a fork.
    """
    if origin.phase is RunPhase.SUCCEEDED:
        return _Planner(origin, target, ()).plan()
    if origin.finished is None:
        message = f"run {origin.id} has not ended: it is {origin.phase}; wait for it, or cancel it"
        raise Refused(Reason.STEP_UNSETTLED, message, metadata={"run_id": origin.id})
    return plan_retry(origin, target)


def step_not_found(step: str, known: Collection[str], where: str) -> NotFound:
    """A step is named that is not there."""
    shown = step[:200]
    hint = nearest(shown, known)
    message = f"there is no step {shown!r} in {where}" + (f": {hint}" if hint else "")
    return NotFound(Reason.STEP_NOT_FOUND, message, metadata={"step": shown})


class _Planner:
    """One walk over the steps of the origin, from the top list inwards."""

    def __init__(
        self,
        origin: RunState,
        target: Flow,
        points: Sequence[StepPath],
        containers: Sequence[StepPath] = (),
    ) -> None:
        self._origin = origin
        self._target = target
        self._points = (*points, *containers)
        self._cut = Cut()
        self._undone = undone(origin)
        # Also of a run that was ended at once: its steps in flight are CANCELED, whatever they have done.
        self._unknown = {place: path for path in origin.unresolved_effects for place in _places(origin, path)}
        for flow in (origin.flow, target):
            for point in (
                *points,
                *(path for path in self._undone if _same_place(origin.flow, target, path)),
            ):
                self._cut.add(flow, point, opened=False)
            for point in containers:
                self._cut.add(flow, point, opened=True)
        self._kept: list[ev.OutcomeKept] = []
        self._anew: list[Anew] = []

    def plan(self) -> ForkPlan:
        """Everything in its place."""
        self._list(ROOT)
        return ForkPlan(self._points, tuple(self._kept), tuple(self._anew))

    def _list(self, container: StepPath) -> None:
        for path in self._origin.children(container):
            run = self._origin.steps[path]
            if _is_reached(run):
                self._step(path, run)

    def _step(self, path: StepPath, run: StepRun) -> None:
        why = self._cut.why(path, run)
        if why is not None:
            self._do_anew(path, run, Why.UNDONE if path in self._undone else why)
        elif not _same_place(self._origin.flow, self._target, path):
            self._check_known(path, run)
            self._do_anew(path, run, Why.MOVED)
        elif path in self._cut.opened:
            self._list(path)
        elif self._stands(path, run):
            self._keep(path, run)
        elif run.branches is not None:
            self._list(path)
        else:
            self._check_known(path, run)
            self._do_anew(path, run, _why_not_kept(run))

    def _stands(self, path: StepPath, run: StepRun) -> bool:
        """Whether its own outcome is one to keep."""
        if isinstance(run.step.action, ReturnAction):
            return False
        match run.state:
            case StepState.SUCCEEDED:
                return True
            case StepState.SKIPPED:
                return run.skip_reason is not SkipReason.BRANCH
            case StepState.FAILED if run.step.on_error is OnError.CONTINUE:
                return True
            case StepState.FAILED | StepState.CANCELED:
                return self._dealt_with(path, run)
            case _:
                return False

    def _dealt_with(self, path: StepPath, run: StepRun) -> bool:
        """Whether its list had ended early, and the container around it had gone on; and will again."""
        steps = [StepPath(run.prefix + each) for each in self._origin.flow.scopes[run.step.scope].steps]
        return _handled(self._origin, path) and not any(
            self._cut.why(each, self._origin.steps[each]) or each in self._cut.opened for each in steps
        )

    def _keep(self, path: StepPath, run: StepRun) -> None:
        """Its outcome, and with a container's those inside, which may be read from outside."""
        self._kept.append(_outcome(self._origin, path, run))
        for scope in branches_of(run.step.action):
            if scope.branch not in (run.branches or ()):
                continue
            for name in scope.steps:
                inner = StepPath(run.prefix + name)
                inside = self._origin.steps[inner]
                self._check_known(inner, inside)
                if inside.state in SETTLED and inside.skip_reason is not SkipReason.BRANCH:
                    self._keep(inner, inside)

    def _check_known(self, path: StepPath, run: StepRun) -> None:
        """Nothing may be done anew, unasked, of which nobody knows whether it has happened, or which goes on.

        Raises:
            Refused: STEP_UNRESOLVED, STEP_UNSETTLED.
        """
        if (unknown := self._unknown.get(path)) is not None:
            raise _unresolved(self._origin, unknown)
        if run.state in SETTLED:
            return
        if run.unresolved is not None:
            raise _unresolved(self._origin, path)
        if run.state is not StepState.PENDING:
            message = (
                f"step {path} of run {self._origin.id} is {run.state} and does not come after the fork: "
                "wait for it, cancel the run, or fork from it"
            )
            metadata = {"run_id": self._origin.id, "step": path}
            raise Refused(Reason.STEP_UNSETTLED, message, metadata=metadata)

    def _do_anew(self, path: StepPath, run: StepRun, why: Why) -> None:
        """Says so, of everything inside that may have acted too."""
        if _began(run):
            self._anew.append(Anew(path, why, run.state, _acted(run)))
        if run.branches is not None:
            for inner in self._origin.children(path):
                inside = self._origin.steps[inner]
                if _is_reached(inside):
                    self._do_anew(inner, inside, why)


def _failed(origin: RunState, container: StepPath = ROOT, branch: int | None = None) -> list[StepPath]:
    """The steps that ended a list for good, and containers that failed by themselves.

    A handler that passes the failure on (`fail`) did nothing that could be done better: then it is the steps
    of the body. With `branch` only those of that branch, whatever the container made of its failure.
    """
    found: list[StepPath] = []
    for path in origin.children(container):
        run = origin.steps[path]
        if not _is_reached(run) or run.state not in (StepState.FAILED, StepState.CANCELED):
            continue
        if run.state is StepState.FAILED and run.step.on_error is OnError.CONTINUE:
            continue
        if run.step.branch != branch if branch is not None else _handled(origin, path):
            continue
        if run.branches is None:
            found += [path] if _began(run) else []
            continue
        inner = _failed(origin, path)
        if (
            isinstance(run.step.action, TryAction)
            and inner
            and all(_passes_on(origin, each) for each in inner)
        ):
            inner = _failed(origin, path, branch=0) or inner
        found += inner or [path]
    return found


def _passes_on(origin: RunState, path: StepPath) -> bool:
    return isinstance(origin.steps[path].step.action, FailAction)


def _is_reached(run: StepRun) -> bool:
    """Whether its list was entered, or its outcome came with that of its container."""
    return run.frame is not None or run.kept is not None


def _handled(origin: RunState, path: StepPath) -> bool:
    """Whether the list of a step failed and the container around it went on."""
    run = origin.steps[path]
    if run.parent == ROOT or not _list_failed(origin, run):
        return False
    around = origin.steps[run.parent]
    match around.step.action:
        case ForeachAction() as action:
            return action.on_item_error is ItemError.COLLECT
        case TryAction() as action:
            handlers = range(1, len(action.handlers) + 1)
            # Of a handler without steps nothing is kept; but without one a failed `try` would not end well.
            entered = any(number in handlers for number in around.branches or ())
            return run.step.branch == 0 and (entered or around.state is StepState.SUCCEEDED)
        case ParallelAction() as action:
            firsts = [scope.steps[0] for scope in action.branches if scope.steps]
            failed = sum(_list_failed(origin, origin.steps[StepPath(run.prefix + each)]) for each in firsts)
            return len(action.branches) - failed >= action.needed
        case _:
            return False


def _list_failed(origin: RunState, run: StepRun) -> bool:
    """Whether a step of the list that `run` stands in ended it."""
    if run.frame is not None:
        return run.frame.closing is not None and run.frame.closing.state is RunPhase.FAILED
    steps = [origin.steps[StepPath(run.prefix + each)] for each in origin.flow.scopes[run.step.scope].steps]
    return any(each.state is StepState.FAILED and each.step.on_error is OnError.FAIL for each in steps)


def _outcome(origin: RunState, path: StepPath, run: StepRun) -> ev.OutcomeKept:
    former = run.kept
    return ev.OutcomeKept(
        step=path,
        state=run.state,
        run_id=former.run_id if former else origin.id,
        output=run.output,
        failure=run.failure,
        skip_reason=run.skip_reason,
        attempts=former.attempts if former else len(run.finished),
        version=former.version if former else _version(run),
        items_digest=items_digest(origin, path),
        cost_nanos=run.cost_nanos,
        owed=origin.finished is not None and path in origin.finished.uncompensated,
    )


def _version(run: StepRun) -> str:
    return run.finished[-1].assignment.answered_by if run.finished else ""


def _began(run: StepRun) -> bool:
    return not _never_ran(run)


def _never_ran(run: StepRun) -> bool:
    if run.state in (StepState.PENDING, StepState.SKIPPED):
        return True
    return run.state is StepState.CANCELED and run.start_time is None and run.kept is None


def _acted(run: StepRun) -> bool:
    """Whether one of its calls may have had an outside effect; of a run that it has begun, any step's."""
    if run.claims or run.unresolved is not None or run.child_began:
        return True
    return any(
        each.assignment.effect is not EffectClass.PURE and each.outcome in (Outcome.DONE, Outcome.AMBIGUOUS)
        for each in run.finished
    )


def undone(origin: RunState) -> frozenset[StepPath]:
    """Steps whose compensation has surely been done: what they did does not stand any more."""
    return frozenset(
        run.undoes
        for run in origin.steps.values()
        if run.undoes is not None and run.state is StepState.SUCCEEDED
    )


def _why_not_kept(run: StepRun) -> Why:
    if isinstance(run.step.action, ReturnAction):
        return Why.RETURN
    return Why.FAILED if run.state is StepState.FAILED else Why.CANCELED


def _check_place(origin: RunState, target: Flow, point: StepPath, run: StepRun) -> None:
    """The step from which to go on must be reachable in the new run.

    Raises:
        NotFound: STEP_NOT_FOUND in the other flow version.
        Refused: STEP_MOVED; or STEP_NEVER_RAN, as it stood in a branch that lost its race.
    """
    _, name = split(point)
    if run.undoes is not None:
        message = f"{point} undoes what the run did, and is no step to go on from"
        raise Refused(Reason.STEP_MOVED, message, metadata={"run_id": origin.id, "step": point})
    if name not in target.steps:
        raise step_not_found(name, target.steps, "the flow version to go on with")
    if not _same_place(origin.flow, target, point):
        message = f"step {point} stands elsewhere in the flow version to go on with: fork from another step"
        raise Refused(Reason.STEP_MOVED, message, metadata={"run_id": origin.id, "step": point})
    for around in origin.around(point):
        container = origin.steps.get(around)
        if container is None:
            return
        ended_early = run.frame is not None and run.frame.closing is not None
        lost = ended_early and container.state is StepState.SUCCEEDED
        if lost and isinstance(container.step.action, ParallelAction):
            message = f"step {point} stands in a branch of {around} that lost: fork from {around}"
            raise Refused(Reason.STEP_MOVED, message, metadata={"run_id": origin.id, "step": point})
        run = container


def _same_place(origin: Flow, target: Flow, path: StepPath) -> bool:
    """Whether a step is in both versions, inside of the same containers of the same kinds."""
    _, name = split(path)
    here, there = origin.steps[name], target.steps.get(name)
    while here is not there:
        if there is None or here.parent != there.parent or _kind(here) is not _kind(there):
            return False
        parent = here.parent
        if parent is None:
            return True
        here, there = origin.steps[parent], target.steps.get(parent)
    return True


def _kind(step: Step) -> type | None:
    """What of a step must be equal for what is inside of it to be in the same place."""
    return type(step.action) if isinstance(step.action, Container) else None


def _places(origin: RunState, path: StepPath) -> tuple[StepPath, ...]:
    """A step and what is around it; of one in a run below the origin: the step that had begun that run."""
    while path not in origin.steps:
        path = StepPath(path.rpartition("/")[0])
    return (path, *origin.around(path))


def _unresolved(origin: RunState, path: StepPath) -> Refused:
    undoes = origin.steps[path].undoes if path in origin.steps else None
    if undoes is None:
        message = (
            f"nobody knows whether the effect of step {path} of run {origin.id} happened: find out, then "
            f"fork from {path} if it may happen again"
        )
    else:  # from a compensation nothing can go on: what it undid is done again, or stands
        message = (
            f"nobody knows whether step {undoes} of run {origin.id} was undone: find out, then fork from "
            f"{undoes} to do it again, or from a step that comes after it if what it did stands"
        )
    metadata = {"run_id": origin.id, "step": path}
    return Refused(Reason.STEP_UNRESOLVED, message, metadata=metadata)
