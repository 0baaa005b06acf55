"""An attempt that never left us costs the step nothing but patience."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from reflux.core.attempt import NOT_SENT_DELAY, NOT_SENT_PATIENCE
from reflux.core.effect import EffectClass
from tests.support.walk import Answer, Walk, ambiguous, done, failed, flow_of, node, not_sent

if TYPE_CHECKING:
    from reflux.core.command import StartAttempt


def test_it_is_sent_again_though_the_step_has_no_retry():
    """With growing pauses, under the same key, and without using up an attempt."""
    flow = flow_of(node("a"))
    walk = Walk(flow, {"a": [not_sent(), not_sent(), not_sent(), done()]}).run()
    assert walk.timed == [
        (0, "start a 1"),
        (0, "a NOT_SENT RETRYING +0.2s"),
        (0.2, "start a 2"),
        (0.2, "a NOT_SENT RETRYING +0.4s"),
        (0.6, "start a 3"),
        (0.6, "a NOT_SENT RETRYING +0.8s"),
        (1.4, "start a 4"),
        (1.4, "a DONE SUCCEEDED"),
        (1.4, "run SUCCEEDED"),
    ]
    assert walk.state.steps["a"].used == 1


def test_the_retries_of_the_step_are_left_to_it():
    """Two attempts of two, with a silent mesh in between."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "1s", "jitter": "none"}))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), not_sent(), failed("UNAVAILABLE")]}).run()
    assert walk.trace == [
        "start a 1",
        "a NO_EFFECT RETRYING +1s",
        "start a 2 generation 1",
        "a NOT_SENT RETRYING +0.2s",
        "start a 3 generation 1",
        "a NO_EFFECT FAILED",
        "run FAILED",
    ]


def silent(_: StartAttempt) -> Answer:
    """A mesh that takes no call, ever."""
    return not_sent()


def test_patience_ends():
    """The step fails with what it last heard, no later than promised, and without hammering."""
    walk = Walk(flow_of(node("a")), silent).run()
    assert walk.trace[-2:] == ["a NOT_SENT FAILED", "run FAILED"]
    assert walk.finished.failure.reason == "MESH_UNREACHABLE"
    waited = walk.now - walk.journal[0].time
    longest = NOT_SENT_DELAY * 16
    assert NOT_SENT_PATIENCE - longest <= waited <= NOT_SENT_PATIENCE
    assert len(walk.started) < 30


def test_patience_begins_when_the_mesh_falls_silent():
    """Not when the step began: hours of retries do not use it up."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "2h", "jitter": "none"}))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), not_sent(), done()]}).run()
    assert walk.trace[-2:] == ["a DONE SUCCEEDED", "run SUCCEEDED"]


def test_a_total_timeout_takes_the_place_of_patience():
    """Shorter or longer: the author has said how long the step may take."""
    short = Walk(flow_of(node("a", timeout={"total": "1s"})), silent).run()
    assert short.trace[-2:] == ["a NOT_SENT FAILED", "run FAILED"]
    assert short.now - short.journal[0].time < timedelta(seconds=1)
    long = Walk(flow_of(node("a", timeout={"total": "10m"})), silent).run()
    assert long.now - long.journal[0].time > timedelta(minutes=9)


@pytest.mark.parametrize("effect", [EffectClass.IDEMPOTENT, EffectClass.AT_MOST_ONCE])
def test_no_answer_and_no_claim_is_not_sent(effect):
    """Nobody acted, and nobody can any more; the step's own retry decides, under the same key."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "1s", "jitter": "none"}))
    walk = Walk(flow, {"a": [ambiguous(), done()]}, effects={"a": effect}).run()
    assert walk.trace == [
        "start a 1",
        "a NOT_SENT RETRYING +1s",
        "start a 2",
        "a DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_no_answer_to_a_pure_call_is_no_effect():
    """There was none to have."""
    walk = Walk(flow_of(node("a")), {"a": [ambiguous()]}).run()
    assert walk.trace == ["start a 1", "a NO_EFFECT FAILED", "run FAILED"]
