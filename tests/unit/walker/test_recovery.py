"""Another orchestrator takes the run over: what becomes of the attempts it finds in flight."""

from __future__ import annotations

import pytest

from reflux.core.attempt import recover
from reflux.core.claim import Verdict, judge
from reflux.core.effect import EffectClass
from reflux.core.event import AttemptFinished, EffectClaimed
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node

EFFECTS = [EffectClass.IDEMPOTENT, EffectClass.COMPENSATABLE, EffectClass.AT_MOST_ONCE]


def lost(answers: list, effect: EffectClass, **keys) -> Walk:
    """A run whose owner dies one second after it began."""
    return (
        Walk(flow_of(node("a", **keys)), {"a": answers}, effects={"a": effect}).run(until=1).crashed(after=10)
    )


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_unclaimed_attempt_is_superseded_and_sent_again(effect):
    """Nothing was done, and nothing will be: at once, under the same key, at no cost to the step."""
    heir = lost([never(), done()], effect)
    assert heir.trace == ["recovered", "a NOT_SENT RETRYING +0s"]
    finished = heir.journal[-1]
    assert isinstance(finished, AttemptFinished)
    assert (finished.counted, finished.failure.reason) == (False, "SUPERSEDED")
    heir.run()
    assert heir.trace[2:] == ["start a 2", "a DONE SUCCEEDED", "run SUCCEEDED"]
    assert heir.state.steps["a"].used == 1


def test_the_superseded_attempt_can_claim_nothing_any_more():
    """Whoever still holds it is refused, before and after the next one has started."""
    heir = lost([never(), never()], EffectClass.AT_MOST_ONCE)
    late = EffectClaimed("a", 1, "zombie", "account", "pay@1")
    assert judge(heir.state, late)[0] is Verdict.REFUSED
    heir.run()
    assert judge(heir.state, late)[0] is Verdict.REFUSED


def test_a_claimed_attempt_of_at_most_once_is_parked():
    """It may have acted, and may not be asked again."""
    heir = lost([never("pay@1")], EffectClass.AT_MOST_ONCE).run()
    assert heir.trace == ["recovered", "a AMBIGUOUS PARKED"]
    failure = heir.state.steps["a"].failure
    assert failure.reason == "EFFECT_AMBIGUOUS"
    assert "pay@1 claimed the effect" in failure.message


@pytest.mark.parametrize("effect", [EffectClass.IDEMPOTENT, EffectClass.COMPENSATABLE])
def test_a_claimed_attempt_with_a_key_is_asked_for_again_where_it_was_claimed(effect):
    """Same key, same version."""
    heir = lost([never("pay@2"), done(claimed_by="pay@2")], effect).run()
    assert heir.trace == [
        "recovered",
        "a AMBIGUOUS RETRYING +1s",
        "start a 2 at 2",
        "a claimed by pay@2",
        "a DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_a_takeover_between_two_attempts_to_find_out_forgets_nothing():
    """The second is superseded, the effect as ambiguous as before, the third goes where the first went."""
    answers = [ambiguous("pay@2"), never(), done(claimed_by="pay@2")]
    walk = Walk(flow_of(node("a")), {"a": answers}, effects={"a": EffectClass.IDEMPOTENT})
    heir = walk.run(until=5).crashed().run()
    assert heir.trace == [
        "recovered",
        "a AMBIGUOUS RETRYING +0s",
        "start a 3 at 2",
        "a claimed by pay@2",
        "a DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_a_pure_attempt_nobody_wrote_down_is_simply_made_again():
    """The journal knows nothing of it, so it is the first one."""
    walk = Walk(flow_of(node("a")), {"a": [done(after=0.2), done()]}).run(until=0.1).crashed().run()
    assert walk.trace == ["recovered", "start a 1", "a DONE SUCCEEDED", "run SUCCEEDED"]


def test_a_slow_pure_attempt_that_was_written_down_is_superseded():
    """Its number is used up, an attempt of the step's retry is not."""
    heir = lost([never(), done()], EffectClass.PURE).run()
    assert heir.trace == [
        "recovered",
        "a NOT_SENT RETRYING +0s",
        "start a 2",
        "a DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_a_wait_for_a_retry_goes_on_where_it_was():
    """Timers are journaled: due before the takeover means at once, due later means then."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "60s", "cap": "60s", "jitter": "none"}))
    for outage, start in ((10, 60), (90, 91)):
        walk = Walk(flow, {"a": [failed("UNAVAILABLE"), done()]}).run(until=1)
        heir = walk.crashed(after=outage).run()
        assert heir.timed[1] == (start, "start a 2 generation 1")


def test_limits_run_on_while_nobody_holds_the_run():
    """A container whose time was over in between fails at once."""
    flow = flow_of({"id": "p", "timeout": {"total": "5s"}, "parallel": {"branches": {"l": [node("a")]}}})
    walk = Walk(flow, {"a": [never(), never()]}).run(until=1)
    heir = walk.crashed(after=10).run()
    assert heir.trace == [
        "recovered",
        "a NOT_SENT RETRYING +0s",
        "timeout p",
        "p FAILED TIMEOUT",
        "run FAILED",
    ]


def test_a_step_past_its_total_time_is_not_sent_again():
    """The attempt after the takeover is given up before it leaves."""
    heir = lost([never(), never()], EffectClass.IDEMPOTENT, timeout={"total": "5s"}).run()
    assert heir.trace == [
        "recovered",
        "a NOT_SENT RETRYING +0s",
        "start a 2",
        "a NOT_SENT FAILED",
        "run FAILED",
    ]
    assert heir.finished.failure.reason == "TIMEOUT"


@pytest.mark.parametrize(
    ("claimed_by", "lines"),
    [
        ("", ["a NOT_SENT CANCELED", "run CANCELED"]),
        ("pay@1", ["a AMBIGUOUS PARKED", "run CANCELED a"]),
    ],
)
def test_a_run_that_was_being_cancelled_ends(claimed_by, lines):
    """Nothing is repeated; what nobody knows is listed."""
    walk = Walk(flow_of(node("a")), {"a": [never(claimed_by)]}, effects={"a": EffectClass.IDEMPOTENT})
    heir = walk.run(until=1).cancel().crashed().run()
    assert heir.trace == ["recovered", *lines]


def test_a_run_without_attempts_in_flight_has_nothing_to_recover():
    """Its journal says everything."""
    walk = Walk(flow_of(node("a"))).run()
    assert list(recover(walk.state, walk.now)) == []


def test_a_second_takeover_finds_what_the_first_one_wrote():
    """Dying again right after the takeover changes nothing but the number of attempts."""
    walk = Walk(
        flow_of(node("a")),
        {"a": [never(), never(), never(), done()]},
        effects={"a": EffectClass.AT_MOST_ONCE},
    )
    heir = walk.run(until=1).crashed().run().crashed().run().crashed().run()
    assert heir.trace[-3:] == ["start a 4", "a DONE SUCCEEDED", "run SUCCEEDED"]
    assert heir.state.steps["a"].used == 1
