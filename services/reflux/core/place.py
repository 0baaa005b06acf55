"""Where a step stands, in a run and in the flow version with which to go on from it; and who is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.cut import split
from reflux.core.errors import NotFound, Refused
from reflux.core.event import StepState
from reflux.core.flow.model import Container, Loop, ParallelAction, branches_of
from reflux.core.flow.problems import nearest
from reflux.core.names import StepPath
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from reflux.core.flow.model import Flow, Step
    from reflux.core.state import RunState, StepRun


def step_not_found(step: str, known: Collection[str], where: str) -> NotFound:
    """A step is named that is not there."""
    shown = step[:200]
    hint = nearest(shown, known)
    message = f"there is no step {shown!r} in {where}" + (f": {hint}" if hint else "")
    return NotFound(Reason.STEP_NOT_FOUND, message, metadata={"step": shown})


def check_place(origin: RunState, target: Flow, point: StepPath, run: StepRun) -> None:
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
    if not same_place(origin.flow, target, point):
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


def same_place(origin: Flow, target: Flow, path: StepPath) -> bool:
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


def changed_inside(origin: Flow, target: Flow) -> frozenset[StepPath]:
    """Ids of the containers of both versions in which other steps stand, or stand elsewhere."""
    if origin is target:
        return frozenset()
    return frozenset(
        name
        for name, step in origin.steps.items()
        if isinstance(step.action, Container)
        and same_place(origin, target, name)
        and (
            set(inside := list(_inside(origin, name))) != set(_inside(target, name))
            or not all(same_place(origin, target, each) for each in inside)
        )
    )


def _inside(flow: Flow, container: StepPath) -> Iterator[StepPath]:
    action = flow.steps[container].action
    for scope in (action.body,) if isinstance(action, Loop) else branches_of(action):
        for name in scope.steps:
            yield name
            yield from _inside(flow, name)


def _kind(step: Step) -> type | None:
    """What of a step must be equal for what is inside of it to be in the same place."""
    return type(step.action) if isinstance(step.action, Container) else None


def places(origin: RunState, path: StepPath) -> tuple[StepPath, ...]:
    """A step and what is around it; of one in a run below the origin: the step that had begun that run."""
    while path not in origin.steps:
        path = StepPath(path.rpartition("/")[0])
    return (path, *origin.around(path))


def unresolved(origin: RunState, path: StepPath) -> Refused:
    """Nobody knows what became of the effect of a step, or of what undid one."""
    step = places(origin, path)[0]
    undoes = origin.steps[step].undoes
    if undoes is None:
        message = (
            f"nobody knows whether the effect of step {path} of run {origin.id} happened: find out, then "
            f"fork from {step} if it may happen again"
        )
    else:  # from a compensation nothing can go on: what it undid is done again, or stands
        message = (
            f"nobody knows whether step {undoes} of run {origin.id} was undone: find out, then fork from "
            f"{undoes} to do it again, or from a step that comes after it if what it did stands"
        )
    metadata = {"run_id": origin.id, "step": path}
    return Refused(Reason.STEP_UNRESOLVED, message, metadata=metadata)
