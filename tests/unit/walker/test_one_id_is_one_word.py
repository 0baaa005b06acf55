"""The id of a word stands for all that was said with it: something else under it is refused, never lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.errors import AlreadyExists
from reflux.core.event import Choice
from reflux.core.reasons import Reason
from reflux.core.word import Answer, Overrule, Pause, Resume, Signal, Terminate, Word, hear
from tests.support.walk import Walk, ambiguous, flow_of, node

ASKS = {"id": "ok", "approve": {}}
LINES = {"id": "lines", "foreach": {"in": "{{ [1, 2] }}", "as": "line", "parallel": 2}, "steps": [ASKS]}
END = {"id": "z", "needs": [], "wait": {"for": "1h"}}

YES = Answer("q", "ada", "ok", True, None, "")
PAUSE = Pause("q", "ada", "look first")
SKIP = Overrule("q", "ada", "ok", Choice.SKIP, "")
OTHERS: list[Word] = [
    replace(YES, approved=False),
    replace(YES, comment="fine"),
    replace(YES, form=Json.of({"n": 1})),
    replace(YES, step="z"),
    Terminate("q", "ada", ""),
    Pause("q", "ada", ""),
    Resume("q", "ada", ""),
    SKIP,
    Signal("q", "ada", "shipped", "", Json.of(1)),
]


def heard(*words: Word) -> Walk:
    walk = Walk(flow_of(ASKS, END)).run(until=1)
    for word in words:
        walk.say(word)
    return walk


def parked(**keys: object) -> Walk:
    """A run whose step `pay` is PARKED, and will be again."""
    answers = [ambiguous("pay@1")] * 2
    effects = {"pay": EffectClass.AT_MOST_ONCE}
    return Walk(flow_of(node("pay", **keys), END), {"pay": answers}, effects=effects).run(until=1)


def decide(choice: str, **more: object) -> Overrule:
    return Overrule("c1", "ada", "pay", Choice(choice), "I asked them", **more)


def refuse(walk: Walk, *words: Word) -> None:
    """Each is refused, by the run as it stands and by its journal."""
    for word in words:
        for state in (walk.state, walk.replayed()):
            with pytest.raises(AlreadyExists) as refused:
                hear(state, word, walk.now)
            assert refused.value.reason is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: type(other).__name__)
def test_an_answer_keeps_its_id(other):
    """Whatever else comes with it, also when the run has finished."""
    walk = heard(YES)
    refuse(walk, other)
    walk.run()
    assert walk.finished is not None
    refuse(walk, other)


@pytest.mark.parametrize("word", [YES, PAUSE, SKIP, Terminate("q", "ada", "")])
def test_the_same_word_again_changes_nothing(word):
    """Whoever repeats it, and when."""
    walk = heard(word).run(until=20)
    assert hear(walk.replayed(), replace(word, actor="bob"), walk.now) == ()


def test_what_was_paused_is_not_ended_by_its_id():
    """Nor resumed, nor skipped."""
    refuse(heard(PAUSE), Terminate("q", "ada", "look first"), Resume("q", "ada", "look first"), SKIP)


def test_each_iteration_is_answered_under_an_id_of_its_own():
    """The second would go on waiting, and its sender believe that it was answered."""
    walk = Walk(flow_of(LINES)).run()
    walk.say(replace(YES, step="lines[0]/ok"))
    refuse(walk, replace(YES, step="lines[1]/ok"))
    walk.say(replace(YES, id="r", step="lines[1]/ok"))
    assert walk.finished is not None


def test_a_decision_is_not_another_one():
    """A step that was done again and is PARKED again waits for a new decision."""
    walk = parked().say(decide("retry")).run(until=2)
    assert hear(walk.state, decide("retry"), walk.now) == ()
    refuse(
        walk,
        decide("confirm", output=Json.of({"id": "ch_1"})),
        decide("fall_back", version="2.0.0"),
        replace(decide("retry"), reason="again"),
    )


def test_an_effect_is_confirmed_with_one_output():
    """Where the step maps what it gives, the journal does not have what was confirmed."""
    said = decide("confirm", output=Json.of({"id": "ch_1"}))
    other, nothing = replace(said, output=Json.of({"id": "ch_2"})), replace(said, output=None)
    walk = parked().say(said)
    assert hear(walk.replayed(), said, walk.now) == ()
    refuse(walk, other, nothing)
    mapped = parked(result="{{ self.output.id }}").say(said)
    assert hear(mapped.replayed(), said, mapped.now) == ()
