"""`reflux flow run` and `reflux run`: from the start of a run to the reasons of its every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from reflux.api.routing.v1 import routing_service_pb2 as route_pb
from reflux.core.errors import Exhausted, Unavailable
from reflux.core.reasons import Reason
from tests.unit.cli.shapes import CREATED, RUN, SETTLED, a_run, a_step, a_try, an_attempt, finished

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

WATCHED = [CREATED, SETTLED, finished(3)]


def test_a_start_prints_the_id_and_nothing_else(server: FakeServer, reflux: Reflux) -> None:
    """So that a script can keep it: RUN=$(reflux flow run orders)."""
    server.runs.states = ["RUNNING"]
    ended = reflux("flow", "run", "orders", ok=True)
    assert (ended.stdout, ended.stderr) == (f"{RUN}\n", "")
    assert server.runs.executed[0].wait == ""


def test_a_wait_prints_the_output(server: FakeServer, reflux: Reflux) -> None:
    """As JSON, every digit of it."""
    ended = reflux("flow", "run", "orders", "--wait", "5s", ok=True)
    assert orjson.loads(ended.stdout) == {"total": 9007199254740993}


def test_a_wait_has_a_unit(server: FakeServer, reflux: Reflux) -> None:
    """A bare number could be anything; the refusal shows how it is written, as the API's does."""
    ended = reflux("flow", "run", "orders", "--wait", "5")
    assert ended.status == 2
    assert "--wait: a duration is written with its unit, such as 250ms, 30s" in ended.stderr
    assert "number of seconds" not in ended.stderr
    assert server.asked == []


def test_a_wait_longer_than_the_apis_is_several_calls_for_one_run(server: FakeServer, reflux: Reflux) -> None:
    """Each with the same request id, so none of them starts another run; none longer than 300 s."""
    server.runs.states = ["RUNNING", "RUNNING", "SUCCEEDED"]
    reflux("flow", "run", "orders", "--wait", "1h", ok=True)
    assert len(server.runs.executed) == 3
    assert len({each.request_id for each in server.runs.executed}) == 1
    assert [each.wait for each in server.runs.executed] == ["300000ms"] * 3


def test_a_run_that_failed_says_why_on_stderr(server: FakeServer, reflux: Reflux) -> None:
    """The step, the reason, and where to read more; stdout has no output to confuse."""
    server.runs.states = ["FAILED"]
    ended = reflux("flow", "run", "orders", "--wait", "1s")
    assert ended.stdout == ""
    assert "step pay: NODE_FAULT: it is ill" in ended.stderr
    assert f"reflux run why {RUN}" in ended.stderr


@pytest.mark.parametrize(
    ("option", "given"), [('{"n": 1}', None), ("@input.json", None), ("@input.yaml", None), ("-", "n: 1\n")]
)
def test_the_input_comes_as_text_from_a_file_or_from_stdin(
    server: FakeServer, reflux: Reflux, tmp_path: Path, option: str, given: str | None
) -> None:
    """JSON or YAML."""
    (tmp_path / "input.json").write_text('{"n": 1}')
    (tmp_path / "input.yaml").write_text("n: 1\n")
    reflux("flow", "run", "orders", "--input", option, given=given, ok=True)
    assert server.runs.run["input"] == {"n": 1}


def test_the_request_id_is_the_callers_own(server: FakeServer, reflux: Reflux) -> None:
    """Else one is made for each start."""
    for options in (("--request-id", "order-42"), (), ()):
        reflux("flow", "run", "orders", *options, ok=True)
    first, second, third = (each.request_id for each in server.runs.executed)
    assert first == "order-42"
    assert second != third


def test_a_start_that_was_not_answered_says_how_to_ask_again(server: FakeServer, reflux: Reflux) -> None:
    """It may have been accepted: the same request id gives that run."""
    server.next_errors = [Unavailable(Reason.NOT_ACCEPTING, "draining")]
    ended = reflux("flow", "run", "orders", "--request-id", "order-42")
    assert ended.status == 5
    assert "--request-id order-42 gives that run again" in ended.stderr


