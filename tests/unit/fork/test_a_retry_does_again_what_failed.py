"""A retry goes on from whatever ended the run, and repeats nothing that had succeeded."""

from __future__ import annotations

import pytest

from reflux.core.effect import EffectClass
from reflux.core.errors import Refused
from reflux.core.event import Choice, SkipReason
from reflux.core.fork import plan_retry
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.word import Overrule, Terminate, WordId
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node
from tests.unit.fork.forks import calls, forked, retried


def test_the_failed_step_is_done_again():
    """And then what never began."""
    flow = flow_of(node("a"), node("b"), node("c"))
    origin = Walk(flow, {"b": [failed()]}).run()
    retry = retried(origin)
    assert calls(retry) == ["b", "c"]
    assert retry.finished.state == "SUCCEEDED"


def test_a_retry_may_be_retried():
    """What the first one kept is kept on."""
    flow = flow_of(node("a"), node("b"), node("c"))
    once = retried(Walk(flow, {"b": [failed()]}).run(), {"c": [failed()]})
    assert calls(retried(once)) == ["c"]


def test_everything_that_was_cut_off_is_done_again():
    """A failure cancels what goes on beside it."""
    flow = flow_of(
        {
            "id": "p",
            "parallel": {"branches": {"l": [node("l1"), node("l2")], "r": [node("r1")], "s": [node("s1")]}},
        }
    )
    origin = Walk(flow, {"r1": [failed(after=1)], "l2": [never()]}).run()
    retry = retried(origin)
    assert sorted(calls(retry)) == ["l2", "r1"]
    assert retry.finished.state == "SUCCEEDED"


def test_items_that_were_done_are_not_done_again():
    """Of a loop that failed only what had not succeeded is repeated."""
    flow = flow_of(
        {
            "id": "lines",
            "foreach": {"in": "{{ input }}", "as": "n", "parallel": 2},
            "steps": [node("charge"), node("mail")],
        },
        node("end"),
    )
    answers = {"lines[2]/mail": [failed()]}
    origin = Walk(flow, answers, [0, 1, 2, 3]).run()
    assert origin.finished.state == "FAILED"
    retry = retried(origin)
    assert "lines[2]/mail" in calls(retry)
    assert "lines[2]/charge" not in calls(retry)
    assert "lines[0]/charge" not in calls(retry)
    assert retry.finished.state == "SUCCEEDED"


def test_a_loop_at_its_limit_goes_on_with_a_higher_one():
    """The container failed by itself, so it is entered again, with all that is inside of it."""

    def pages(most: int):
        return flow_of({"id": "p", "while": {"when": "{{ index < 5 }}", "max": most, "steps": [node("get")]}})

    origin = Walk(pages(2)).run()
    assert origin.finished.state == "FAILED"
    assert calls(retried(origin, flow=pages(9))) == ["p[2]/get", "p[3]/get", "p[4]/get"]


def test_a_failure_that_was_passed_on_is_retried_where_it_arose():
    """A handler that tells and fails has nothing to do better."""
    flow = flow_of(
        {
            "id": "t",
            "try": {
                "steps": [node("a"), node("b")],
                "catch": [{"steps": [node("tell"), {"id": "f", "fail": {"message": "no"}}]}],
                "finally": [node("close")],
            },
        }
    )
    origin = Walk(flow, {"b": [failed()]}).run()
    assert calls(retried(origin)) == ["b", "close"]


def test_a_handler_that_failed_is_taken_up_again():
    """What it had done stands; so does the failure that it caught."""
    flow = flow_of(
        {
            "id": "t",
            "try": {
                "steps": [node("a"), node("b")],
                "catch": [{"steps": [node("undo"), node("tell")]}],
                "finally": [node("close")],
            },
        }
    )
    origin = Walk(flow, {"b": [failed()], "tell": [failed()]}).run()
    assert calls(retried(origin)) == ["tell", "close"]


def test_a_canceled_run_goes_on_where_it_was():
    """What was in flight is done again."""
    flow = flow_of(node("a"), node("b"), node("c"))
    origin = Walk(flow, {"b": [never()]}).run(until=1).cancel().run()
    assert origin.finished.state == "CANCELED"
    assert calls(retried(origin)) == ["b", "c"]


def test_only_what_failed_or_was_canceled_can_be_retried():
    """A run that succeeded has nothing to repeat."""
    origin = Walk(flow_of(node("a"))).run()
    with pytest.raises(Refused, match="SUCCEEDED") as refused:
        plan_retry(origin.state, origin.flow)
    assert refused.value.reason == "RUN_NOT_FAILED"


