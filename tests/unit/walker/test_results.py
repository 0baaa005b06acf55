"""What others see of what a step, or the run, gave: `result` and the flow's `output`."""

from __future__ import annotations

import pytest

from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from tests.support.walk import Walk, done, failed, flow_of, node


def test_a_result_maps_what_the_node_gave():
    """Everybody reads the mapped output, the journal too; what it was made from is not kept."""
    flow = flow_of(
        node("a", result="{{ self.output.body.id }}"),
        {"id": "b", "set": {"seen": "{{ steps.a.output }}"}},
    )
    walk = Walk(flow, {"a": [done({"body": {"id": 7}, "headers": {}})]}).run()
    assert walk.output("a") == 7
    assert walk.output("b") == {"seen": 7}
    assert walk.replayed().steps["a"].output == Json(b"7")


def test_a_result_knows_how_the_step_went():
    """`self` is the step as others will see it: attempts counted, the version that answered."""
    result = {"n": "{{ self.attempts }}", "by": "{{ self.version }}", "state": "{{ self.state }}"}
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "1s", "jitter": "none"}, result=result))
    walk = Walk(
        flow, {"a": [failed("UNAVAILABLE"), done(claimed_by="x@2")]}, effects={"a": EffectClass.IDEMPOTENT}
    )
    assert walk.run().output("a") == {"n": 2, "by": "2", "state": "SUCCEEDED"}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"set": {"n": 1}, "result": "{{ self.output.n + 1 }}"}, 2),
        (
            {"if": {"when": True, "then": [node("i")]}, "result": "{{ [self.output, steps.i.?output] }}"},
            [{}, {}],
        ),
        ({"parallel": {"branches": {"l": [node("i")]}}, "result": "{{ steps.i.output }}"}, {}),
        ({"try": {"steps": [node("i")], "finally": []}, "result": "{{ steps.i.state }}"}, "SUCCEEDED"),
        ({"foreach": {"in": [1, 2], "as": "it"}, "steps": [node("i")], "result": "{{ it }}"}, [1, 2]),
    ],
)
def test_every_step_with_an_output_may_map_it(step, expected):
    """Containers read their own branches once they are over; of a loop it is the value of an iteration."""
    walk = Walk(flow_of({"id": "c", **step})).run()
    assert walk.output("c") == expected


def test_a_result_that_cannot_be_made_fails_the_step_and_not_its_effect():
    """What was done is not done again, whatever `retry` says."""
    flow = flow_of(
        node(
            "pay",
            result="{{ self.output.missing }}",
            on_error="continue",
            retry={"attempts": 3, "delay": "1s"},
        ),
        {"id": "why", "set": {"reason": "{{ steps.pay.error.reason }}"}},
    )
    walk = Walk(flow, {"pay": [done({"id": 1})]}).run()
    assert walk.trace[:2] == ["start pay 1", "pay DONE FAILED"]
    assert walk.output("why") == {"reason": Reason.EXPRESSION_FAILED}


def test_a_result_that_is_too_large_fails_the_step():
    """A mapping may make more of what it got; the limit is that of every output."""
    grow = "{{ " + " + ".join(["self.output.t"] * 3) + " }}"
    walk = Walk(flow_of(node("a", result=grow)), {"a": [done({"t": "x" * 400_000})]}).run()
    assert walk.finished.failure.reason in (Reason.OUTPUT_TOO_LARGE, Reason.EXPRESSION_FAILED)
    assert walk.finished.failure.step == "a"


def test_the_output_of_a_flow_is_made_when_it_ends():
    """Of everything that was there, whichever step came last."""
    flow = flow_of(node("a"), node("b"), output={"a": "{{ steps.a.output.n }}", "b": "{{ steps.b.state }}"})
    walk = Walk(flow, {"a": [done({"n": 1})]}).run()
    assert walk.finished.output == Json(b'{"a":1,"b":"SUCCEEDED"}')


def test_return_goes_over_the_output_of_the_flow():
    """Who returns has said what the run gives."""
    flow = flow_of({"id": "r", "return": {"n": 1}}, node("z"), output={"z": "{{ steps.z.?output }}"})
    assert Walk(flow).run().finished.output == Json(b'{"n":1}')


def test_an_output_that_cannot_be_made_fails_the_run():
    """With the reason, and nowhere in a step."""
    walk = Walk(flow_of(node("a"), output="{{ steps.a.output.missing }}")).run()
    assert walk.trace[-1] == "run FAILED"
    assert (walk.finished.failure.reason, walk.finished.failure.step) == (Reason.EXPRESSION_FAILED, "")
    assert walk.states("a") == {"a": "SUCCEEDED"}


def test_a_declared_effect_goes_with_every_attempt():
    """The command says what the flow says; without it nothing."""
    walk = Walk(flow_of(node("a", effect="idempotent"), node("b"))).run()
    assert [command.effect for command in walk.started] == [EffectClass.IDEMPOTENT, None]
