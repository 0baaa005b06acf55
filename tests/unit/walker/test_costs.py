"""What calls cost is kept with their outcomes, and may be read as `steps.<id>.cost`."""

from __future__ import annotations

from dataclasses import replace

from reflux.core import event as ev
from reflux.core.cost import MAX_NANOS, believable, dollars
from reflux.core.names import StepPath
from tests.support.walk import Walk, done, failed, flow_of, node
from tests.unit.fork.forks import forked

CENT = 10_000_000
"""In billionths of a dollar."""
SEEN = {"id": "seen", "set": {"cost": "{{ steps.a.cost }}"}}


def _cost(walk: Walk, step: str) -> int | None:
    found = walk.state.steps[StepPath(step)].cost_nanos
    assert walk.replayed().steps[StepPath(step)].cost_nanos == found, "a replay says something else"
    return found


def test_a_step_costs_what_its_attempts_have_told():
    """Those that failed were paid for as well; the sum is exact, and dollars to whoever reads it."""
    flow = flow_of(node("a", retry={"attempts": 3, "delay": "1s"}), SEEN)
    answers = [failed("UNAVAILABLE", cost=CENT), failed("UNAVAILABLE"), done(cost=2 * CENT)]
    walk = Walk(flow, {"a": answers}).run()
    assert _cost(walk, "a") == walk.state.cost_nanos == 3 * CENT
    assert walk.output("seen") == {"cost": 0.03}
    assert [each.cost_nanos for each in walk.state.steps[StepPath("a")].finished] == [CENT, None, 2 * CENT]


def test_a_cost_that_nobody_told_is_not_nothing():
    """Null, for which an expression may put what it likes; a cost of 0 that was told is 0."""
    reads = {"id": "reads", "set": {"sum": "{{ (steps.a.cost ?? 7) + steps.b.cost }}"}}
    flow = flow_of(node("a"), node("b"), SEEN, reads)
    walk = Walk(flow, {"b": [done(cost=0)]}).run()
    assert walk.output("seen") == {"cost": None}
    assert walk.output("reads") == {"sum": 7}
    assert (_cost(walk, "a"), _cost(walk, "b"), walk.state.cost_nanos) == (None, 0, 0)


def test_a_result_sees_the_cost_of_the_attempt_that_gave_it():
    """`self.cost` is what others will read."""
    flow = flow_of(node("a", retry={"attempts": 2}, result="{{ self.cost }}"), SEEN)
    walk = Walk(flow, {"a": [failed("UNAVAILABLE", cost=CENT), done(cost=CENT)]}).run()
    assert walk.output("a") == 0.02
    assert walk.output("seen") == {"cost": 0.02}


def test_a_container_costs_what_its_steps_do():
    """Iterations and branches are added up on every level, also of one that failed."""
    inner = {"id": "which", "if": {"when": "{{ index == 0 }}", "then": [node("ask")], "else": [node("look")]}}
    a = {"id": "a", "foreach": {"in": [1, 2, 3], "as": "n", "on_item_error": "collect"}, "steps": [inner]}
    answers = {"a[0]/ask": [done(cost=CENT)], "a[1]/look": [failed(cost=CENT)], "a[2]/look": [done()]}
    walk = Walk(flow_of(a, SEEN), answers).run()
    assert walk.output("seen") == {"cost": 0.02}
    assert [_cost(walk, f"a[{index}]/which") for index in range(3)] == [CENT, CENT, None]


def test_undoing_is_paid_by_the_run_and_not_by_the_step():
    """What a step cost does not change after others have read it."""
    a = node("a", compensate={"node": "undo"})
    answers = {"a": [done(cost=CENT)], "a~compensate": [done(cost=5 * CENT)]}
    walk = Walk(flow_of(a, {"id": "no", "fail": {"message": "no"}}), answers).run()
    assert _cost(walk, "a") == CENT
    assert _cost(walk, "a~compensate") == 5 * CENT
    assert walk.state.cost_nanos == 6 * CENT


def test_a_kept_outcome_keeps_its_cost_and_is_not_paid_twice():
    """Whoever reads it sees what it cost where it was done; the run that goes on has not paid for it."""
    body = {"id": "box", "if": {"when": True, "then": [node("i"), node("j")]}}
    read = {"id": "read", "set": {"a": "{{ steps.a.cost }}", "box": "{{ steps.box.cost }}"}}
    flow = flow_of(node("a"), body, node("b"), read)
    told = {"a": [done(cost=CENT)], "i": [done(cost=CENT)], "j": [done(cost=CENT)], "b": [done(cost=CENT)]}
    walk = forked(Walk(flow, told).run(), "b", {"b": [done(cost=3 * CENT)]})
    assert walk.output("read") == {"a": 0.01, "box": 0.02}
    assert [_cost(walk, step) for step in ("a", "box", "i", "j", "b")] == [
        CENT,
        2 * CENT,
        CENT,
        CENT,
        3 * CENT,
    ]
    assert walk.state.cost_nanos == 3 * CENT
    again = forked(walk, "read")
    assert again.output("read") == {"a": 0.01, "box": 0.02}
    assert again.state.cost_nanos is None


def test_a_container_that_is_entered_anew_counts_what_was_kept_in_it():
    """The half that is not done again was a part of what the container cost."""
    body = {"id": "box", "if": {"when": True, "then": [node("i"), node("j")]}}
    read = {"id": "read", "set": {"box": "{{ steps.box.cost }}"}}
    flow = flow_of(body, read)
    walk = Walk(flow, {"i": [done(cost=CENT)], "j": [done(cost=CENT)]}).run()
    later = forked(walk, "j", {"j": [done(cost=4 * CENT)]})
    assert later.output("read") == {"box": 0.05}
    assert later.state.cost_nanos == 4 * CENT


def test_an_outcome_that_comes_second_costs_nothing():
    """The first one recorded stands, with its cost."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [done(cost=CENT)]}).run()
    first = next(event for event in walk.journal if isinstance(event, ev.AttemptFinished))
    walk.tell(replace(first, cost_nanos=9 * CENT))
    assert _cost(walk, "a") == walk.state.cost_nanos == CENT


def test_what_cannot_be_a_cost_counts_as_not_told():
    """A node in any language may tell nonsense; sums stay sums."""
    assert [believable(told) for told in (-1, 0, MAX_NANOS, MAX_NANOS + 1, None)] == [
        None,
        0,
        MAX_NANOS,
        None,
        None,
    ]
    assert dollars(1) == 1e-9