def test_what_somebody_has_skipped_stays_skipped():
    """Also after what is done again, and by a retry of the retry: somebody has paid in cash."""
    flow = flow_of({"id": "w", "wait": {"for": "1s"}}, node("a"), node("pay"), node("z"))
    origin = Walk(flow, {"a": [failed()]})
    origin.say(Overrule(WordId("d"), "ada", StepPath("pay"), Choice.SKIP, "in cash")).run()
    once = retried(origin, {"a": [failed()]})
    again = retried(once)
    assert (calls(once), calls(again)) == (["a"], ["a", "z"])
    assert again.state.steps[StepPath("pay")].skip_reason is SkipReason.HAND
    assert calls(forked(origin, "a")) == ["a", "pay", "z"]


def test_a_parked_run_says_what_has_to_be_said_first():
    """A person decides about its step; then it ends, or goes on by itself."""
    flow = flow_of(node("pay"))
    origin = Walk(flow, {"pay": [ambiguous("pay@1")]}, effects={"pay": EffectClass.AT_MOST_ONCE}).run()
    with pytest.raises(Refused, match="say first what became of step pay"):
        plan_retry(origin.state, flow)


def test_an_effect_that_nobody_knows_is_not_repeated_by_a_retry():
    """A person must name the step to say that it may happen again."""
    flow = flow_of(node("pay"))
    classes = {"pay": EffectClass.AT_MOST_ONCE}
    origin = Walk(flow, {"pay": [ambiguous("x@1")]}, effects=classes).run().cancel().run()
    assert origin.finished.unresolved_effects == ("pay",)
    with pytest.raises(Refused) as refused:
        plan_retry(origin.state, flow)
    assert refused.value.reason == "STEP_UNRESOLVED"


def test_a_timeout_of_the_flow_repeats_no_effect():
    """What had ended in time stands."""
    flow = flow_of(node("a"), node("b"), policies={"timeout": "5s"})
    origin = Walk(flow, {"a": [done({"n": 1})], "b": [never()]}).run()
    assert origin.finished.failure.reason == "TIMEOUT"
    assert calls(retried(origin)) == ["b"]


def test_what_was_undone_is_done_again_and_so_is_what_comes_after():
    """A charge that was paid back does not stand; the look before it does, the shipping after it does not."""
    undo = {"compensate": {"node": "undo", "with": {}}}
    flow = flow_of(node("look"), node("charge", **undo), node("ship"), node("tell"))
    origin = Walk(flow, {"tell": [failed()]}).run()
    assert calls(origin)[-1] == "charge~compensate"

    retry = retried(origin)
    assert calls(retry) == ["charge", "ship", "tell"]
    assert retry.finished.state == "SUCCEEDED"


def test_what_could_not_be_undone_stands():
    """Its compensation failed, so what it did is still done: it is not done twice."""
    undo = {"compensate": {"node": "undo", "with": {}}}
    flow = flow_of(node("charge", **undo), node("tell"))
    origin = Walk(flow, {"tell": [failed()], "charge~compensate": [failed()]}).run()

    assert calls(retried(origin)) == ["tell"]


def test_a_terminated_run_repeats_no_effect_of_which_nobody_knows():
    """What had claimed its effect when the run was ended may have acted: only who names it repeats it."""
    flow = flow_of(node("a"), node("pay"), node("c"))
    answers = {"pay": [never(claimed_by="pay@1")]}
    origin = Walk(flow, answers, effects={"pay": EffectClass.AT_MOST_ONCE}).run(until=1)
    origin.say(Terminate(WordId("t"), "me", ""))
    assert origin.finished.unresolved_effects == ("pay",)
    with pytest.raises(Refused) as refused:
        plan_retry(origin.state, flow)
    assert refused.value.reason == "STEP_UNRESOLVED"
    assert calls(forked(origin, "pay")) == ["pay", "c"]


def test_a_terminated_run_that_claimed_nothing_is_retried():
    """What was in flight and unclaimed surely did nothing."""
    flow = flow_of(node("a"), node("pay"))
    origin = Walk(flow, {"pay": [never()]}, effects={"pay": EffectClass.AT_MOST_ONCE}).run(until=1)
    origin.say(Terminate(WordId("t"), "me", ""))
    assert calls(retried(origin)) == ["pay"]


def test_who_may_have_been_undone_is_gone_on_with_as_the_refusal_says():
    """Nothing goes on from a compensation: the refusal names what it undoes, and both ways that work."""
    undo = {"compensate": {"node": "undo", "with": {}}}
    flow = flow_of(node("charge", **undo), node("ship"), node("tell"))
    answers = {"ship": [failed()], "charge~compensate": [ambiguous("undo@1")]}
    effects = {"charge~compensate": EffectClass.AT_MOST_ONCE}
    origin = Walk(flow, answers, effects=effects).run().cancel().run()
    assert origin.finished.unresolved_effects == ("charge~compensate",)
    with pytest.raises(Refused) as refused:
        plan_retry(origin.state, flow)
    assert refused.value.reason is Reason.STEP_UNRESOLVED
    assert "fork from charge to do it again, or from a step that comes after it" in str(refused.value)
    assert calls(forked(origin, "charge")) == ["charge", "ship", "tell"]
    assert calls(forked(origin, "ship")) == ["ship", "tell"]
