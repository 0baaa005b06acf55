"""Every run and step that has not ended says why it waits, and until when if anybody knows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from reflux.core import event as ev
from reflux.core.effect import EffectClass
from reflux.core.event import FINAL, SETTLED, Choice, Knowledge
from reflux.core.names import StepPath
from reflux.core.resolving import Abilities, Answer
from reflux.core.run import evolve
from reflux.core.word import Overrule, Pause, Resume, WordId
from reflux.orchestrator.run_view import run_document, stamp, steps_document
from reflux.orchestrator.why_waiting import of_step
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node

ONCE = {"a": EffectClass.AT_MOST_ONCE}
PERSON = (
    "a person must say what became of its effect: pay@1 claimed it in scope account and was asked for it "
    "once without an answer"
)


def run_waits(walk: Walk) -> dict[str, str | None] | None:
    return json.loads(run_document(walk.state))["waiting"]


def steps_wait(walk: Walk) -> dict[str, str | None]:
    """Why, by step; null for those that wait for nothing."""
    steps = json.loads(asyncio.run(steps_document(walk.state)))["steps"]
    return {step["id"]: step["waiting"] and step["waiting"]["why"] for step in steps}


def test_a_run_just_accepted_is_about_to_start():
    """The steps that are ready, and what the others wait for."""
    walk = Walk(flow_of(node("a"), node("b"), node("c", needs=[]), node("d", needs=["a", "c"])))
    assert run_waits(walk) == {"why": "its next steps are about to start: a, c", "until": None}
    assert steps_wait(walk) == {
        "a": "about to start",
        "b": "waits for a",
        "c": "about to start",
        "d": "waits for a, c",
    }


def test_of_many_steps_the_first_are_named():
    """People read it."""
    wide = [node(f"a{number}", needs=[]) for number in range(500)]
    walk = Walk(flow_of(*wide, node("z", needs=[step["id"] for step in wide])))
    first = ", ".join(f"a{number}" for number in range(10))
    assert run_waits(walk) == {
        "why": f"its next steps are about to start: {first} and 490 more",
        "until": None,
    }
    waits = of_step(walk.state, StepPath("z"), walk.state.steps[StepPath("z")], ())
    assert waits == (f"waits for {first} and 490 more", None)


def test_an_attempt_in_flight():
    """Which one, and who has claimed its effect."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [never()]}).run(until=0.1)
    assert run_waits(walk) == {"why": "step a: attempt 1 is in flight", "until": None}
    assert steps_wait(walk) == {"a": "attempt 1 is in flight", "b": "waits for a"}
    walk = Walk(flow_of(node("a")), {"a": [never("pay@1")]}, effects=ONCE).run(until=0.1)
    assert steps_wait(walk) == {"a": "attempt 1 is in flight, its effect claimed by pay@1"}


def test_who_has_a_limit_of_time_says_when_it_is_over():
    """The step's own, or that of what it is in, or the flow's: whichever comes first."""
    flow = flow_of(
        {
            "id": "t",
            "parallel": {"branches": {"b": [node("a", timeout={"attempt": "20s"})]}},
            "timeout": {"total": "9s"},
        },
        policies={"timeout": "1h"},
    )
    walk = Walk(flow, {"a": [never()]}).run(until=0.1)
    start = walk.state.created.time
    assert run_waits(walk)["until"] == stamp(start + timedelta(seconds=9))
    flow = flow_of({"id": "w", "wait": {"signal": "go"}}, policies={"timeout": "1h"})
    walk = Walk(flow).run(until=0.1)
    assert run_waits(walk)["until"] == stamp(walk.state.created.time + timedelta(hours=1))


def test_an_attempt_has_the_limit_of_the_versions_it_can_meet():
    """Where its step has none; the journal knows it, so that whoever is asked can say it."""
    walk = Walk(flow_of(node("a")), {"a": [never()]}).run(until=0.1)
    flight = walk.state.steps[StepPath("a")].flight
    flight.started = replace(flight.started, limit=timedelta(seconds=60))
    assert run_waits(walk)["until"] == stamp(flight.started.time + timedelta(seconds=60))


