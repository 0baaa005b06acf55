"""Whatever the flow and whatever was said to its runs: an effect that is done again was in a plan before."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.core.cut import around
from reflux.core.effect import EffectClass
from reflux.core.errors import RefluxError, Refused
from reflux.core.event import Choice, Outcome, RunPhase
from reflux.core.fork import ForkPlan, plan_fork, plan_retry
from reflux.core.kept import items_digest
from reflux.core.run import evolve
from reflux.core.word import Overrule, Resume, WordId
from tests.support.random_flow import INPUT, RandomWalk, random_effects, random_flow, random_word

if TYPE_CHECKING:
    from reflux.core.names import StepPath
    from reflux.core.state import StepRun

CHAIN = 4
"""Runs, of which each goes on from the one before."""
WITHOUT = ("flow", "wait", "signal", "approve", "result")
"""Kinds of steps that have no effect of their own in a run, which would make those that have one rarer."""
bounded = settings(max_examples=300, deadline=None, derandomize=True)
seeds = st.integers(0, (1 << 63) - 1)
moments = st.lists(st.floats(0, 6), max_size=4)


def begun(seed: int, world: int, plan: ForkPlan | None) -> RandomWalk:
    """A run of the flow of a seed, before its first step."""
    rng = Random(seed)
    flow = random_flow(rng, without=WITHOUT)
    walk = RandomWalk(flow, input=INPUT, effects=random_effects(rng, flow), jitter=0.5, seed=seed + world)
    for kept in plan.kept if plan is not None else ():
        evolve(walk.state, kept)
        walk.journal.append(kept)
    return walk


def lived(walk: RandomWalk, rng: Random, when: list[float]) -> RandomWalk:
    """The run at its end, after all that was said to it; a person decides what becomes of PARKED steps."""
    for number, moment in enumerate(sorted(when)):
        walk.run(moment)
        try:
            walk.say(random_word(rng, number, walk.state))
        except RefluxError:
            continue
    if walk.state.paused and not walk.state.finished:
        walk.say(Resume(WordId("last"), "me", ""))
    while walk.run().state.phase is RunPhase.PARKED:
        choice = rng.choice([None, Choice.SKIP, Choice.SKIP, Choice.FAIL])
        if choice is None:
            return walk.cancel().run()
        path = next(iter(walk.state.parked))
        walk.say(Overrule(WordId(f"parked {path}"), "me", path, choice, ""))
    return walk


def gone_on(walk: RandomWalk, rng: Random) -> ForkPlan | None:
    """The plan of a retry, where there is something to retry, or of a fork; None where it is refused."""
    ran = [path for path, run in walk.state.steps.items() if run.start_time is not None and not run.undoes]
    try:
        if walk.state.phase in (RunPhase.FAILED, RunPhase.CANCELED) and rng.random() < 0.7:
            return plan_retry(walk.state, walk.flow)
        return plan_fork(walk.state, walk.flow, rng.choice(ran)) if ran else None
    except Refused:
        return None


def acted(run: StepRun) -> bool:
    """Whether a step may have had an outside effect in its run."""
    return bool(run.claims) or any(
        each.assignment.effect is not EffectClass.PURE and each.outcome in (Outcome.DONE, Outcome.AMBIGUOUS)
        for each in run.finished
    )


@bounded
@given(seeds, st.lists(moments, min_size=CHAIN, max_size=CHAIN))
def test_what_is_done_again_was_said(seed, when):
    """For the same items, and over any number of runs; what was undone is not there to be repeated."""
    rng = Random(f"chain {seed}")
    done: set[tuple[StepPath, bytes]] = set()
    plan: ForkPlan | None = None
    for world in range(CHAIN):
        walk = lived(begun(seed, world, plan), rng, when[world])
        repeated = {each.step for each in plan.anew if each.acted} if plan is not None else set()
        done = {each for each in done if repeated.isdisjoint(around(walk.flow, each[0]))}
        runs = {path: run for path, run in walk.state.steps.items() if run.undoes is None and acted(run)}
        now = {(path, items_digest(walk.state, path)) for path in runs}
        assert not now & done, "it has acted again, and no plan has said so"
        undone = {run.undoes for run in walk.state.steps.values() if run.state == "SUCCEEDED"}
        done = {each for each in done | now if each[0] not in undone}
        if (plan := gone_on(walk, rng)) is None:
            return
