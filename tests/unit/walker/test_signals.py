"""`wait: {signal: …}`: a step whose output is what somebody outside sends."""

from __future__ import annotations

import pytest

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.errors import AlreadyExists, Exhausted, Refused
from reflux.core.event import RunPhase
from reflux.core.reasons import Reason
from reflux.core.walker import next_wake
from reflux.core.word import MAX_SIGNALS, Resume, Signal, check_ears, hear
from tests.support.walk import Walk, done, failed, flow_of, node

SHIPPED = {"id": "w", "wait": {"signal": "shipped"}}


def signal(number: str = "s1", name: str = "shipped", key: str = "", payload: object = "box") -> Signal:
    return Signal(number, "ada", name, key, Json.of(payload))


def refusal(walk: Walk, word: Signal) -> Reason:
    before = len(walk.journal)
    with pytest.raises((Refused, Exhausted, AlreadyExists)) as refused:
        walk.say(word)
    assert len(walk.journal) == before
    return refused.value.reason


def test_the_payload_is_the_steps_output():
    """It waits for as long as nobody sends it, with no timer, and then the run goes on."""
    walk = Walk(flow_of(SHIPPED, {"id": "r", "return": {"got": "{{ steps.w.output.n }}"}})).run()
    assert (walk.state.phase, next_wake(walk.state)) == (RunPhase.RUNNING, None)
    walk.say(signal(payload={"n": 7}))
    assert walk.trace == ["enter w []", "signal s1 shipped", "w SUCCEEDED", "r SUCCEEDED", "run SUCCEEDED"]
    assert walk.finished.output.value == {"got": 7}


def test_a_signal_before_its_wait_is_kept_and_taken_once():
    """The wait that begins later takes it at once; the next one waits for another."""
    second = {"id": "w2", "wait": {"signal": "shipped"}}
    walk = Walk(flow_of(node("a"), SHIPPED, second), {"a": [done(after=1)]}).run(until=0.5)
    walk.say(signal()).run()
    assert walk.states() == {"a": "SUCCEEDED", "w": "SUCCEEDED", "w2": "RUNNING"}
    assert walk.state.signals == {}
    assert walk.state.heard == {"s1": "w"}


def test_the_same_signal_again_changes_nothing():
    """Before it is taken, after, and when the run has finished."""
    walk = Walk(flow_of(node("a"), SHIPPED), {"a": [done(after=1)]}).run(until=0.5)
    walk.say(signal()).say(signal()).run()
    assert walk.trace.count("signal s1 shipped") == 1
    assert walk.finished.state is RunPhase.SUCCEEDED
    walk.say(signal())
    assert refusal(walk, signal("s2")) is Reason.RUN_FINISHED


def test_another_payload_under_the_same_id_is_refused():
    """Its sender would believe that it has arrived: before the first is taken, after, and at the end."""
    walk = Walk(flow_of(node("a"), SHIPPED), {"a": [done(after=1)]}).run(until=0.5)
    walk.say(signal(payload={"n": 1}))
    for _ in range(2):
        for other in (signal(payload={"n": 2}), signal(name="sent", payload={"n": 1})):
            assert refusal(walk, other) is Reason.REQUEST_ID_REUSED
        walk.run()
    assert walk.finished.state is RunPhase.SUCCEEDED
    with pytest.raises(AlreadyExists):
        hear(walk.replayed(), signal(payload={"n": 2}), walk.now)


def test_a_run_in_quarantine_takes_no_signals():
    """Its sender learns that at once; a run that goes on may be sent it again. What was heard stays heard."""
    walk = Walk(flow_of(node("a"), SHIPPED), {"a": [done(after=9)]}).run(until=0.5).say(signal("s0"))
    walk.tell(ev.RunParked(ev.Failure("INTERNAL", Reason.QUARANTINED, "it kills"), walk.now))
    check_ears(walk.state, signal("s0"))
    check_ears(walk.state, Resume("r", "ada", ""))
    with pytest.raises(Refused) as refused:
        check_ears(walk.state, signal("s1"))
    assert refused.value.reason is Reason.QUARANTINED
    walk.say(Resume("r", "ada", ""))
    check_ears(walk.state, signal("s1"))


def test_signals_are_taken_in_the_order_they_came_by_the_longest_wait():
    """Two of one name, two waits."""
    other = {"id": "w2", "needs": [], "wait": {"signal": "shipped"}}
    walk = Walk(flow_of(SHIPPED, other)).run()
    walk.say(signal("s1", payload=1)).say(signal("s2", payload=2))
    assert (walk.output("w"), walk.output("w2")) == (1, 2)


def test_a_key_keeps_signals_apart():
    """One with a key reaches the wait of that key only; one without reaches any wait of its name."""
    one = {"id": "w", "wait": {"signal": "shipped", "key": "{{ input.n }}"}}
    two = {"id": "w2", "needs": [], "wait": {"signal": "shipped", "key": "b"}}
    walk = Walk(flow_of(one, two), input={"n": 42}).run()
    assert [awaited.key for awaited in walk.state.awaited.values()] == ["42", "b"]
    walk.say(signal("s1", key="b")).say(signal("s2", key="z"))
    assert walk.states() == {"w": "RUNNING", "w2": "SUCCEEDED"}
    walk.say(signal("s3"))
    assert walk.states("w") == {"w": "SUCCEEDED"}