def test_a_wait_for_the_next_attempt_knows_its_end():
    """The code of the last one, and the time of the next, on the step and on the run."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "9s", "jitter": "none"}))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE")]}).run(until=1)
    why = "attempt 1 ended with UNAVAILABLE; the next one waits for its time"
    assert run_waits(walk) == {"why": f"step a: {why}", "until": "2026-01-01T00:00:09Z"}
    step = json.loads(asyncio.run(steps_document(walk.state)))["steps"][0]
    assert step["waiting"] == {"why": why, "until": "2026-01-01T00:00:09Z"}


def _held(walk, step, attempt, why, until=None):
    walk.tell(ev.AttemptHeld(step, attempt, why, until, walk.now))


def test_an_attempt_that_cannot_leave_says_why():
    """Also one whose start is not journaled, and until when it may wait; no longer once it has left."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "1s", "jitter": "none"}), node("b"))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), never()]}).run(until=0.5)
    _held(walk, "a", 2, "the retry budget of x@1 is empty", walk.now + timedelta(seconds=9))
    why = "attempt 2 has not left: the retry budget of x@1 is empty"
    until = "2026-01-01T00:00:09.500000Z"
    assert run_waits(walk) == {"why": f"step a: {why}", "until": until}
    step = json.loads(asyncio.run(steps_document(walk.state)))["steps"][0]
    assert step["waiting"] == {"why": why, "until": until}
    walk.run(until=2)
    assert steps_wait(walk)["a"] == "attempt 2 is in flight"


def test_an_attempt_with_an_effect_that_waits_for_a_place():
    """Its start is journaled before it may leave."""
    walk = Walk(flow_of(node("a")), {"a": [never()]}, effects=ONCE).run(until=0.1)
    _held(walk, "a", 1, "all places for calls of x are taken")
    why = "attempt 1 has not left: all places for calls of x are taken"
    assert steps_wait(walk) == {"a": why}
    assert run_waits(walk) == {"why": f"step a: {why}", "until": None}
    _held(walk, "a", 1, "")
    assert steps_wait(walk) == {"a": "attempt 1 is in flight"}


def test_an_attempt_that_is_over_waits_no_more():
    """Whatever was shown of it before."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [done(after=1)], "b": [never()]}).run(until=0.5)
    _held(walk, "a", 1, "all places for calls of x are taken")
    walk.run(until=2)
    assert steps_wait(walk) == {"a": None, "b": "attempt 1 is in flight"}


def test_the_run_tells_the_retry_that_comes_first():
    """Of several."""
    late, soon = ({"attempts": 2, "delay": delay, "jitter": "none"} for delay in ("9s", "5s"))
    flow = flow_of(node("a", retry=late), node("b", needs=[], retry=soon))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE")], "b": [failed("UNAVAILABLE")]}).run(until=1)
    assert run_waits(walk)["why"].startswith("step b:")
    assert run_waits(walk)["until"] == "2026-01-01T00:00:05Z"


def test_a_container_and_what_is_inside():
    """The container waits for its steps, those before it began wait for it."""
    par = {"id": "p", "parallel": {"branches": {"l": [node("b"), node("c")]}}}
    walk = Walk(flow_of(node("a"), par), {"a": [done(after=1)], "b": [never()]}).run(until=0.5)
    assert steps_wait(walk) == {
        "a": "attempt 1 is in flight",
        "p": "waits for a",
        "b": "waits for p to begin",
        "c": "waits for b",
    }
    walk.run(until=2)
    assert steps_wait(walk) == {
        "a": None,
        "p": "its own steps are being done",
        "b": "attempt 1 is in flight",
        "c": "waits for b",
    }


def test_a_parked_step_waits_for_a_person():
    """And so do the run, and what comes after."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [ambiguous("pay@1")]}, effects=ONCE).run()
    assert run_waits(walk) == {"why": f"step a: {PERSON}", "until": None}
    assert steps_wait(walk) == {"a": PERSON, "b": "waits for a"}
    document = json.loads(run_document(walk.state))
    assert (document["state"], document["unresolved_effects"]) == ("PARKED", ["a"])
    assert document["error"]["reason"] == "EFFECT_AMBIGUOUS"


