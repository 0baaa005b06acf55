"""A version that surely did nothing is followed by the next at once; one that may have acted is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import Knowledge, Question, RunPhase
from reflux.core.resolving import ASKS, KEY_HOLDS, Abilities, Answer
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, node, not_sent

CHAIN = Abilities(successors=("paypal", "square"))
ASKABLE = replace(CHAIN, verifiable=True)
UNDOABLE = replace(ASKABLE, cancelable=True)
LOST = ambiguous("pay@stripe")
OUTAGE = replace(failed("UNAVAILABLE", claimed_by="pay@stripe"), outage=True)
UNKNOWN = Answer(Knowledge.UNKNOWN, "not listed")
THRICE = [
    "start a 1",
    "a claimed by pay@stripe",
    "a AMBIGUOUS RETRYING +1s",
    "start a 2 at stripe",
    "a claimed by pay@stripe",
    "a AMBIGUOUS RETRYING +2s",
    "start a 3 at stripe",
    "a claimed by pay@stripe",
]


def walk_of(
    answers, abilities=CHAIN, questions=(), effect=EffectClass.IDEMPOTENT, *, until=None, **keys
) -> Walk:
    walk = Walk(
        flow_of(node("a", **keys)),
        {"a": answers},
        effects={"a": effect},
        abilities=abilities,
        questions=list(questions),
    )
    return walk.run() if until is None else walk.run(until=until)


def test_an_outage_that_did_nothing_goes_to_the_next_version_at_once():
    """The provider refused the connection: no pause, no attempt of the step's used up, another key."""
    walk = walk_of([OUTAGE, done(claimed_by="pay@paypal")])
    assert walk.timed[-4:] == [
        (0, "start a 2 generation 1 at paypal"),
        (0, "a claimed by pay@paypal"),
        (0, "a DONE SUCCEEDED"),
        (0, "run SUCCEEDED"),
    ]
    assert [command.generation for command in walk.started] == [0, 1]
    assert [command.fallback for command in walk.started] == [False, True]
    assert walk.replayed().phase is RunPhase.SUCCEEDED


def test_what_the_mesh_did_not_send_goes_to_the_next_version_at_once():
    """The chosen version is full or ejected."""
    walk = walk_of([replace(not_sent(), chosen="stripe"), done(claimed_by="pay@paypal")])
    assert (0, "start a 2 at paypal") in walk.timed


def test_each_version_is_asked_once_then_the_step_fails():
    """Its own `retry` counts the last of them alone."""
    second = replace(failed("UNAVAILABLE", claimed_by="pay@paypal"), outage=True)
    third = replace(failed("UNAVAILABLE", claimed_by="pay@square"), outage=True)
    walk = walk_of([OUTAGE, second, third])
    assert [command.version for command in walk.started] == [None, "paypal", "square"]
    assert walk.states("a") == {"a": "FAILED"}


def test_a_decline_goes_nowhere():
    """The provider has judged: another one is asked only where the flow says so."""
    walk = walk_of([failed(claimed_by="pay@stripe")])
    assert walk.trace == ["start a 1", "a claimed by pay@stripe", "a NO_EFFECT FAILED", "run FAILED"]


def test_a_step_that_names_its_version_stays_with_it():
    """A pin is a pin."""
    walk = Walk(
        flow_of({"id": "a", "node": "x@stripe"}),
        {"a": [OUTAGE]},
        effects={"a": EffectClass.IDEMPOTENT},
        abilities=CHAIN,
    ).run()
    assert walk.states("a") == {"a": "FAILED"}


def test_a_pure_call_is_the_meshs_to_hand_over():
    """Envoy has tried the chain already."""
    walk = walk_of([replace(failed("UNAVAILABLE"), outage=True, chosen="stripe")], effect=EffectClass.PURE)
    assert walk.states("a") == {"a": "FAILED"}