@pytest.mark.parametrize("key", [True, "", "k" * 201, [1], None])
def test_what_is_no_key_fails_the_step(key):
    """The message shows the value."""
    step = {"id": "w", "wait": {"signal": "shipped", "key": "{{ input.k }}"}}
    walk = Walk(flow_of(step), input={"k": key}).run()
    assert walk.finished.failure.reason is Reason.EXPRESSION_FAILED


@pytest.mark.parametrize(("then", "state"), [("fail", "FAILED"), ("continue", "SUCCEEDED"), (None, "FAILED")])
def test_a_timeout_ends_the_wait_as_the_step_says(then, state):
    """It has failed with TIMEOUT, or gives null."""
    wait = {"signal": "shipped", "timeout": "1h", **({"on_timeout": then} if then else {})}
    walk = Walk(flow_of({"id": "w", "on_error": "continue", "wait": wait}, node("b"))).run()
    assert walk.timed[1][0] == 3600
    assert walk.states() == {"w": state, "b": "SUCCEEDED"}
    run = walk.state.steps["w"]
    assert (run.failure.reason if run.failure else run.output.value) == (
        Reason.TIMEOUT if state == "FAILED" else None
    )


def test_of_signal_and_timeout_the_first_recorded_stands():
    """A signal that came is taken, whoever looks late; one after the timeout is refused, and says so."""
    flow = flow_of(
        {"id": "w", "wait": {"signal": "shipped", "timeout": "1m"}, "on_error": "continue"}, node("b")
    )
    late = Walk(flow, {"b": [done(after=9)]}).run(until=61)
    assert refusal(late, signal()) is Reason.SIGNAL_TOO_LATE
    assert late.states("w") == {"w": "FAILED"}
    just = Walk(flow, {"b": [done(after=9)]}).run(until=30)
    just.now = just.now.replace(hour=1)
    just.say(signal())
    assert just.trace[:3] == ["enter w []", "signal s1 shipped", "w SUCCEEDED"]


def test_a_cancel_ends_the_wait_and_a_signal_comes_too_late():
    """CANCELED at once."""
    walk = Walk(flow_of(SHIPPED)).run().cancel()
    assert walk.states() == {"w": "CANCELED"}
    assert refusal(walk, signal()) is Reason.RUN_FINISHED


def test_a_failure_beside_it_ends_the_wait():
    """As any other step that can be given up."""
    walk = Walk(flow_of(SHIPPED, node("a", needs=[])), {"a": [failed(after=1)]}).run()
    assert walk.states() == {"w": "CANCELED", "a": "FAILED"}


def test_an_unknown_name_is_refused_with_the_names_there_are():
    """A typing error never waits for ever."""
    walk = Walk(flow_of(SHIPPED, {"id": "p", "wait": {"signal": "paid"}})).run()
    with pytest.raises(Refused, match="paid, shipped") as refused:
        walk.say(signal(name="shiped"))
    assert refused.value.reason is Reason.SIGNAL_UNKNOWN
    bare = Walk(flow_of(node("a"))).run(until=0)
    with pytest.raises(Refused):
        bare.say(signal())


def test_a_run_keeps_so_many_signals_and_no_more():
    """One that is taken at once is never one too many."""
    other = {"id": "p", "wait": {"signal": "paid"}}
    walk = Walk(flow_of(SHIPPED, other)).run()
    for number in range(MAX_SIGNALS):
        walk.say(signal(f"p{number}", name="paid"))
    assert refusal(walk, signal("more", name="paid")) is Reason.SIGNALS_FULL
    walk.say(signal("s1"))
    assert walk.finished.state is RunPhase.SUCCEEDED


def test_a_run_that_holds_as_much_as_it_may_takes_no_signal(monkeypatch):
    """Not even one that a step waits for: its output would be too much."""
    monkeypatch.setattr("reflux.core.word.MAX_RUN_BYTES", 100)
    walk = Walk(flow_of(SHIPPED)).run()
    assert refusal(walk, signal(payload="x" * 100)) is Reason.SIGNALS_FULL
    walk.say(signal(payload="x" * 50))
    assert walk.finished.state is RunPhase.SUCCEEDED


def test_a_wait_in_a_loop_takes_one_signal_in_each_iteration():
    """Also those that came before; when the loop is over a further one comes too late."""
    loop = {
        "id": "l",
        "while": {"when": "{{ index < 2 }}", "max": 2, "steps": [SHIPPED]},
    }
    walk = Walk(flow_of(loop, {"id": "end", "wait": {"signal": "end"}})).run()
    walk.say(signal("s1", payload=1)).say(signal("s2", payload=2))
    assert walk.states("l[0]/w", "l[1]/w", "l") == {
        "l[0]/w": "SUCCEEDED",
        "l[1]/w": "SUCCEEDED",
        "l": "SUCCEEDED",
    }
    assert refusal(walk, signal("s3")) is Reason.SIGNAL_TOO_LATE


def test_the_journal_alone_gives_the_same_signals():
    """What was kept, what was taken, and what was heard."""
    walk = Walk(flow_of(node("a"), SHIPPED, {"id": "p", "wait": {"signal": "paid", "key": "k"}})).run()
    walk.say(signal()).say(signal("s2"[:2], name="paid", key="z"))
    again = walk.replayed()
    assert (again.signals, again.heard, again.awaited) == (
        walk.state.signals,
        walk.state.heard,
        walk.state.awaited,
    )
    assert again.stored == walk.state.stored
    assert walk.crashed().run().states() == walk.states()