@pytest.mark.parametrize(
    ("reason", "seconds", "told"), [("RATE_LIMIT", 5.2, "6s"), ("CONCURRENCY_LIMIT", None, "1s")]
)
def test_a_start_over_a_limit_says_when_to_come_again(
    server: FakeServer, reflux: Reflux, reason: str, seconds: float | None, told: str
) -> None:
    """Nothing was accepted, so there is no run that could be asked for again."""
    server.next_errors = [Exhausted(Reason(reason), "orders is busy", retry_seconds=seconds)]
    ended = reflux("flow", "run", "orders", "--request-id", "order-42")
    assert ended.status == 5
    assert ended.stderr == f"reflux: {reason}: orders is busy\n  the same command may work in {told}\n"


def test_a_start_that_was_perhaps_accepted_says_both(server: FakeServer, reflux: Reflux) -> None:
    """An orchestrator that is full says when to come again; a run may have begun all the same."""
    server.next_errors = [Exhausted(Reason.NOT_ACCEPTING, "full", retry_seconds=65)]
    ended = reflux("flow", "run", "orders", "--request-id", "order-42")
    assert "the same command may work in 1m5s\n" in ended.stderr
    assert "--request-id order-42 gives that run again" in ended.stderr


def test_follow_shows_what_happens_and_then_the_output(server: FakeServer, reflux: Reflux) -> None:
    """Start, events, output, in this order."""
    server.runs.events = WATCHED
    lines = reflux("flow", "run", "orders", "--follow", ok=True).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in lines[:3]] == [
        "run of orders, version 3, accepted by anonymous",
        "pay: SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert orjson.loads("\n".join(lines[3:])) == {"total": 9007199254740993}


def test_a_watch_goes_on_where_the_connection_broke(server: FakeServer, reflux: Reflux) -> None:
    """Twice broken, every event is shown once."""
    server.runs.events, server.runs.breaks_after = WATCHED, [1, 2]
    ended = reflux("run", "watch", RUN, "--json", ok=True)
    assert [orjson.loads(line)["seq"] for line in ended.stdout.splitlines()] == [1, 2, 3]
    assert server.runs.watched == [0, 1, 2]
    assert "trying to go on after event 1" in ended.stderr


def test_a_watch_can_begin_later(server: FakeServer, reflux: Reflux) -> None:
    """--after skips what has been seen."""
    server.runs.events = WATCHED
    ended = reflux("run", "watch", RUN, "--after", "2", "--json", ok=True)
    assert [orjson.loads(line)["seq"] for line in ended.stdout.splitlines()] == [3]


def test_a_run_that_is_not_there_is_not_waited_for(server: FakeServer, reflux: Reflux) -> None:
    """3, at once."""
    assert reflux("run", "watch", RUN.replace("1", "2")).status == 3


def test_lists_ask_for_what_was_asked(server: FakeServer, reflux: Reflux) -> None:
    """Flow, state in any case, since as a duration or a time, tests or what is none, and the limit."""
    reflux(
        "run",
        "list",
        "--flow",
        "orders",
        "--state",
        "failed",
        "--since",
        "2026-01-31T12:00:00+01:00",
        ok=True,
    )
    reflux("run", "list", "--since", "1h", "--limit", "3", ok=True)
    reflux("run", "list", "--no-test", ok=True)
    reflux("run", "list", "--test", ok=True)
    first, second, *others = server.runs.listed
    assert [(each.HasField("test"), each.test) for each in (first, *others)] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert (first.flow_id, first.state, first.page_size) == ("orders", 4, 20)
    assert first.created_after.ToJsonString() == "2026-01-31T11:00:00Z"
    assert second.page_size == 3
    assert second.created_after.seconds > first.created_after.seconds


def test_get_shows_each_step_with_who_answered(server: FakeServer, reflux: Reflux) -> None:
    """The version chosen, the one that answered and why, tries, and what a step waits for."""
    waiting = {"why": "attempt 1 ended with UNAVAILABLE; the next one waits for its time", "until": None}
    fell_back = an_attempt(answered_by="2.0.0", reason="fallback", tries=3)
    server.runs.steps = [
        a_step(attempts=[fell_back]),
        a_step(id="ship", state="RETRYING", finish_time=None, waiting=waiting, attempts=[]),
    ]
    lines = reflux("run", "get", RUN, ok=True).stdout.splitlines()
    pay, ship = lines[-2:]
    assert pay.split() == [
        "pay",
        "SUCCEEDED",
        "http.request",
        "1.0.0",
        "2.0.0",
        "fallback",
        "1",
        "3",
        "250",
        "ms",
    ]
    assert ship.endswith(waiting["why"])


def test_why_tells_each_attempt_in_words_and_in_a_table(server: FakeServer, reflux: Reflux) -> None:
    """Revision, draw, weight, chosen, answered by, tries, flags in words, reason, outcome, cost, error."""
    error = {"code": "UNAVAILABLE", "reason": "NODE_FAULT", "message": "it is ill", "step": "pay"}
    attempts = [
        an_attempt(outcome="NO_EFFECT", answered_by="", flags="UF,URX", tries=2, error=error),
        an_attempt(
            attempt=2,
            answered_by="2.0.0",
            reason="fallback",
            tries=2,
            draw=11,
            cost=0.0000125,
            tried=[
                a_try(endpoint="10.0.0.7:80", flags="UT", duration="0.301000s"),
                a_try(version="2.0.0", code="OK", duration="0.002500s"),
            ],
        ),
        an_attempt(
            attempt=3, outcome="", chosen="", answered_by="", weight=0, revision=0, tries=0, finish_time=None
        ),
    ]
    server.runs.steps = [
        a_step(state="RUNNING", attempts=attempts, waiting={"why": "attempt 3 is in flight", "until": None})
    ]
    server.runs.run = a_run("RUNNING")
    text = reflux("run", "why", RUN, "pay", ok=True).stdout
    assert (
        "Attempt 1: revision 4 of the route of http.request gives 1.0.0 90 %, and the draw 7312 of 10000 "
        "chose it. No version answered in 2 tries. Envoy says: could not connect to the version (UF), no try "
        "was left (URX). It failed without an effect outside (NO_EFFECT), after 250 ms: NODE_FAULT: it is "
        "ill." in text
    )
    assert (
        "2.0.0 answered in try 2, as a fallback. Try 1 of 1.0.0 at 10.0.0.7:80: the try took too long (UT), "
        "301.0 ms. Try 2 of 2.0.0: OK, 2.5 ms. It is done (DONE), after 250 ms. It cost $0.0000125."
        in " ".join(text.split())
    )
    assert "Attempt 3: drew 7312 of 10000 and is in flight." in text
    assert "It waits: attempt 3 is in flight." in text
    second = next(line.split() for line in text.splitlines() if line.startswith("pay") and " 11 " in line)
    assert second == [
        "pay",
        "2",
        "4",
        "11",
        "90",
        "%",
        "1.0.0",
        "2.0.0",
        "fallback",
        "2",
        "DONE",
        "250",
        "ms",
    ]


def test_why_says_that_nobody_was_told_of_a_failure(server: FakeServer, reflux: Reflux) -> None:
    """The flow that was to hear of it is gone: in words, and for programs."""
    gone = {"code": "NOT_FOUND", "reason": "FLOW_NOT_FOUND", "message": "no flow is called tell"}
    server.runs.run = a_run("FAILED", failure_run_error=gone)
    text = " ".join(reflux("run", "why", RUN, ok=True).stdout.split())
    assert "No run hears of the failure: FLOW_NOT_FOUND: no flow is called tell" in text
    told = orjson.loads(reflux("run", "why", RUN, "--json", ok=True).stdout)
    assert told["failure_run_error"] == gone


def test_why_knows_only_steps_that_are_there(server: FakeServer, reflux: Reflux) -> None:
    """And names those that are."""
    server.runs.steps = [a_step()]
    ended = reflux("run", "why", RUN, "play")
    assert ended.status == 3
    assert "it has pay" in ended.stderr


def test_cancel_gives_the_reason_and_says_when_it_is_not_over(server: FakeServer, reflux: Reflux) -> None:
    """0 once the run has finished, 7 while attempts in flight are settled."""
    server.runs.run = a_run("CANCELING")
    ended = reflux("run", "cancel", RUN, "--reason", "wrong order")
    assert (ended.status, ended.stdout) == (7, f"run {RUN} is CANCELING\n")
    assert orjson.loads(server.runs.cancelled[0]) == {"reason": "wrong order"}
    server.runs.run = a_run("CANCELED")
    assert reflux("run", "cancel", RUN).status == 0


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (
            an_attempt(reason="cache", chosen="", answered_by="1.0.0", tries=0),
            "Attempt 1: an earlier output of 1.0.0 was used again, and nobody was called. It is done",
        ),
        (
            an_attempt(outcome="NOT_SENT", reason="", chosen="", answered_by="", tries=0),
            "Attempt 1: drew 7312 of 10000, and was not sent. It was not sent (NOT_SENT)",
        ),
        (
            an_attempt(
                outcome="NOT_SENT",
                answered_by="",
                tries=1,
                flags="UH",
                tried=[a_try(version="", code="", flags="UH")],
            ),
            "No version answered. Try 1 reached nobody: no healthy endpoint (UH).",
        ),
        (
            an_attempt(
                outcome="NOT_SENT",
                answered_by="",
                tries=1,
                flags="UO",
                tried=[a_try(version="", code="", flags="UO")],
            ),
            "Try 1 reached nobody: the version was at its limit of calls (UO).",
        ),
        (
            an_attempt(
                outcome="AMBIGUOUS",
                answered_by="",
                tries=1,
                flags="FI",
                faults=["step=pay,abort=UNAVAILABLE"],
                tried=[a_try(code="UNAVAILABLE", flags="FI", duration="0.001000s")],
            ),
            "No version answered. Try 1 of 1.0.0: not sent to it, a fault gave UNAVAILABLE in its place",
        ),
        (
            an_attempt(
                outcome="AMBIGUOUS",
                answered_by="",
                tries=2,
                flags="UR",
                faults=["step=pay,version=1.0.0,drop=reply"],
                tried=[a_try(flags="UR"), a_try(version="2.0.0", flags="UR")],
            ),
            "Try 1 of 1.0.0: it has answered, and a fault lost its reply (UR), 1.0 ms. Try 2 of 2.0.0: the",
        ),
        (
            an_attempt(answered_by="2.0.0", reason="ejected", tries=1),
            "2.0.0 answered at the first try, because the chosen one had no healthy endpoint and was",
        ),
        (
            an_attempt(chosen="2.0.0", answered_by="2.0.0", reason="fallback", weight=0, tries=1),
            "Attempt 1: 2.0.0 is asked in place of the version before it. 2.0.0 answered at the first try.",
        ),
    ],
    ids=[
        "cache",
        "never sent",
        "nobody healthy",
        "full",
        "a fault",
        "a lost reply",
        "passed over",
        "an attempt of its own",
    ],
)
def test_why_says_who_spoke_and_no_more(
    server: FakeServer, reflux: Reflux, attempt: dict[str, Any], words: str
) -> None:
    """A version has answered when it has; else Envoy, a fault of the test, or nobody."""
    server.runs.steps = [a_step(attempts=[attempt])]
    text = " ".join(reflux("run", "why", RUN, "pay", ok=True).stdout.split())
    assert words in text


