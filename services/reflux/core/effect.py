"""Effect classes: what a call does to the outside world, and so how often it may be asked for.

The classes are ordered by how much they allow. When a call can reach several versions the weakest class
wins, because Envoy may choose any of them; an unknown class is `AT_MOST_ONCE`.
"""

from collections.abc import Iterable
from enum import StrEnum


class EffectClass(StrEnum):
    """What a call does to the outside world, the class that allows most first."""

    PURE = "pure"
    IDEMPOTENT = "idempotent"
    COMPENSATABLE = "compensatable"
    AT_MOST_ONCE = "at_most_once"


class Lane(StrEnum):
    """Which of a node's two mesh routes a call takes."""

    BROAD = "broad"
    SAFE = "safe"


_ALLOWS_MOST_FIRST = tuple(EffectClass)


def weakest(classes: Iterable[EffectClass]) -> EffectClass:
    """The class that holds for every one of `classes`; `AT_MOST_ONCE` when there are none."""
    return max(classes, key=_ALLOWS_MOST_FIRST.index, default=EffectClass.AT_MOST_ONCE)


def is_weaker(one: EffectClass, other: EffectClass) -> bool:
    """Whether `one` allows less than `other`."""
    return _ALLOWS_MOST_FIRST.index(one) > _ALLOWS_MOST_FIRST.index(other)


def lane_of(effect: EffectClass) -> Lane:
    """Only pure calls may be tried again by Envoy after they may have been processed."""
    return Lane.BROAD if effect is EffectClass.PURE else Lane.SAFE