def test_an_effect_whose_key_may_be_forgotten_is_told_so():
    """So that nobody waits for it to be tried again."""
    walk = Walk(
        flow_of(node("a")),
        {"a": [ambiguous("pay@stripe")]},
        effects={"a": EffectClass.IDEMPOTENT},
        abilities=Abilities(verifiable=True),
        questions=[Answer(Knowledge.VOIDED, "canceled")],
    ).run(until=0.5)
    walk.now += timedelta(hours=6)
    walk.run()
    why = run_waits(walk)["why"]
    assert "its key may be forgotten by the provider, so nothing is sent under it any more" in why
    assert why.endswith("verify, asked 1 times, says VOIDED: canceled")


def test_a_quarantined_run_waits_for_a_person_whatever_its_steps_say():
    """An attempt or a timer that its journal still shows is nobody's any more."""
    flow = flow_of(node("a"), node("b", needs=[]), node("c"))
    answers = {"a": [never()], "b": [failed("UNAVAILABLE")]}
    walk = Walk(flow, answers, effects=ONCE).run(until=0.1)
    walk.tell(ev.RunParked(ev.Failure("INTERNAL", "QUARANTINED", "five deaths"), walk.now))
    assert run_waits(walk) == {"why": "a person must look at it: five deaths", "until": None}
    waiting = {step for step, why in steps_wait(walk).items() if why == "a person must look at the run"}
    assert waiting == {"a", "b", "c"} - {
        path for path, run in walk.state.steps.items() if run.state in SETTLED
    }
    assert json.loads(run_document(walk.state))["error"]["reason"] == "QUARANTINED"


def test_a_quarantined_run_says_of_which_effects_nobody_knows():
    """Its step is not parked: its orchestrators died while it was to be asked again."""
    walk = Walk(flow_of(node("a")), {"a": [ambiguous("pay@1")]}, effects={"a": EffectClass.IDEMPOTENT}).run(
        until=0.5
    )
    assert json.loads(run_document(walk.state))["unresolved_effects"] == []
    walk.tell(ev.RunParked(ev.Failure("INTERNAL", "QUARANTINED", "five deaths"), walk.now))
    document = json.loads(run_document(walk.state))
    assert (document["state"], document["unresolved_effects"]) == ("PARKED", ["a"])


def test_a_cancelled_run_waits_for_what_may_act():
    """CANCELING says whose outcome is missing."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [never()]}, effects=ONCE).run(until=0.1).cancel()
    assert run_waits(walk) == {"why": "step a: attempt 1 is in flight", "until": None}
    assert steps_wait(walk) == {"a": "attempt 1 is in flight", "b": None}
    assert json.loads(run_document(walk.state))["state"] == "CANCELING"


def test_between_two_steps_a_run_is_about_to_go_on():
    """Read at the moment when all is settled and nothing is decided yet."""
    walk = Walk(flow_of({"id": "i", "if": {"when": "{{ true }}", "then": []}}))
    evolve(walk.state, ev.StepEntered("i", (1,), walk.now))
    assert run_waits(walk) == {"why": "about to go on", "until": None}


def test_a_run_that_has_failed_waits_for_the_run_that_is_told():
    """That one may not begin at once: there may be no room for it."""
    flow = flow_of({"id": "bad", "fail": {"message": "no"}}, policies={"on_failure": {"flow": "tell"}})
    walk = Walk(flow).run(until=-1)
    [asked] = walk.asked
    why = f"begins run {asked.requested.run_id} of flow tell, which hears of its failure"
    assert run_waits(walk) == {"why": why, "until": None}


@pytest.mark.parametrize("answer", [done(), failed()])
def test_what_has_ended_waits_for_nothing(answer):
    """Neither the run nor any step."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [answer]}).run()
    assert run_waits(walk) is None
    assert steps_wait(walk) == {"a": None, "b": None}


