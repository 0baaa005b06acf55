"""Whatever the flow: a run that goes on from another one repeats nothing that it keeps, and then ends."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.core import event as ev
from reflux.core.errors import Refused
from reflux.core.event import SETTLED, RunPhase
from reflux.core.flow.model import ParallelAction
from reflux.core.fork import ForkPlan, plan_fork, plan_retry
from reflux.core.names import StepPath
from reflux.core.run import evolve, fold
from reflux.orchestrator import codec
from tests.support.random_flow import INPUT, RandomWalk, random_effects, random_flow
from tests.support.walk import RUN

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.flow import Flow

bounded = settings(max_examples=300, deadline=None, derandomize=True)
seeds = st.integers(0, (1 << 63) - 1)


def walk_of(seed: int, world: int | None = None) -> RandomWalk:
    """The run of a seed, in its own world or in another one."""
    rng = Random(seed)
    flow = random_flow(rng)
    effects = random_effects(rng, flow)
    return RandomWalk(flow, input=INPUT, effects=effects, jitter=0.5, seed=seed if world is None else world)


def planned(plan: Callable[[], ForkPlan], allowed: str) -> ForkPlan | None:
    """The plan; None when it is refused for a reason that may be."""
    try:
        return plan()
    except Refused as refused:
        reason = refused.reason
    assert reason in ("STEP_UNRESOLVED", "STEP_MOVED", allowed)
    return None


def going_on(seed: int, world: int, plan: ForkPlan) -> RandomWalk:
    """The new run, walked to its end; what it did is checked."""
    walk = walk_of(seed, world)
    for kept in plan.kept:
        evolve(walk.state, kept)
        walk.journal.append(kept)
    walk.run()
    walk.check_end()
    called = {command.step for command in walk.started}
    for kept in plan.kept:
        run = walk.state.steps.get(kept.step)
        if run is None or (run.kept is None and run.state in SETTLED):
            continue  # the way there was not taken again
        assert kept.step not in called, f"{kept.step} was kept, and called"
        if run.kept is not None:
            assert (run.state, run.output, run.failure) == (kept.state, kept.output, kept.failure)
    stored = [codec.decode(codec.encode(event)) for event in walk.journal]
    again = fold(RUN, walk.flow, stored)
    assert {path: run.state for path, run in again.steps.items()} == {
        path: run.state for path, run in walk.state.steps.items()
    }
    return walk


@bounded
@given(seeds, st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_fork_repeats_nothing_that_it_keeps(seed, where, same_world):
    """From any step that ran, in a world that answers as before or in another one."""
    origin = walk_of(seed).run()
    ran = [step for step in origin.states() if origin.state.steps[StepPath(step)].start_time is not None]
    if not ran:
        return
    point = StepPath(ran[int(where * len(ran))])
    plan = planned(lambda: plan_fork(origin.state, origin.flow, point), "STEP_UNSETTLED")
    if plan is None:
        return
    known = {kept.step for kept in plan.kept} | {one.step for one in plan.anew}
    assert len(known) == len(plan.kept) + len(plan.anew), "a step is in the plan twice"
    assert not after(origin, point) & {kept.step for kept in plan.kept}
    fork = going_on(seed, seed if same_world else seed + 1, plan)
    if same_world and _is_timeless(origin.flow) and origin.state.phase is RunPhase.SUCCEEDED:
        assert fork.finished.state == "SUCCEEDED"
        assert fork.finished.output == origin.finished.output


@bounded
@given(seeds, st.floats(0, 1, exclude_max=True))
def test_a_fork_of_a_fork_keeps_what_the_fork_did(seed, where):
    """From the same step, wherever that stands; what is not kept is in the plan, also what acts again."""
    origin = walk_of(seed).run()
    ran = [step for step in origin.states() if origin.state.steps[StepPath(step)].start_time is not None]
    if not ran:
        return
    point = StepPath(ran[int(where * len(ran))])
    first = planned(lambda: plan_fork(origin.state, origin.flow, point), "STEP_UNSETTLED")
    if first is None:
        return
    fork = going_on(seed, seed, first)
    if fork.state.steps.get(point) is None or fork.state.steps[point].start_time is None:
        return
    second = planned(lambda: plan_fork(fork.state, fork.flow, point), "STEP_UNSETTLED")
    if second is None:
        return
    kept, anew = {each.step: each for each in second.kept}, {each.step: each for each in second.anew}
    for each in first.kept:
        run = fork.state.steps.get(each.step)
        inside = kept.keys() & _around(fork, each.step) if run is not None else set()
        if inside and each.step not in kept:
            continue  # the iteration of a loop that is kept whole by now
        if run is not None and run.kept is not None and each.step not in anew:
            assert (kept[each.step].state, kept[each.step].output) == (each.state, each.output)
    again = going_on(seed, seed, second)
    for step in {command.step for command in again.started}:
        before = fork.state.steps.get(step)
        assert before is None or before.state != "SUCCEEDED" or before.undoes is not None or step in anew


@bounded
@given(seeds, st.none() | st.floats(0, 4))
def test_a_retry_repeats_nothing_that_had_succeeded(seed, cancel):
    """Of a run that failed or was cancelled at some moment."""
    origin = walk_of(seed).run(*(() if cancel is None else (cancel,)))
    if cancel is not None and not origin.state.finished:
        origin.cancel().run()
    plan = planned(lambda: plan_retry(origin.state, origin.flow), "RUN_NOT_FAILED")
    if plan is None:
        return
    going_on(seed, seed + 1, plan)
    done = {
        path
        for path, run in origin.state.steps.items()
        if any(each.outcome is ev.Outcome.DONE for each in run.finished)
        and run.state == "SUCCEEDED"
        and run.undoes is None
    }
    repeated = done - {kept.step for kept in plan.kept}
    for path in repeated:
        assert any(one.step == path and one.why in ("after", "from", "undone") for one in plan.anew) or any(
            kept.step in _around(origin, path) for kept in plan.kept
        ), f"{path} had succeeded, and would be done again without a reason"


def after(walk: RandomWalk, point: StepPath) -> set[StepPath]:
    """A step and all that waits for it, or for a container around it, worked out the slow way."""
    steps, found = walk.state.steps, {point}
    around = _around(walk, point)
    while True:
        more = {
            path
            for path, run in steps.items()
            if run.parent in found
            or {StepPath(run.prefix + each) for each in run.step.after} & (found | around)
        }
        if more <= found:
            return found
        found |= more


def _around(walk: RandomWalk, path: StepPath) -> set[StepPath]:
    return set(walk.state.around(path))


def _is_timeless(flow: Flow) -> bool:
    """Whether it does not matter how long anything takes: no timeouts, no races."""
    return flow.timeout is None and all(
        step.timeout.total is None
        and not (isinstance(step.action, ParallelAction) and step.action.needed < len(step.action.branches))
        for step in flow.steps.values()
    )
