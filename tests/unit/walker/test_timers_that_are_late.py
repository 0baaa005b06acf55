"""Whoever finds late what is due, after a pause or an outage, takes it in the order of its times."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from reflux.core.names import StepPath
from reflux.core.times import Due, Times
from reflux.core.word import Pause, Resume, WordId
from tests.support.walk import START, Walk, failed, flow_of, node

if TYPE_CHECKING:
    from reflux.core.document import JsonValue

RACE = {
    "id": "race",
    "parallel": {
        "branches": {
            "slow": [{"id": "w4", "wait": {"for": "4s"}}, {"id": "a", "set": {"by": "slow"}}],
            "fast": [{"id": "w1", "wait": {"for": "1s"}}, {"id": "b", "set": {"by": "fast"}}],
        },
        "join": "any",
    },
}
WAIT = {"id": "w", "wait": {"for": "1m"}}


def paused(walk: Walk) -> Walk:
    """Until ten minutes later."""
    walk.say(Pause(WordId("p"), "me", ""))
    walk.now += timedelta(minutes=10)
    return walk.say(Resume(WordId("r"), "me", ""))


def taken_over(walk: Walk) -> Walk:
    """Ten minutes later."""
    return walk.crashed(after=600)


@pytest.mark.parametrize("late", [paused, taken_over])
def test_the_earliest_is_first_whoever_began_first(late):
    """And all that follows from it at once comes before the next one: so the race ends as it would have."""
    walk = late(Walk(flow_of(RACE)).run(until=0.5)).run()
    assert walk.output("race") == {"slow": None, "fast": {"by": "fast"}}
    assert walk.states("w1", "b", "w4", "a") == {
        "w1": "SUCCEEDED",
        "b": "SUCCEEDED",
        "w4": "CANCELED",
        "a": "CANCELED",
    }


@pytest.mark.parametrize("late", [paused, taken_over])
@pytest.mark.parametrize("limit", ["1m", "3m"])
def test_a_wait_that_was_over_in_time_is_no_timeout(late, limit):
    """Neither of the run nor of a container, whoever finds it late; at the same moment it was in time."""
    inside = {"id": "p", "timeout": {"total": limit}, "parallel": {"branches": {"l": [WAIT]}}}
    for flow in (flow_of(WAIT, policies={"timeout": limit}), flow_of(inside)):
        walk = late(Walk(flow).run(until=0.5)).run()
        assert walk.states("w") == {"w": "SUCCEEDED"}
        assert walk.trace[-1] == "run SUCCEEDED"


@pytest.mark.parametrize("late", [paused, taken_over])
def test_a_wait_that_would_have_been_longer_is_a_timeout(late):
    """Its own time has come as well, but later."""
    walk = late(Walk(flow_of(WAIT, policies={"timeout": "59s"})).run(until=0.5)).run()
    assert walk.trace[-2:] == ["timeout", "run FAILED"]
    assert walk.states("w") == {"w": "CANCELED"}


@pytest.mark.parametrize("late", [paused, taken_over])
def test_nothing_begins_once_its_time_is_over(late):
    """No step behind the wait, and no attempt whose time had come before."""
    flow = flow_of(WAIT, node("z"), policies={"timeout": "3m"})
    walk = late(Walk(flow).run(until=0.5)).run()
    assert (walk.trace[-2:], walk.states("w", "z")) == (
        ["timeout", "run FAILED"],
        {"w": "SUCCEEDED", "z": "CANCELED"},
    )

    retried = node("a", retry={"attempts": 2, "delay": "1m", "on": ["UNAVAILABLE"]})
    flow = flow_of(retried, policies={"timeout": "3m"})
    walk = late(Walk(flow, {"a": [failed("UNAVAILABLE")]}).run(until=0.5)).run()
    assert walk.trace[-2:] == ["timeout", "run FAILED"]


def test_a_retry_and_a_timer_stand_in_one_order():
    """The earlier of the two is first, whichever it is."""
    retried = node("a", needs=[], retry={"attempts": 2, "delay": "30s", "on": ["UNAVAILABLE"]})
    for length, order in (
        ("10s", ["w SUCCEEDED", "start a 2 generation 1"]),
        ("40s", ["start a 2 generation 1", "w SUCCEEDED"]),
    ):
        flow = flow_of(retried, {"id": "w", "wait": {"for": length}, "needs": []})
        answers = {"a": [failed("UNAVAILABLE"), failed("UNAVAILABLE", after=5)]}
        walk = paused(Walk(flow, answers).run(until=0.5))
        assert [line for line in walk.trace if line in order] == order


def test_many_timers_are_taken_in_order():
    """Of equal times the one that was set first."""
    loop = {
        "id": "l",
        "foreach": {"in": "{{ input.n }}", "as": "n", "parallel": 100},
        "steps": [{"id": "w", "wait": {"for": "{{ n }}"}}],
    }
    lengths: list[JsonValue] = [1 + (n * 7919) % 50 for n in range(100)]
    walk = Walk(flow_of(loop), input={"n": lengths}).run(until=0.5)
    times = dict(walk.state.timers)
    walk = paused(walk)
    ended = [line.removesuffix(" SUCCEEDED") for line in walk.trace if line.endswith("/w SUCCEEDED")]
    assert ended == sorted(times, key=times.__getitem__)


def test_times_know_their_first():
    """Whatever was set, moved, taken away or left out before; of equal ones the one that was set first."""
    rng = Random(7)
    times, known = Times(), dict[StepPath, datetime]()
    for _ in range(20_000):
        path = StepPath(f"s{rng.randrange(50)}")
        if rng.random() < 0.4:
            times.pop(path, None)
            known.pop(path, None)
        else:
            times[path] = known[path] = START + timedelta(seconds=rng.randrange(30))
        but = {StepPath(f"s{rng.randrange(50)}") for _ in range(rng.randrange(3))}
        first = times.first(but=but)
        assert (first and first.at) == min(
            (at for name, at in known.items() if name not in but), default=None
        )
        assert first is None or (known[first.path] == first.at and first.path not in but)
        assert times == known
    assert len(times._heap) <= 2 * 50 + 64
    times.clear()
    for name in ("z", "a"):
        times[StepPath(name)] = START
    assert times.first() == Due(START, StepPath("z"))
