"""The step's own `retry`: which codes, how often, after which delays, and until when."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.walk import Walk, done, failed, flow_of, node


def walk_of(answers: list, **keys) -> Walk:
    return Walk(flow_of(node("a", **keys)), {"a": answers}).run()


def test_without_retry_there_is_one_attempt():
    """Even for codes that are worth another one."""
    walk = walk_of([failed("UNAVAILABLE")])
    assert walk.trace == ["start a 1", "a NO_EFFECT FAILED", "run FAILED"]


def test_attempts_count_the_first_one():
    """`attempts: 3` is three in all; the failure of the last one is the step's."""
    walk = walk_of(
        [failed("UNAVAILABLE"), failed("ABORTED"), failed("RESOURCE_EXHAUSTED")],
        retry={"attempts": 3, "jitter": "none"},
    )
    assert walk.timed == [
        (0, "start a 1"),
        (0, "a NO_EFFECT RETRYING +1s"),
        (1, "start a 2 generation 1"),
        (1, "a NO_EFFECT RETRYING +2s"),
        (3, "start a 3 generation 2"),
        (3, "a NO_EFFECT FAILED"),
        (3, "run FAILED"),
    ]
    assert walk.finished.failure.code == "RESOURCE_EXHAUSTED"


def test_a_retry_that_succeeds_is_a_success():
    """Nothing of the failure is left but the number of attempts."""
    flow = flow_of(
        node("a", retry={"attempts": 2, "delay": "10s"}),
        {"id": "b", "set": {"attempts": "{{ steps.a.attempts }}", "error": "{{ steps.a.error }}"}},
    )
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), done()]}).run()
    assert walk.output("b") == {"attempts": 2, "error": None}


def test_only_the_named_codes_are_worth_another_attempt():
    """`on` replaces the default list."""
    walk = walk_of([failed("NOT_FOUND"), failed("UNAVAILABLE")], retry={"attempts": 5, "on": ["NOT_FOUND"]})
    assert walk.trace == [
        "start a 1",
        "a NO_EFFECT RETRYING +1s",
        "start a 2 generation 1",
        "a NO_EFFECT FAILED",
        "run FAILED",
    ]


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL", "UNKNOWN", "CANCELLED"])
def test_by_default_only_what_may_pass_by_itself_is_tried_again(code):
    """A wrong request stays wrong."""
    assert walk_of([failed(code)], retry={"attempts": 9}).trace[1] == "a NO_EFFECT FAILED"


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        ({"delay": "2s", "factor": 3, "cap": "10s"}, [2, 6, 10, 10]),
        ({"delay": ["1s", "3s", "10s"]}, [1, 3, 10, 10]),
        ({"delay": "0s"}, [0, 0, 0, 0]),
    ],
    ids=["growing to a cap", "listed, the last repeated", "none"],
)
def test_delays_are_as_written(retry, delays):
    """Without jitter, to the second; each counted from the end of the attempt before."""
    answers = [failed("UNAVAILABLE", after=0.125) for _ in delays] + [done()]
    walk = walk_of(answers, retry={"attempts": 5, "jitter": "none", **retry})
    starts = [at for at, line in walk.timed if line.startswith("start")]
    waits = [later - earlier - 0.125 for earlier, later in pairwise(starts)]
    assert waits == delays


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 0), (0.25, 1), (1.0, 4)])
def test_full_jitter_is_anything_up_to_the_delay(jitter, wait):
    """From nothing to the whole of it, in proportion to the draw."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "4s", "jitter": "full"}))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), done()]}, jitter=jitter).run()
    assert walk.timed[2][0] == wait


def test_the_total_time_cuts_the_retries():
    """A retry that would start at or after it does not wait in vain: the step fails at once."""
    walk = walk_of(
        [failed("UNAVAILABLE", after=1), failed("UNAVAILABLE", after=1)],
        retry={"attempts": 9, "delay": "2s", "factor": 1, "jitter": "none"},
        timeout={"total": "6s"},
    )
    assert walk.timed == [
        (0, "start a 1"),
        (1, "a NO_EFFECT RETRYING +2s"),
        (3, "start a 2 generation 1"),
        (4, "a NO_EFFECT FAILED"),
        (4, "run FAILED"),
    ]


def test_every_attempt_knows_its_limits():
    """`attempt` for each one; `total` counts from the start of the first."""
    walk = walk_of(
        [failed("UNAVAILABLE", after=1), done()],
        retry={"attempts": 2, "delay": "2s", "jitter": "none"},
        timeout={"attempt": "5s", "total": "1m"},
    )
    limits = [(it.attempt_timeout.total_seconds(), it.total_deadline) for it in walk.started]
    assert [seconds for seconds, _ in limits] == [5, 5]
    assert limits[0][1] == limits[1][1]
    assert (limits[0][1] - walk.journal[0].time).total_seconds() == 60


def test_a_repeated_attempt_gets_the_same_input_and_version():
    """What a step sees has settled before it starts; a pin is a pin."""
    flow = flow_of(node("a", node="x@2.0.0", retry={"attempts": 2}, **{"with": {"n": "{{ input.n }}"}}))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), done()]}, {"n": 5}).run()
    first, second = walk.started
    assert (first.node, first.version, first.input) == (second.node, second.version, second.input)
    assert (first.version, first.input.raw) == ("2.0.0", b'{"n":5}')


def test_what_did_nothing_is_repeated_with_another_key():
    """NO_EFFECT raises the generation, so that a provider does not answer with the refusal it remembers."""
    walk = walk_of([failed("UNAVAILABLE"), failed("UNAVAILABLE"), done()], retry={"attempts": 3})
    assert [command.generation for command in walk.started] == [0, 1, 2]