def test_a_run_cancelled_over_a_parked_step_waits_for_nothing():
    """It has ended; what is unresolved is listed, not waited for."""
    walk = Walk(flow_of(node("a")), {"a": [ambiguous("pay@1")]}, effects=ONCE).run().cancel()
    assert walk.state.phase in FINAL
    assert run_waits(walk) is None
    assert steps_wait(walk) == {"a": None}


def test_a_wait_for_somebody_says_for_whom_and_until_when():
    """A signal with its key, an approval with who is to answer; without a timeout nobody knows until when."""
    signal = {"id": "w", "wait": {"signal": "shipped", "key": "o-{{ input.n }}", "timeout": "1h"}}
    ask = {"id": "ok", "needs": [], "approve": {"who": ["ada", "bob"], "message": "Pay?"}}
    bare = {"id": "any", "needs": [], "approve": {}}
    walk = Walk(flow_of(signal, ask, bare), input={"n": 7}).run(until=1)
    why = "waits for the signal shipped with the key o-7"
    assert run_waits(walk) == {"why": f"step w: {why}", "until": "2026-01-01T01:00:00Z"}
    assert steps_wait(walk) == {
        "w": why,
        "ok": "waits for an answer of ada, bob",
        "any": "waits for an answer",
    }
    steps = {step["id"]: step for step in json.loads(asyncio.run(steps_document(walk.state)))["steps"]}
    assert steps["w"]["signal"] == {"name": "shipped", "key": "o-7"}
    assert steps["ok"]["approval"]["message"] == "Pay?"
    alone = Walk(flow_of({"id": "w", "wait": {"signal": "go"}})).run()
    assert run_waits(alone) == {"why": "step w: waits for the signal go", "until": None}


def test_a_paused_run_says_who_paused_it():
    """What is in flight, or waits for somebody, still says so; everything else waits for the resume."""
    flow = flow_of(node("a"), node("b"), {"id": "w", "needs": [], "wait": {"signal": "go"}})
    walk = Walk(flow, {"a": [never()]}).run(until=0.1).say(Pause(WordId("p"), "ada", "lunch"))
    assert run_waits(walk) == {"why": "paused by ada: lunch", "until": None}
    assert steps_wait(walk) == {
        "a": "attempt 1 is in flight",
        "b": "the run is paused by ada: lunch",
        "w": "waits for the signal go",
    }
    document = json.loads(run_document(walk.state))
    assert document["state"] == "PAUSED"
    assert document["pause"] == {"actor": "ada", "reason": "lunch", "time": "2026-01-01T00:00:00.100000Z"}


def test_no_time_ends_what_is_paused():
    """Limits of the run and its steps are looked at when it is resumed; a call in flight is still cut off."""
    call = node("a", timeout={"attempt": "20s", "total": "9s"})
    wait = {"id": "w", "needs": [], "wait": {"signal": "go", "timeout": "30s"}}
    flow = flow_of(call, node("b"), wait, policies={"timeout": "1h"})
    walk = Walk(flow, {"a": [never()]}).run(until=0.1).say(Pause(WordId("p"), "ada", ""))
    steps = {
        step["id"]: step["waiting"]["until"]
        for step in json.loads(asyncio.run(steps_document(walk.state)))["steps"]
    }
    assert run_waits(walk)["until"] is None
    assert steps == {"a": stamp(walk.state.created.time + timedelta(seconds=9)), "b": None, "w": None}
    walk.say(Resume(WordId("r"), "ada", ""))
    assert run_waits(walk)["until"] == steps["a"]


def test_a_step_that_is_done_again_by_hand_is_about_to_start():
    """It waits for its time, which is now."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [ambiguous("pay@1"), never()]}, effects=ONCE).run()
    walk.say(Pause(WordId("p"), "ada", "")).say(Overrule(WordId("o"), "ada", "a", Choice.RETRY, ""))
    assert steps_wait(walk)["a"] == "the run is paused by ada"
    walk.say(Resume(WordId("r"), "ada", ""))
    assert steps_wait(walk)["a"] == "attempt 2 is in flight"
