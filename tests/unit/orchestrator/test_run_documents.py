"""A run, its steps and its events as people see them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.expression import Template
from reflux.orchestrator import run_view
from reflux.orchestrator.run_view import (
    event_document,
    events_document,
    run_document,
    stamp,
    steps_document,
)
from tests.support.walk import RUN, Walk, ambiguous, done, failed, flow_of, node

NOON = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)


def steps_of(walk: Walk) -> dict[str, dict]:
    return {step["id"]: step for step in json.loads(asyncio.run(steps_document(walk.state)))["steps"]}


def test_a_run_says_everything_flat():
    """The whole document of a run that succeeded."""
    walk = Walk(flow_of({"id": "a", "set": {"n": "{{ input.n }}"}}), input={"n": 1}).run()
    assert json.loads(run_document(walk.state)) == {
        "id": RUN,
        "flow_id": "f",
        "flow_name": "walked",
        "flow_version": 1,
        "state": "SUCCEEDED",
        "input": {"n": 1},
        "output": {"n": 1},
        "error": None,
        "create_time": "2026-01-01T00:00:00Z",
        "finish_time": "2026-01-01T00:00:00Z",
        "waiting": None,
        "unresolved_effects": [],
        "uncompensated": [],
        "parent": None,
        "failure_run_id": "",
        "failure_run_error": None,
        "actor": "me",
        "trigger": "",
        "origin": None,
        "versions": {},
        "key": "",
        "fingerprint": "",
        "priority": 5,
        "queue": None,
        "pause": None,
        "cost": None,
        "test": False,
        "faults": [],
        "seed": "",
    }


def test_a_failed_run_says_what_failed_and_where():
    """Code, reason, message, step, and whether the same may succeed later."""
    walk = Walk(flow_of({"id": "a", "fail": {"message": "no"}})).run()
    document = json.loads(run_document(walk.state))
    assert (document["state"], document["output"]) == ("FAILED", None)
    assert document["error"] == {
        "code": "ABORTED",
        "reason": "FAIL_STEP",
        "message": "no",
        "step": "a",
        "retryable": False,
    }


def test_inputs_and_outputs_are_shown_byte_for_byte():
    """Blanks and digits as they were journaled: nothing is read and written again."""
    flow = flow_of(node("a"))
    walk = Walk(flow)
    raw = b'{"pi": 3.14000, "big": 12345678901234567890}'
    walk.state.created = ev.RunCreated("f", "walked", 1, Json(raw), "me", walk.now)
    assert b'"input":' + raw in run_document(walk.state)
    walk.tell(ev.StepSettled("a", ev.StepState.SUCCEEDED, walk.now, output=Json(raw)))
    assert b'"output":' + raw in run_document(walk.state)
    assert b'"output":' + raw in asyncio.run(steps_document(walk.state))


def test_a_step_shows_its_input_as_it_was_sent_and_all_its_attempts():
    """Each attempt with its routing, its outcome, its error and its times."""
    flow = flow_of(
        node(
            "a",
            name="Pay",
            retry={"attempts": 2, "delay": "1s", "jitter": "none"},
            **{"with": {"n": "{{ input.n }}"}},
        ),
        node("b"),
    )
    first = failed("UNAVAILABLE", after=1, cost=250_000_000)
    second = done({"ok": True}, after=1, claimed_by="x@2", cost=500_000_000)
    answers = {"a": [first, second]}
    walk = Walk(flow, answers, {"n": 7}, {"a": EffectClass.IDEMPOTENT}).run(until=4)
    step = steps_of(walk)["a"]
    attempts = step.pop("attempts")
    evidence = step.pop("evidence")
    assert evidence["answers"] == []
    assert [(each["attempt"], each["node_version"], each["scope"]) for each in evidence["claims"]] == [
        (2, "x@2", "account")
    ]
    assert step == {
        "id": "a",
        "name": "Pay",
        "action": "node",
        "node": "x",
        "state": "SUCCEEDED",
        "input": {"n": 7},
        "output": {"ok": True},
        "error": None,
        "skip_reason": "",
        "waiting": None,
        "start_time": "2026-01-01T00:00:00Z",
        "finish_time": "2026-01-01T00:00:03Z",
        "compensates": "",
        "child_run_id": "",
        "omitted": False,
        "kept_from": "",
        "cost": 0.75,
        "approval": None,
        "signal": None,
    }
    assert [attempt["cost"] for attempt in attempts] == [0.25, 0.5]
    assert [attempt["attempt"] for attempt in attempts] == [1, 2]
    assert [attempt["outcome"] for attempt in attempts] == ["NO_EFFECT", "DONE"]
    assert [attempt["claimed"] for attempt in attempts] == [False, True]
    assert [attempt["answered_by"] for attempt in attempts] == ["", "2"]
    assert {(attempt["effect"], attempt["lane"]) for attempt in attempts} == {("idempotent", "safe")}
    assert attempts[0]["error"]["outcome"] == "NO_EFFECT"
    assert attempts[1]["error"] is None
    assert attempts[1]["start_time"] == "2026-01-01T00:00:02Z"


def test_an_attempt_in_flight_is_shown_without_an_outcome():
    """And with its claim as soon as there is one."""
    walk = Walk(
        flow_of(node("a")), {"a": [ambiguous("x@1", after=9)]}, effects={"a": EffectClass.AT_MOST_ONCE}
    )
    (attempt,) = steps_of(walk.run(until=1))["a"]["attempts"]
    assert (attempt["outcome"], attempt["claimed"], attempt["finish_time"]) == ("", True, None)


def test_a_step_that_was_not_reached_has_no_input():
    """Nothing is worked out that nobody received."""
    walk = Walk(flow_of(node("a", when="{{ false }}", **{"with": {"n": 1}}))).run()
    step = steps_of(walk)["a"]
    assert (step["state"], step["skip_reason"], step["input"], step["attempts"]) == (
        "SKIPPED",
        "when",
        None,
        [],
    )


def test_every_action_has_its_name():
    """As the flow spells it."""
    flow = flow_of(
        node("n"),
        {"id": "i", "if": {"when": "{{ true }}", "then": []}},
        {"id": "s", "switch": [{"else": []}]},
        {"id": "p", "parallel": {"branches": {"l": []}}},
        {"id": "v", "set": {"n": 1}},
        {"id": "f", "on_error": "continue", "fail": {"message": "no"}},
        {"id": "r", "return": {"n": 1}},
    )
    actions = {path: step["action"] for path, step in steps_of(Walk(flow).run()).items()}
    assert actions == dict(
        zip("nispvfr", ("node", "if", "switch", "parallel", "set", "fail", "return"), strict=True)
    )


def test_events_are_shown_with_all_they_say():
    """Kind, step and time beside; the rest as data, bytes as hexadecimal."""
    assignment = ev.Assignment(EffectClass.PURE, "broad", 7)
    event = ev.AttemptStarted("a", 1, 0, assignment, NOON, b"\x01\xff", timedelta(seconds=60))
    assert json.loads(event_document(3, NOON, event)) == {
        "seq": 3,
        "time": "2026-01-31T12:00:00.000005Z",
        "kind": "AttemptStarted",
        "step": "a",
        "data": {
            "attempt": 1,
            "generation": 0,
            "assignment": {
                "effect": "pure",
                "lane": "broad",
                "draw": 7,
                "chosen": "",
                "weight": 0,
                "revision": 0,
                "answered_by": "",
                "reason": "",
                "tries": 0,
                "flags": "",
                "batch_id": "",
                "sticky": "",
            },
            "time": "2026-01-31T12:00:00.000005Z",
            "input_digest": "01ff",
            "limit": "60s",
        },
    }


def test_every_event_of_a_run_can_be_shown():
    """A page of them, and the token of the next."""
    flow = flow_of({"id": "i", "if": {"when": "{{ true }}", "then": [node("a")]}}, policies={"timeout": "1m"})
    walk = Walk(flow, {"a": [ambiguous("x@1")]}, effects={"a": EffectClass.AT_MOST_ONCE}).run().cancel()
    page = [(seq, walk.now, event) for seq, event in enumerate(walk.journal, 1)]
    shown = json.loads(events_document(page, "more"))
    assert shown["next_page_token"] == "more"
    assert [event["kind"] for event in shown["events"]] == [type(event).__name__ for event in walk.journal]
    assert shown["events"][-1]["data"]["unresolved_effects"] == ["a"]


def test_a_claim_shows_how_long_its_key_is_kept():
    """In seconds, as durations are written in JSON; nothing where the claimer did not say."""
    for kept, shown in ((timedelta(days=45), "3888000s"), (timedelta(seconds=1.5), "1.5s"), (None, None)):
        claim = ev.EffectClaimed("a", 1, "e1", "account", "pay@stripe", kept)
        assert json.loads(event_document(1, NOON, claim))["data"]["key_ttl"] == shown


def test_times_are_written_in_utc():
    """RFC 3339, with microseconds where there are some."""
    oslo = timezone(timedelta(hours=1))
    assert stamp(datetime(2026, 1, 31, 13, 0, 0, tzinfo=oslo)) == "2026-01-31T12:00:00Z"
    assert stamp(NOON) == "2026-01-31T12:00:00.000005Z"
    assert stamp(None) is None


async def test_a_page_of_steps_is_made_in_turns(monkeypatch):
    """Inputs are worked out again, which may take long: others have their turn in between."""
    monkeypatch.setattr(run_view, "SLICE_SECONDS", 0.0)
    steps = [node(f"s{n}", **{"with": {"n": "{{ input.n }}"}}) for n in range(20)]
    walk = Walk(flow_of(*steps), input={"n": 1}).run()
    page = asyncio.ensure_future(steps_document(walk.state))
    turns = 0
    while not page.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 20
    assert [step["input"] for step in json.loads(page.result())["steps"]] == [{"n": 1}] * 20


async def test_no_input_is_worked_out_for_which_there_is_no_room(monkeypatch):
    """Once one did not fit, what has an input is left out unseen; what has none is shown while it fits."""
    big, small = {"with": {"of": "{{ input.big }}"}}, {"with": {"of": "{{ input.small }}"}}
    flow = flow_of(
        node("a", **big), node("b", **big), node("c", **big), node("d", **small), {"id": "e", "set": {"n": 1}}
    )
    walk = Walk(flow, input={"big": "x" * 900_000, "small": 1}).run()
    evaluated: list[object] = []
    real = Template.evaluate
    monkeypatch.setattr(
        Template, "evaluate", lambda self, scope: evaluated.append(self.at) or real(self, scope)
    )
    shown = json.loads(await steps_document(walk.state))["steps"]
    assert [step["omitted"] for step in shown] == [False, False, True, True, False]
    assert [step["output"] for step in shown] == [{}, {}, None, None, {"n": 1}]
    assert len(evaluated) == 3
