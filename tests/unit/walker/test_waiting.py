"""`wait`: a step whose whole work is to let time pass."""

from __future__ import annotations

import pytest

from reflux.core.event import RunPhase, StepState
from reflux.core.reasons import Reason
from tests.support.walk import Walk, flow_of, node


def test_it_waits_for_a_length_of_time():
    """Not less; what comes after starts then."""
    walk = Walk(flow_of({"id": "w", "wait": {"for": "10m"}}, node("z"))).run()
    assert walk.timed == [
        (0, "enter w []"),
        (600, "w SUCCEEDED"),
        (600, "start z 1"),
        (600, "z DONE SUCCEEDED"),
        (600, "run SUCCEEDED"),
    ]


@pytest.mark.parametrize("given", ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00+01:00", "{{ input.at }}"])
def test_it_waits_until_a_point_in_time(given):
    """With its zone, constant or worked out."""
    walk = Walk(flow_of({"id": "w", "wait": {"until": given}}), input={"at": "2026-01-01T01:00:00Z"}).run()
    assert walk.timed[1] == (3600, "w SUCCEEDED")


def test_a_time_that_has_passed_is_not_waited_for():
    """It is over at once."""
    walk = Walk(flow_of({"id": "w", "wait": {"until": "2020-01-01T00:00:00Z"}})).run()
    assert walk.timed[-1] == (0, "run SUCCEEDED")


@pytest.mark.parametrize(
    ("key", "value"), [("for", "soon"), ("for", -1), ("until", "tomorrow"), ("until", "2026-01-01T00:00:00")]
)
def test_what_is_no_time_fails_the_step(key, value):
    """The message shows the value."""
    walk = Walk(flow_of({"id": "w", "wait": {key: "{{ input.n }}"}}), input={"n": value}).run()
    assert walk.finished.failure is not None
    assert walk.finished.failure.reason is Reason.EXPRESSION_FAILED


def test_a_run_in_other_hands_waits_no_longer():
    """The time was recorded when the wait began."""
    walk = Walk(flow_of({"id": "w", "wait": {"for": "10m"}})).run(until=60)
    heir = walk.crashed(after=30).run()
    assert heir.timed[-1] == (600, "run SUCCEEDED")


def test_a_cancel_ends_it_at_once():
    """There is nothing to wait for."""
    walk = Walk(flow_of({"id": "w", "wait": {"for": "10m"}})).run(until=60).cancel()
    assert walk.finished.state is RunPhase.CANCELED
    assert walk.states() == {"w": StepState.CANCELED}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("until", "9999-12-31T23:59:59-12:00"),
        ("until", "0001-01-01T00:00:00+12:00"),
        ("for", 1e10),
        ("for", "800d"),
    ],
)
def test_a_time_out_of_reach_fails_the_step_and_ends_nothing_early(key, value):
    """No wait is longer than a year and a day; a longer one is refused, never shortened."""
    walk = Walk(flow_of({"id": "w", "wait": {key: "{{ input.n }}"}}), input={"n": value}).run()
    assert walk.finished.failure is not None
    assert walk.finished.failure.reason is Reason.EXPRESSION_FAILED
    assert walk.timed[-1][0] == 0
    assert walk.trace[0] == "w FAILED EXPRESSION_FAILED"
