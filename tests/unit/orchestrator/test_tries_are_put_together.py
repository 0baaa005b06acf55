"""The tries of an attempt, from what its reply said and what the access log says; no more than is known."""

from datetime import UTC, datetime
from typing import Any

import pytest

from reflux.core.names import RunId, StepPath
from reflux.orchestrator.provenance import Logged, account

RUN, STEP = RunId("r"), StepPath("lines[3]/pay")
CALL = "r/lines[3]/pay/2"


def attempt(**changes: Any) -> dict[str, Any]:
    """One that was DONE at the first try."""
    return {
        "attempt": 2,
        "outcome": "DONE",
        "chosen": "1.0.0",
        "weight": 2500,
        "answered_by": "1.0.0",
        "reason": "weight",
        "tries": 1,
        "flags": "",
        "batch_id": "",
        "start_time": "2026-01-01T00:00:00Z",
        "finish_time": "2026-01-01T00:00:01Z",
        **changes,
    }


def logged(version: str = "1.0.0", code: str = "UNAVAILABLE", flags: str = "") -> Logged:
    """A try of a quarter of a second that failed."""
    return Logged(version, "h:1", code, flags, datetime(2026, 1, 1, tzinfo=UTC), 0.25)


def told(given: dict[str, Any], *tries: Logged, call: str = CALL) -> tuple[list[tuple[str, str, str]], bool]:
    """Version, code and flags of each try, and whether these are all."""
    found = account(RUN, STEP, given, {call: tries})
    return [(each["version"], each["code"], each["flags"]) for each in found["tried"]], found["tried_known"]


def test_one_good_try_needs_no_log() -> None:
    """It is known without anybody being asked, with its beginning and length."""
    found = account(RUN, STEP, attempt(), None)
    only = {"version": "1.0.0", "endpoint": "", "code": "OK", "flags": ""}
    times = {"start_time": "2026-01-01T00:00:00Z", "duration": "1.000000s"}
    assert found == {"probability": 0.25, "tried": [only | times], "tried_known": True}


def test_the_answer_completes_what_the_log_has() -> None:
    """It took what the tries before it left of the attempt's time."""
    given = attempt(tries=2, answered_by="2.0.0", reason="fallback")
    assert told(given, logged()) == ([("1.0.0", "UNAVAILABLE", ""), ("2.0.0", "OK", "")], True)
    assert account(RUN, STEP, given, {CALL: [logged()]})["tried"][1]["duration"] == "0.750000s"


def test_a_failure_has_all_its_tries_in_the_log() -> None:
    """None is made up: without the last one it is said that not all are known."""
    given = attempt(outcome="AMBIGUOUS", tries=2)
    both = logged(), logged(code="", flags="UT")
    assert told(given, *both) == ([("1.0.0", "UNAVAILABLE", ""), ("1.0.0", "", "UT")], True)
    assert told(given, logged()) == ([("1.0.0", "UNAVAILABLE", "")], False)
    assert told(given) == ([], False)


def test_a_try_that_found_nobody_is_in_no_log() -> None:
    """The reply says so, and it is the last one."""
    given = attempt(outcome="AMBIGUOUS", answered_by="", tries=2, flags="UH")
    assert told(given, logged()) == ([("1.0.0", "UNAVAILABLE", ""), ("", "", "UH")], True)
    assert told(given) == ([], False)


def test_what_the_log_has_lost_is_not_known() -> None:
    """Nor is an attempt whose tries are more than its reply counted: it was sent twice."""
    assert told(attempt(tries=3), logged()) == ([("1.0.0", "UNAVAILABLE", "")], False)
    assert told(attempt(tries=1), logged(), logged())[1] is False


def test_in_flight_only_what_failed_so_far_is_known() -> None:
    """So it is for an attempt whose reply nobody heard."""
    silent = {"chosen": "", "answered_by": "", "tries": 0, "reason": "", "weight": 0}
    for outcome in ("", "AMBIGUOUS"):
        given = attempt(outcome=outcome, finish_time=None, **silent)
        assert told(given, logged()) == ([("1.0.0", "UNAVAILABLE", "")], False)
    assert told(attempt(outcome="NOT_SENT", **silent)) == ([], True)


def test_a_batch_is_one_call() -> None:
    """Its tries are found under its id, for each of its attempts."""
    given = attempt(batch_id="b", tries=2)
    assert told(given, logged(), call="b") == ([("1.0.0", "UNAVAILABLE", ""), ("1.0.0", "OK", "")], True)
    assert told(given, logged()) == ([], False)


@pytest.mark.parametrize(
    ("changes", "probability"),
    [
        ({}, 0.25),
        ({"reason": "fallback", "answered_by": "2.0.0"}, 0.25),
        ({"reason": "pin", "weight": 10_000}, 1.0),
        ({"chosen": ""}, None),
        ({"reason": "cache"}, None),
    ],
)
def test_the_probability_is_of_the_assignment(changes: dict[str, Any], probability: float | None) -> None:
    """Of what the route chose, whoever answered; nobody is assigned to an output that is used again."""
    assert account(RUN, STEP, attempt(**changes), {})["probability"] == probability