def test_why_names_who_is_ejected_now(server: FakeServer, reflux: Reflux) -> None:
    """Of the version that was passed over, with the reason; or that it is not, any more."""
    server.runs.steps = [a_step(attempts=[an_attempt(answered_by="2.0.0", reason="ejected")])]
    proxy = route_pb.WatchedProxy(address="10.0.0.9:9902", reachable=True)
    out = {"proxy": proxy.address, "node": "http.request", "endpoint": "10.0.0.7:80"}
    server.routes.ejections = route_pb.ListEjectionsResponse(
        proxies=[proxy],
        ejections=[
            route_pb.EjectedEndpoint(version="1.0.0", reason=route_pb.EjectedEndpoint.CONSECUTIVE, **out),
            route_pb.EjectedEndpoint(version="2.0.0", **out),
        ],
    )
    text = " ".join(reflux("run", "why", RUN, "pay", ok=True).stdout.split())
    assert "1.0.0 at 10.0.0.7:80 is ejected now, by 10.0.0.9:9902 since" in text
    assert "because calls in a row failed." in text
    assert "2.0.0 at" not in text
    del server.routes.ejections.ejections[:]
    text = " ".join(reflux("run", "why", RUN, "pay", ok=True).stdout.split())
    assert "No endpoint of 1.0.0 is ejected now: it was then, or was not there." in text
    server.routes.ejections = route_pb.ListEjectionsResponse()
    text = " ".join(reflux("run", "why", RUN, "pay", ok=True).stdout.split())
    assert "Whom any proxy has ejected is not known." in text
