"""Whatever the flow and whatever becomes of its attempts: a run ends or waits for a person, and its journal
alone gives the same run again, at any point, in anybody's hands.

The flows and answers are random (`tests/support/random_flow.py`); every attempt that starts is checked there.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.core.errors import RefluxError
from reflux.core.event import FINAL
from reflux.core.run import fold
from reflux.core.word import Resume, WordId, hear
from reflux.orchestrator import codec
from tests.support.random_flow import INPUT, RandomWalk, random_effects, random_flow, random_word
from tests.support.walk import RUN

if TYPE_CHECKING:
    from reflux.core.state import RunState

bounded = settings(max_examples=400, deadline=None, derandomize=True)
seeds = st.integers(0, (1 << 63) - 1)
moments = st.floats(0, 8)


def walk_of(seed: int) -> RandomWalk:
    """The world of a seed, the same for ever: a failing seed is all there is to keep."""
    rng = Random(seed)
    flow = random_flow(rng)
    return RandomWalk(flow, input=INPUT, effects=random_effects(rng, flow), jitter=0.5, seed=seed)


def known(state: RunState) -> dict[str, object]:
    """What a state says to people and to expressions."""
    steps = {
        path: (run.state, run.output, run.failure, run.skip_reason, run.branches, run.finished, run.claims)
        for path, run in state.steps.items()
    }
    return {"phase": state.phase, "finished": state.finished, "values": state.values, "steps": steps}


@bounded
@given(seeds)
def test_every_run_ends_or_waits_for_a_person(seed):
    """Nothing waits for nothing: a run without end, timer or attempt in flight is PARKED."""
    walk_of(seed).run().check_end()


@bounded
@given(seeds, moments)
def test_a_cancelled_run_always_ends(seed, moment):
    """Whatever is in flight or PARKED: once that is known, the run is CANCELED, unless it ended before."""
    walk = walk_of(seed).run(moment)
    if not walk.state.finished:
        walk.cancel().run()
    walk.check_end()
    assert walk.state.phase in FINAL
    parked = tuple(path for path, run in walk.state.steps.items() if run.state == "PARKED")
    assert sorted(walk.finished.unresolved_effects) == sorted(parked)


@bounded
@given(seeds, st.none() | moments)
def test_the_journal_alone_gives_the_same_run(seed, moment):
    """Folding what was stored, without the starts of pure attempts, equals what memory held."""
    walk = walk_of(seed)
    if moment is not None:
        walk.run(moment)
        if not walk.state.finished:
            walk.cancel()
    walk.run()
    stored = [codec.decode(codec.encode(event)) for event in walk.journal]
    assert known(fold(RUN, walk.flow, stored)) == known(walk.state)


@bounded
@given(seeds, st.lists(moments, min_size=1, max_size=8))
def test_whatever_is_said_to_a_run_it_ends_and_its_journal_says_the_same(seed, when):
    """Words at any moment, sensible or not: each is recorded whole or refused, and heard again is nothing."""
    walk, rng = walk_of(seed), Random(f"words {seed}")
    for number, moment in enumerate(sorted(when)):
        walk.run(moment)
        word = random_word(rng, number, walk.state)
        before = len(walk.journal)
        try:
            walk.say(word)
        except RefluxError:
            assert len(walk.journal) == before
        else:
            assert hear(walk.state, word, walk.now) == ()
    if walk.state.paused and not walk.state.finished:
        walk.say(Resume(WordId("last"), "me", ""))
    walk.run().check_end()
    stored = [codec.decode(codec.encode(event)) for event in walk.journal]
    assert known(fold(RUN, walk.flow, stored)) == known(walk.state)


@bounded
@given(seeds, st.floats(0, 1), st.sampled_from([0.0, 0.3, 90.0]))
def test_a_run_taken_over_at_any_point_ends_and_repeats_no_outcome(seed, where, outage):
    """A step with a recorded outcome never starts again, and the heir's journal folds to what it holds."""
    walk = walk_of(seed).run()
    heir = walk.crashed(1 + int(where * (len(walk.journal) - 1)), after=outage)
    heir.seed = seed
    heir.run().check_end()
    assert known(heir.replayed()) == known(heir.state)
