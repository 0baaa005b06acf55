"""Effect classes: the weakest wins, the unknown is the weakest, and only pure calls go the broad way."""

from __future__ import annotations

from itertools import permutations

import pytest

from reflux.core.effect import EffectClass, Lane, is_weaker, lane_of, weakest

ORDER = [EffectClass.PURE, EffectClass.IDEMPOTENT, EffectClass.COMPENSATABLE, EffectClass.AT_MOST_ONCE]


def test_the_classes_are_ordered_by_how_much_they_allow():
    """Each is weaker than those before it, and not than itself."""
    for number, one in enumerate(ORDER):
        assert [is_weaker(one, other) for other in ORDER] == [other in ORDER[:number] for other in ORDER]


@pytest.mark.parametrize("several", list(permutations(ORDER, 2)))
def test_the_weakest_of_several_holds_for_all(several):
    """Whichever version Envoy picks."""
    assert weakest(several) is max(several, key=ORDER.index)


def test_of_nothing_nothing_is_known():
    """A call that can reach no version is treated as the worst."""
    assert weakest([]) is EffectClass.AT_MOST_ONCE


@pytest.mark.parametrize("effect", ORDER)
def test_only_pure_calls_may_be_tried_again_by_the_mesh(effect):
    """Everything else goes the safe way."""
    assert lane_of(effect) is (Lane.BROAD if effect is EffectClass.PURE else Lane.SAFE)
