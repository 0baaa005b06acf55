"""What a new route does for versions: who comes to take calls, who takes more, and who need not be asked
about.
"""

from __future__ import annotations

import pytest

from reflux.controlplane.contracts import change
from reflux.controlplane.routes import Route, Target

OLD = Route("demo.chat", 1, (Target("1", 9_000, ("3",)), Target("2", 1_000), Target("4", 0, ("5",))))


def moved(*targets):
    """Who enters and who grows."""
    found = change(Route("demo.chat", 2, targets), OLD)
    return found.entering, found.growing


@pytest.mark.parametrize(
    ("targets", "entering", "growing"),
    [
        ((Target("1", 9_000, ("3",)), Target("2", 1_000)), (), ()),
        ((Target("1", 10_000, ("3",)), Target("2", 0)), (), ("1",)),
        ((Target("1", 8_000), Target("2", 2_000)), (), ("2",)),
        ((Target("1", 8_000), Target("2", 1_000), Target("6", 1_000)), ("6",), ()),
        ((Target("1", 9_000), Target("2", 1_000, ("6",))), ("6",), ()),
        ((Target("1", 9_000), Target("2", 500), Target("3", 500)), ("3",), ()),
        ((Target("1", 9_000), Target("2", 500), Target("4", 500, ("5",))), ("4", "5"), ()),
        ((Target("1", 9_000), Target("2", 1_000), Target("6", 0, shadow=500)), (), ()),
        ((Target("1", 9_000), Target("2", 1_000), Target("6", 0, ("7",))), (), ()),
    ],
    ids=[
        "the same",
        "a grown share",
        "a larger canary",
        "a new share",
        "a new fallback",
        "a share for a fallback",
        "a share for a pinned one, and its chain",
        "a shadow answers nobody",
        "a target without a share, and its chain, are reached by a pin only",
    ],
)
def test_who_comes_to_take_calls_and_who_takes_more(targets, entering, growing):
    """Only they are asked about; less is always allowed."""
    assert moved(*targets) == (entering, growing)


def test_they_are_compared_with_whom_calls_meet_now():
    """Targets with a share, and their chains."""
    assert change(OLD, OLD).serving == ("1", "3", "2")