def test_what_is_found_is_done():
    """Asked for again twice in vain, then verified: no other version was ever asked."""
    found = Answer(Knowledge.FOUND, "listed", output=Json.of({"id": "p1"}))
    walk = walk_of([LOST] * 3, ASKABLE, [found])
    assert walk.trace == [
        *THRICE,
        "a AMBIGUOUS RETRYING +1s",
        "a verify 1 of pay@stripe",
        "a FOUND SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert walk.output("a") == {"id": "p1"}


def test_what_is_void_goes_to_the_next_version_under_another_key():
    """The one proof besides DONE that lets an ambiguous effect leave its scope."""
    void = Answer(Knowledge.VOIDED, "canceled")
    walk = walk_of([LOST] * 3 + [done(claimed_by="pay@paypal")], ASKABLE, [void])
    assert walk.trace[len(THRICE) + 1 :] == [
        "a verify 1 of pay@stripe",
        "a VOIDED RETRYING +0s",
        "start a 4 generation 1 at paypal",
        "a claimed by pay@paypal",
        "a DONE SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert [command.generation for command in walk.started] == [0, 0, 0, 1]


def test_what_nobody_knows_is_left_to_a_person_with_the_evidence():
    """Not found is no proof: after a few questions with doubled pauses nothing more happens."""
    walk = walk_of([LOST] * 3, ASKABLE, [UNKNOWN] * ASKS)
    assert [line for line in walk.trace if "UNKNOWN" in line] == [
        "a UNKNOWN RETRYING +1s",
        "a UNKNOWN RETRYING +2s",
        "a UNKNOWN RETRYING +4s",
        "a UNKNOWN PARKED",
    ]
    assert walk.state.phase is RunPhase.PARKED
    assert [answer.detail for answer in walk.state.steps["a"].answers] == ["not listed"] * ASKS


def test_an_effect_that_can_be_undone_falls_back_after_that_is_confirmed():
    """Cancel comes after verify has failed; once it was asked, the effect is never asked for again."""
    void = Answer(Knowledge.VOIDED, "refunded")
    answers = [LOST] * 3 + [done(claimed_by="pay@paypal")]
    questions = [UNKNOWN] * ASKS + [UNKNOWN, void]
    walk = walk_of(answers, UNDOABLE, questions, EffectClass.COMPENSATABLE)
    asked = [line for line in walk.trace if " of pay@stripe" in line]
    assert asked == [f"a verify {n} of pay@stripe" for n in range(1, ASKS + 1)] + [
        "a cancel 1 of pay@stripe",
        "a cancel 2 of pay@stripe",
    ]
    assert walk.trace[-4] == "start a 4 generation 1 at paypal"


def test_an_idempotent_effect_is_never_undone_unasked():
    """Only the class `compensatable` says that it may be."""
    walk = walk_of([LOST] * 3, UNDOABLE, [UNKNOWN] * ASKS)
    assert not any("cancel" in line for line in walk.trace)
    assert walk.state.phase is RunPhase.PARKED


def test_a_question_survives_its_orchestrator():
    """Whoever takes the run over asks again, and an answer that nobody heard is none."""
    walk = walk_of([LOST] * 3, ASKABLE)
    assert walk.state.steps["a"].asking is not None
    assert walk.replayed().steps["a"].asking == walk.state.steps["a"].asking
    walk.questions = [Answer(Knowledge.VOIDED, "canceled")]
    walk.answers["a"].append(done(claimed_by="pay@paypal"))
    walk = walk.crashed()
    walk.run()
    assert walk.trace[-6:] == [
        "a verify 2 of pay@stripe",
        "a VOIDED RETRYING +0s",
        "start a 4 generation 1 at paypal",
        "a claimed by pay@paypal",
        "a DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_a_key_that_may_be_forgotten_is_not_used_again():
    """Down for longer than providers keep keys: the same request could be a second effect."""
    walk = Walk(
        flow_of(node("a")),
        {"a": [LOST]},
        effects={"a": EffectClass.IDEMPOTENT},
        abilities=ASKABLE,
        questions=[UNKNOWN] * ASKS,
    ).run(until=0.5)
    walk.now += KEY_HOLDS * 2
    walk.run()
    assert [line for line in walk.trace if line.startswith("start")] == ["start a 1"]
    assert walk.state.phase is RunPhase.PARKED


def test_who_does_not_answer_is_asked_for_longer():
    """A node that is started again answers after a while; only answers use up the questions."""
    silence = Answer(Knowledge.UNKNOWN, "UNAVAILABLE", answered=False)
    found = Answer(Knowledge.FOUND, "listed", output=Json.of({"id": "p1"}))
    walk = walk_of([LOST] * 3, ASKABLE, [silence] * 6 + [found])
    asked = [at for at, line in walk.timed if " of pay@stripe" in line]
    assert [after - before for before, after in pairwise(asked)] == [1, 2, 4, 8, 16, 16]
    assert walk.states("a") == {"a": "SUCCEEDED"}


def test_who_never_answers_is_left_to_a_person():
    """After two minutes for each question."""
    silence = Answer(Knowledge.UNKNOWN, "UNAVAILABLE", answered=False)
    walk = walk_of([LOST] * 3, UNDOABLE, [silence] * 50, EffectClass.COMPENSATABLE)
    assert walk.states("a") == {"a": "PARKED"}
    for question in ("verify", "cancel"):
        asked = [at for at, line in walk.timed if f"{question} " in line and " of pay@stripe" in line]
        assert 120 <= asked[-1] - asked[0] < 120 + 16


@pytest.mark.parametrize(("ttl", "hours", "again"), [(1, 0.8, True), (1, 0.95, False), (24, 12, True)])
def test_a_key_is_used_as_long_as_its_claim_says(ttl, hours, again):
    """Each provider keeps keys for its own time; the last tenth of it is left alone."""
    lost = replace(LOST, key_ttl=timedelta(hours=ttl))
    walk = walk_of([lost], ASKABLE, until=0.5)
    walk.now += timedelta(hours=hours)
    walk.answers["a"].append(done(claimed_by="pay@stripe"))
    walk.questions = [UNKNOWN] * ASKS
    walk.run()
    assert walk.states("a") == {"a": "SUCCEEDED" if again else "PARKED"}
    assert len(walk.started) == (2 if again else 1)


def test_the_shortest_word_about_a_key_holds():
    """Two endpoints of different settings have claimed the effect."""
    day, hour = (replace(LOST, key_ttl=timedelta(hours=hours)) for hours in (24, 1))
    walk = walk_of([day, hour], ASKABLE, until=2.5)
    walk.now += timedelta(hours=2)
    walk.questions = [UNKNOWN] * ASKS
    walk.run()
    assert (len(walk.started), walk.states("a")) == (2, {"a": "PARKED"})


def test_once_a_key_may_be_forgotten_nothing_is_undone_and_nothing_is_void():
    """A cancel would act, and a request that is still on its way would be a new effect: a person decides."""
    for answer in (UNKNOWN, Answer(Knowledge.VOIDED, "canceled")):
        walk = walk_of([LOST], UNDOABLE, until=0.5, effect=EffectClass.COMPENSATABLE)
        walk.now += KEY_HOLDS
        walk.questions = [answer] * ASKS
        walk.run()
        assert not any("cancel" in line for line in walk.trace)
        assert (len(walk.started), walk.states("a")) == (1, {"a": "PARKED"})


def test_a_cancel_that_is_due_when_its_key_may_be_forgotten_is_not_asked():
    """Everything was down between verify and cancel."""
    walk = walk_of([LOST] * 3, UNDOABLE, [UNKNOWN] * ASKS, EffectClass.COMPENSATABLE, until=11.5)
    assert walk.state.steps["a"].next_question is Question.CANCEL
    walk.now += KEY_HOLDS
    walk.questions = [UNKNOWN]
    walk.run()
    assert not any("cancel" in line for line in walk.trace)
    assert walk.states("a") == {"a": "PARKED"}


def test_what_is_found_is_done_though_its_key_may_be_forgotten():
    """The effect is there; no key is needed to see it."""
    walk = walk_of([LOST], ASKABLE, until=0.5)
    walk.now += KEY_HOLDS
    walk.questions = [Answer(Knowledge.FOUND, "listed", output=Json.of({"id": "p1"}))]
    walk.run()
    assert walk.states("a") == {"a": "SUCCEEDED"}


def test_a_cancel_while_it_is_asked_leaves_the_effect_unresolved():
    """The run ends, and says of what nobody knows."""
    walk = walk_of([LOST] * 3, ASKABLE).cancel().run()
    assert walk.finished.unresolved_effects == ("a",)
