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
(`on_error: continue`, a list that was caught, collected or lost a race), and the version to go on with does,
too: a failure that ended everything is done anew, or the new run would end at once. A `return` is done anew:
it has no effect but the end. When a container has no outcome to keep, those inside of it are kept one by one.
What the origin itself had kept of a run before it, and had not come to when it ended, is handed on by the
same rules.

**What cannot be.** A step whose outside effect nobody knows is never kept, and never repeated unasked: unless
it comes after P, the fork is refused. So is a fork over a step that is still being done.

The new run may walk another flow version. Both versions then say what comes after P, and an outcome is kept
only if its step stands inside the same containers in both; that of a container only if all inside of it do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.cut import Cut, Why, around, split
from reflux.core.errors import Refused
from reflux.core.event import SETTLED, RunPhase, SkipReason, StepState
from reflux.core.flow.model import Loop, OnError, ReturnAction, branches_of
from reflux.core.former import Formers
from reflux.core.kept import ends_its_list
from reflux.core.names import StepPath
from reflux.core.origin import Operation, Origin
from reflux.core.past import (
    acted_before,
    acted_in,
    began,
    failed_steps,
    handled,
    is_reached,
    never_ran,
    outcome_of,
    owed,
    undone,
)
from reflux.core.place import changed_inside, check_place, places, same_place, step_not_found, unresolved
from reflux.core.reasons import Reason
from reflux.core.state import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from reflux.core import event as ev
    from reflux.core.flow.model import Flow
    from reflux.core.origin import FormerChild
    from reflux.core.state import RunState, StepRun


@dataclass(frozen=True, slots=True)
class Anew:
    """A step that had begun, in the origin or in a run from which that was to go on, and is not kept."""

    step: StepPath
    why: Why
    state: StepState
    """In the origin."""
    acted: bool
    """It may have had an outside effect there: doing it anew may have another one."""


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """What becomes of each step that had begun, in the origin or in a run from which that was to go on."""

    points: tuple[StepPath, ...]
    kept: tuple[ev.OutcomeKept, ...]
    anew: tuple[Anew, ...]
    children: Mapping[StepPath, FormerChild]
    """From where the runs go on that steps begin which are done anew."""

    def begins(self, operation: Operation, origin: RunState) -> Origin:
        """How the new run begins; a retry is one more attempt at the same, a fork is something else."""
        created = origin.created
        attempt = created.attempt + 1 if operation is Operation.RETRY else 1
        kept = len(self.kept)
        return Origin(operation, origin.id, self.points, created.flow_version, kept, attempt, self.children)


def plan_fork(origin: RunState, target: Flow, point: StepPath) -> ForkPlan:
    """The plan of going on from one step.

    Raises:
        NotFound: STEP_NOT_FOUND, in the run or in the other flow version.
        Refused: STEP_NEVER_RAN, STEP_UNRESOLVED, STEP_UNSETTLED, STEP_MOVED.
    """
    run = origin.steps.get(point)
    if run is None:
        raise step_not_found(point, origin.steps, f"run {origin.id}")
    if never_ran(run):
        message = f"step {point} of run {origin.id} never ran ({run.state}): fork from a step that did"
        raise Refused(Reason.STEP_NEVER_RAN, message, metadata={"run_id": origin.id, "step": point})
    check_place(origin, target, point, run)
    return _Planner(origin, target, (point,)).plan()


