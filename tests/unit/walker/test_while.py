"""`while`: the body again and again while the condition holds, at most `max` times."""

from __future__ import annotations

from typing import Any

import pytest

from reflux.core.event import RunPhase
from reflux.core.flow.roots import STEP_FIELDS
from reflux.core.reasons import Reason
from tests.support.walk import Walk, done, failed, flow_of, node


def loop(when: str, *steps: dict[str, Any], most: int = 5, **keys: Any) -> dict[str, Any]:
    """A while."""
    return {"id": "w", "while": {"when": when, "max": most, "steps": list(steps)}, **keys}


POLL = "{{ (steps.poll.?output.?status ?? 'pending') == 'pending' }}"


def test_it_goes_on_until_the_condition_is_false():
    """The condition sees the steps of the iteration before; the first time they have not run."""
    walk = Walk(flow_of(loop(POLL, node("poll"), result="{{ [index, steps.poll.?output.?status] }}")))
    walk.answers = {"w[0]/poll": [done({"status": "pending"})], "w[1]/poll": [done({"status": "ready"})]}
    assert walk.run().trace == [
        "enter w []",
        "start w[0]/poll 1",
        "w[0]/poll DONE SUCCEEDED",
        "enter w []",
        "start w[1]/poll 1",
        "w[1]/poll DONE SUCCEEDED",
        "w SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("w") == [1, "ready"]


@pytest.mark.parametrize("field", [field for field in STEP_FIELDS if field != "output"])
def test_the_first_time_all_that_is_always_there_can_be_read(field):
    """Nothing has run: no attempts, and nulls."""
    when = f"{{{{ steps.a.{field} in [null, 0, 'PENDING'] }}}}"
    walk = Walk(flow_of(loop(when, node("a")))).run(until=0)
    assert [command.step for command in walk.started[:1]] == ["w[0]/a"]


def test_a_condition_that_never_holds_does_nothing():
    """The output is null."""
    walk = Walk(flow_of(loop("{{ false }}", node("a")))).run()
    assert walk.trace == ["w SUCCEEDED", "run SUCCEEDED"]
    assert walk.output("w") is None


def test_without_result_it_gives_what_the_last_step_gave():
    """Of the last iteration."""
    walk = Walk(flow_of(loop("{{ index < 2 }}", node("a"))))
    walk.answers = {"w[0]/a": [done({"n": 1})], "w[1]/a": [done({"n": 2})]}
    assert walk.run().output("w") == {"n": 2}


def test_a_condition_that_still_holds_after_max_fails_the_step():
    """What was waited for did not come: that is an error, and says so."""
    walk = Walk(flow_of(loop("{{ true }}", node("a"), most=2))).run()
    assert len(walk.started) == 2
    failure = walk.finished.failure
    assert failure is not None
    assert failure.reason is Reason.LOOP_LIMIT
    assert "still holds after 2 iterations" in failure.message


def test_a_failure_inside_ends_it():
    """No further iteration begins."""
    walk = Walk(flow_of(loop("{{ true }}", node("a"), node("b"))), {"w[0]/a": [failed()]}).run()
    assert walk.trace == [
        "enter w []",
        "start w[0]/a 1",
        "w[0]/a NO_EFFECT FAILED",
        "w FAILED NODE_FAULT",
        "run FAILED",
    ]


def test_a_pause_in_the_body_makes_it_poll():
    """A wait inside is a timer like any other."""
    pause = {"id": "nap", "wait": {"for": "10s"}}
    walk = Walk(flow_of(loop("{{ index < 3 }}", node("a"), pause))).run()
    assert [at for at, line in walk.timed if line.startswith("start")] == [0, 10, 20]
    assert walk.now.second == 30


def test_its_total_time_ends_it():
    """In the middle of an iteration, or between two."""
    keys = {"timeout": {"total": "15s"}}
    walk = Walk(flow_of(loop("{{ true }}", {"id": "nap", "wait": {"for": "10s"}}, **keys))).run()
    assert walk.finished.state is RunPhase.FAILED
    assert walk.timed[-1][0] == 15


def test_it_may_return():
    """A return ends the run from inside the loop."""
    body = [node("a"), {"id": "r", "when": "{{ index == 1 }}", "return": {"at": "{{ index }}"}}]
    walk = Walk(flow_of(loop("{{ true }}", *body))).run()
    assert walk.finished.state is RunPhase.SUCCEEDED
    assert walk.finished.output is not None
    assert walk.finished.output.value == {"at": 1}
