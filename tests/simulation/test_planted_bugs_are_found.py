"""The simulator finds the bugs that engines of this kind had: each is planted, and some seed must see it.

Which class is seen elsewhere, and where, stands in `mutants.ELSEWHERE`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.mutants import ELSEWHERE, FIRST, MUTANTS
from tests.simulation.simulation import simulate

WORLDS = 40
"""In which a mutant must show itself, from its first seed on."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name):
    """Within a bounded number of worlds at least one promise is broken."""
    mutant, first = MUTANTS[name], FIRST.get(name, 0)
    with mutant.planted():
        for seed in range(first, first + WORLDS):
            if simulate(seed).problems:
                return
    pytest.fail(f"{name} ({mutant.about}) lives through {WORLDS} worlds")


@pytest.mark.parametrize("name", MUTANTS)
def test_the_seed_that_finds_it_is_good_without_it(name):
    """It is the bug that is found, not something else in that world."""
    assert simulate(FIRST.get(name, 0)).problems == []


def test_what_is_not_seen_here_is_seen_elsewhere():
    """The tests that guard the other classes are there."""
    tests = Path(__file__).parents[1]
    assert [name for name in ELSEWHERE.values() if not (tests / name).is_file()] == []