def plan_retry(origin: RunState, target: Flow) -> ForkPlan:
    """The plan of doing again whatever made the run fail, or was cut off by its cancel.

    Raises:
        Refused: RUN_NOT_FAILED; STEP_UNRESOLVED: an effect of which nobody knows would be repeated unasked.
        NotFound, Refused: as a fork.
    """
    if origin.phase not in (RunPhase.FAILED, RunPhase.CANCELED):
        message = f"run {origin.id} is {origin.phase}: only a run that FAILED or was CANCELED can be retried"
        if origin.parked:
            message += f"; say first what became of step {next(iter(origin.parked))} (:complete)"
        raise Refused(Reason.RUN_NOT_FAILED, message, metadata={"run_id": origin.id, "state": origin.phase})
    for path in origin.unresolved_effects:
        run = origin.steps.get(path)
        if run is not None and run.child is None:  # what is below a step is the business of its child's plan
            raise unresolved(origin, path)
    failed = failed_steps(origin)
    for path in failed:
        check_place(origin, target, path, origin.steps[path])
    leaves = [path for path in failed if origin.steps[path].branches is None]
    containers = [path for path in failed if origin.steps[path].branches is not None]
    plan = _Planner(origin, target, leaves, containers).retry()
    begun = {each.step for each in plan.anew} - plan.children.keys()
    for path in origin.unresolved_effects:
        step = places(origin, path)[0]
        if step in begun and origin.steps[step].child is not None:  # what it had begun is begun from nothing
            raise unresolved(origin, path)
    return plan


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
        self._formers = Formers(origin, target)
        self._handed = origin.created.origin.children if origin.created.origin is not None else {}
        self._going_on: frozenset[StepPath] = frozenset()
        self._keeps_decisions = False
        self._children: dict[StepPath, FormerChild] = {}
        self._cut = Cut()
        self._undone = undone(origin)
        self._owed = owed(origin)
        # Also of a run that was ended at once: its steps in flight are CANCELED, whatever they have done.
        self._unknown = {place: path for path in origin.unresolved_effects for place in places(origin, path)}
        void = [path for path in self._undone if same_place(origin.flow, target, path)]
        for flow in [origin.flow] if origin.flow is target else [origin.flow, target]:
            self._cut.add(flow, (*points, *void), opened=False)
            self._cut.add(flow, containers, opened=True)
        self._cut.opened |= self._changed()
        self._kept: list[ev.OutcomeKept] = []
        self._anew: list[Anew] = []

    def plan(self) -> ForkPlan:
        """Everything in its place."""
        self._list(ROOT)
        self._pass_on()
        return ForkPlan(self._points, tuple(self._kept), tuple(self._anew), self._children)

    def retry(self) -> ForkPlan:
        """The same of a retry, in which steps that had begun a run go on from that.

        Nothing goes on from a point that stands on what is done anew: it comes after that. A step that
        somebody has skipped stays so after it, too: a retry repeats what failed, not what was decided.
        """
        self._keeps_decisions = True
        undone = sorted(path for path in self._undone if same_place(self._origin.flow, self._target, path))
        self._points = tuple(filter(self._is_first, dict.fromkeys((*self._points, *undone))))
        self._going_on = frozenset(self._points) - self._undone
        for path in self._going_on:
            if (former := self._formers.of(path)) is not None:
                self._children[path] = former
        return self.plan()

    def _changed(self) -> set[StepPath]:
        """Containers in which other steps stand in the other version: each of them says what is kept.

        But for loops that were kept themselves: what was done in their iterations is known no more.
        """
        changed = changed_inside(self._origin.flow, self._target)
        entered = {
            path
            for path, run in self._origin.steps.items()
            if run.step.path in changed and run.branches is not None and run.state is not StepState.SKIPPED
        }
        held = {
            path
            for path, held in self._origin.kept.items()
            if (name := split(path)[1]) in changed
            and not isinstance(self._origin.flow.steps[name].action, Loop)
            and held.state is not StepState.SKIPPED
        }
        return entered | held

    def _list(self, container: StepPath) -> None:
        for path in self._origin.children(container):
            run = self._origin.steps[path]
            if is_reached(run):
                self._step(path, run)

    def _step(self, path: StepPath, run: StepRun) -> None:
        why = self._cut.why(self._origin.flow, path)
        if self._stays_skipped(path, run.skip_reason):
            self._keep(path, run)
        elif why is not None:
            self._do_anew(path, run, Why.UNDONE if path in self._undone else why)
        elif not same_place(self._origin.flow, self._target, path):
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

    def _stays_skipped(self, path: StepPath, reason: SkipReason | None) -> bool:
        """Whether somebody has skipped it, and a retry comes to it again in a list that goes on."""
        if not self._keeps_decisions or reason is not SkipReason.HAND or path in self._cut.points:
            return False
        flow, cut = self._origin.flow, self._cut
        _, *containers = around(flow, path)
        going_on = all(cut.why(flow, each) is None for each in containers)
        going_on = going_on and (path in cut.after or cut.why(flow, path) is None)
        return going_on and same_place(flow, self._target, path)

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
                return self._target.steps[split(path)[1]].on_error is OnError.CONTINUE
            case StepState.FAILED | StepState.CANCELED:
                return self._dealt_with(path)
            case _:
                return False

    def _dealt_with(self, path: StepPath) -> bool:
        """Whether its list had ended early, and the container around it had gone on; and will again."""
        here = handled(self._origin, path, self._origin.flow) and self._list_stands(path)
        return here and handled(self._origin, path, self._target)

    def _list_stands(self, path: StepPath) -> bool:
        """Whether nothing of the list that a step stands in is done anew."""
        flow, (prefix, name) = self._origin.flow, split(path)
        steps = [StepPath(prefix + each) for each in flow.scopes[flow.steps[name].scope].steps]
        return not any(self._cut.why(flow, each) or each in self._cut.opened for each in steps)

    def _keep(self, path: StepPath, run: StepRun) -> None:
        """Its outcome, and with a container's those inside, which may be read from outside."""
        self._kept.append(outcome_of(self._origin, path, run, owed=path in self._owed))
        for scope in branches_of(run.step.action):
            if scope.branch not in (run.branches or ()):
                continue
            for name in scope.steps:
                inner = StepPath(run.prefix + name)
                inside = self._origin.steps[inner]
                if inside.state not in SETTLED:
                    self._check_known(inner, inside)
                elif inside.skip_reason is not SkipReason.BRANCH:
                    self._keep(inner, inside)  # also where a run below it has left what nobody knows

    def _check_known(self, path: StepPath, run: StepRun) -> None:
        """Nothing may be done anew, unasked, of which nobody knows whether it has happened, or which goes on.

        Raises:
            Refused: STEP_UNRESOLVED, STEP_UNSETTLED.
        """
        if (unknown := self._unknown.get(path)) is not None:
            raise unresolved(self._origin, unknown)
        if run.state in SETTLED:
            return
        if run.unresolved is not None:
            raise unresolved(self._origin, path)
        if run.state is not StepState.PENDING:
            message = (
                f"step {path} of run {self._origin.id} is {run.state} and does not come after the fork: "
                "wait for it, cancel the run, or fork from it"
            )
            metadata = {"run_id": self._origin.id, "step": path}
            raise Refused(Reason.STEP_UNSETTLED, message, metadata=metadata)

    def _do_anew(self, path: StepPath, run: StepRun, why: Why) -> None:
        """Says so, of everything inside that may have acted too."""
        if began(run):
            acted = acted_in(run) or path in self._handed  # what it was to go on from has acted
            self._anew.append(Anew(path, why, run.state, acted))
        if run.branches is not None:
            for inner in self._origin.children(path):
                inside = self._origin.steps[inner]
                if is_reached(inside):
                    self._do_anew(inner, inside, why)

    def _pass_on(self) -> None:
        """What the origin had kept of runs before it, and has not come to, stands for the new run as well.

        It would have been used there, had the origin not ended before; nobody else will hand it on.
        """
        whole = {each.step for each in self._kept}
        anew = {each.step for each in self._anew}
        for path, held in self._origin.kept.items():
            if path in anew or path in self._cut.opened or not self._is_open(path, whole):
                continue
            why, step = self._why(path), self._origin.flow.steps[split(path)[1]]
            if why is None and self._would_end(path, held):
                why = Why.FAILED
            if why is None or self._stays_skipped(path, held.skip_reason):
                self._kept.append(held)
            elif held.state in (StepState.SUCCEEDED, StepState.FAILED) or acted_before(held, step):
                self._anew.append(Anew(path, why, held.state, acted_before(held, step)))
        for path, former in self._handed.items():
            run = self._origin.steps.get(path)
            # What it was about to begin may be there: then that is what stands, and nobody knows.
            another = run is not None and (run.child_began or path in self._unknown)
            if another or not self._is_open(path, whole):
                continue
            why = self._why(path)
            if (why is None or path in self._going_on) and self._formers.waits(path):
                self._children[path] = former
            if path not in anew:
                state = StepState.PENDING if run is None else run.state
                self._anew.append(Anew(path, why or Why.FROM, state, acted=True))

    def _would_end(self, path: StepPath, held: ev.OutcomeKept) -> bool:
        """Whether an outcome ends its list early, and nothing says that this is dealt with again."""
        name = split(path)[1]
        if ends_its_list(self._origin.flow.steps[name], held):
            return not self._list_stands(path)
        return ends_its_list(self._target.steps[name], held)

    def _is_open(self, path: StepPath, whole: Collection[StepPath]) -> bool:
        """Whether the new run may come to a step: neither it nor a container around it is kept itself."""
        flow = self._origin.flow
        return split(path)[1] in flow.steps and not any(each in whole for each in around(flow, path))

    def _why(self, path: StepPath) -> Why | None:
        """Why a step is done anew, by where it or a container around it stands."""
        flow = self._origin.flow
        found = (self._cut.why(flow, each) for each in around(flow, path))
        if (why := next((each for each in found if each is not None), None)) is not None:
            return why
        return None if same_place(flow, self._target, path) else Why.MOVED

    def _is_first(self, point: StepPath) -> bool:
        """Whether a point stands on nothing that is done anew."""
        own, *others = (self._cut.why(self._origin.flow, each) for each in around(self._origin.flow, point))
        return own is not Why.AFTER and not any(others)


def _why_not_kept(run: StepRun) -> Why:
    if isinstance(run.step.action, ReturnAction):
        return Why.RETURN
    return Why.FAILED if run.state is StepState.FAILED else Why.CANCELED
