"""Outcomes that a run takes over from its origin: kept first, used once the walk reaches their step.

- The journal of such a run begins with `RunCreated` and all its `OutcomeKept`. Folding them moves nothing.
- Containers are entered as always and decide anew; when a step becomes ready whose outcome was kept, it
  settles with that outcome instead of being done. So the walk goes the way of the origin up to where it is
  to differ, and no rule of any container is written twice.
- A container whose own outcome was kept is not entered: its steps get theirs with it, so that what comes
  after can read them, and whoever goes on from this run finds them where they were. Iterations of a loop
  cannot be read from outside, and are left behind.
- Within an iteration an outcome stands for the items it was made with, and for no others: what the loop goes
  through may have changed with the input or the flow.
- What failed and ended its list did so after everything that is known of that list. So such an outcome is
  used after those of its list that end nothing.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final

from reflux.core import event as ev
from reflux.core.command import Record
from reflux.core.document import Json, JsonValue
from reflux.core.event import StepState
from reflux.core.flow.model import ForeachAction, OnError, Scope, Step, branches_of
from reflux.core.frames import settle, show, skip_all, spend
from reflux.core.names import StepPath
from reflux.core.state import ROOT, Frame, RunState, StepRun

_VERSION: Final = b"\x02"


def keep(state: RunState, event: ev.OutcomeKept) -> None:
    """Remembers an outcome; its output counts at once, because memory holds it."""
    state.kept[event.step] = event
    if event.owed:
        state.owed.append(event.step)
    state.stored += _size(event)


def kept_outcome(state: RunState, now: datetime) -> Record | None:
    """The next of the ready steps whose outcome is known, settled with it."""
    if not state.kept:
        return None
    last: StepPath | None = None
    for path in state.ready:
        kept = state.kept.get(path)
        if kept is None or not _stands_for(kept, state, path):
            continue
        if not ends_its_list(state.steps[path].step, kept):
            return Record(ev.StepSettled(path, kept.state, now, kept=True))
        last = last or path
    return None if last is None else Record(ev.StepSettled(last, state.kept[last].state, now, kept=True))


def take_over(state: RunState, event: ev.StepSettled) -> None:
    """Settles a step with its kept outcome, and all that is inside of it with theirs.

    Raises:
        ValueError: the journal holds no such outcome.
    """
    run = state.steps[event.step]
    kept = state.kept.pop(event.step, None)
    if kept is None:
        raise ValueError(f"the journal uses an outcome of step {event.step} that it does not hold")
    state.stored -= _size(kept)  # settling counts it
    _remember(run, kept)
    spend(state, event.step, kept.cost_nanos, kept=True)
    _take_over_inside(state, run, event)
    settle(state, event.step, kept.state, event.time, kept.output)


def items_digest(state: RunState, path: StepPath) -> bytes:
    """Digest of the items of all iterations around a step; empty outside of `foreach`."""
    frame = _frame_around(state, path)
    return b"" if frame is None else _digest_of(state, frame)


def _stands_for(kept: ev.OutcomeKept, state: RunState, path: StepPath) -> bool:
    """Whether an outcome was made with the items that are around its step."""
    if len(kept.items_digest) == sha256().digest_size:
        return kept.items_digest == _digest_of_old(state, path)
    return kept.items_digest == items_digest(state, path)


def _frame_around(state: RunState, path: StepPath) -> Frame | None:
    """The list in which a step stands; where that came with the outcome of a container, the list of that."""
    run = state.steps[path]
    while run.frame is None and run.parent != ROOT:
        run = state.steps[run.parent]
    return run.frame


def _digest_of(state: RunState, frame: Frame) -> bytes:
    """Of its own item and the digest of the list around it, so that each item is read once.

    The list of one loop may be the item of another one around it: reading all of that for each step takes
    quadratic time. It begins with a version, which tells it from the digests of older journals.
    """
    if frame.items_digest is None:
        if frame.container == ROOT:
            frame.items_digest = b""
            return b""
        run = state.steps[frame.container]
        assert run.frame is not None, "a list is entered in one that was"
        frame.items_digest = _digest_of(state, run.frame)
        if isinstance(run.step.action, ForeachAction):
            item = Json.of(frame.values[run.step.action.name])
            frame.items_digest = _VERSION + sha256(frame.items_digest + item.raw).digest()
    return frame.items_digest


def _digest_of_old(state: RunState, path: StepPath) -> bytes:
    """As it stands in older journals: sha256 of all these items together."""
    items: list[JsonValue] = []
    frame = _frame_around(state, path)
    while frame is not None and frame.container:
        run = state.steps[frame.container]
        if isinstance(run.step.action, ForeachAction):
            items.append(frame.values[run.step.action.name])
        frame = run.frame
    return sha256(Json.of(items).raw).digest()


def _take_over_inside(state: RunState, container: StepRun, event: ev.StepSettled) -> None:
    """The steps of a container that is not entered: as they were, or not done."""
    scopes = branches_of(container.step.action)
    if scopes:
        held = (number for number, scope in enumerate(scopes) if _held(state, scope, container))
        container.branches = tuple(held)
    for name in (name for scope in scopes for name in scope.steps):
        path = StepPath(container.prefix + name)
        run = state.steps[path]
        kept = state.kept.pop(path, None)
        if kept is None:
            run.state, run.skip_reason = StepState.SKIPPED, ev.SkipReason.BRANCH
        else:
            _remember(run, kept)
            run.cost_nanos = kept.cost_nanos  # what is around it has counted it already
            run.state, run.output = kept.state, kept.output
        run.finish_time = event.time
        show(state, path, run)
        if kept is not None:
            _take_over_inside(state, run, event)
            continue
        for inner in branches_of(run.step.action):
            skip_all(state, inner, run.prefix, event.time)


def _held(state: RunState, scope: Scope, container: StepRun) -> bool:
    """Whether a branch was entered in the origin: then every step of it has an outcome."""
    return any(StepPath(container.prefix + name) in state.kept for name in scope.steps)


def _remember(run: StepRun, kept: ev.OutcomeKept) -> None:
    run.kept = kept
    run.failure = kept.failure
    run.skip_reason = kept.skip_reason


def ends_its_list(step: Step, kept: ev.OutcomeKept) -> bool:
    """Whether the list of the step ends early by this outcome, or had ended early."""
    failed = kept.state is StepState.FAILED and step.on_error is OnError.FAIL
    return failed or kept.state is StepState.CANCELED


def _size(kept: ev.OutcomeKept) -> int:
    return len(kept.output.raw) if kept.output is not None else 0
