"""A document nests at most 64 levels, whoever made it: more fails the step that made it, with the place."""

from __future__ import annotations

import pytest

from reflux.core.document import MAX_DEPTH, Json
from reflux.core.event import RunPhase
from reflux.core.expression import Template
from reflux.core.word import Answer
from tests.support.walk import Walk, done, flow_of, node


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def wrapped(levels: int, inside: object) -> object:
    for _ in range(levels):
        inside = {"a": inside}
    return inside


def walked(*steps: dict, levels: int = MAX_DEPTH, **spec: object) -> Walk:
    """Of steps whose nodes give, as the input does, a value of so many levels."""
    value = nested(levels)
    return Walk(flow_of(*steps, **spec), lambda _: done(value), input=value).run()


MAPPINGS = {
    "/set": {"set": {"v": "{{ input }}"}},
    "/return": {"return": {"v": "{{ input }}"}},
    "/with": {"node": "x", "with": {"v": "{{ input }}"}},
    "/cache/key": {"node": "x", "effect": "pure", "cache": {"ttl": "1m", "key": {"v": "{{ input }}"}}},
    "/result": {"set": {"b": 1}, "result": {"v": "{{ input }}"}},
    "/with of a flow": {"flow": "other", "with": {"v": "{{ input }}"}},
}
"""By the place in the step."""


@pytest.mark.parametrize("name", MAPPINGS)
def test_what_wraps_a_document_of_64_levels_is_refused_with_its_place(name: str):
    """Every template of a step counts the levels that it adds itself."""
    walk = walked({"id": "s", **MAPPINGS[name]})
    failure = walk.finished.failure
    assert walk.finished.state is RunPhase.FAILED
    assert (failure.code, failure.reason, failure.step) == ("INVALID_ARGUMENT", "EXPRESSION_FAILED", "s")
    where = f"{name.removesuffix(' of a flow')}/v"
    assert failure.message.split("\n") == [
        "this value nests deeper than 64 levels",
        f"  at {where}",
        "  {{ input }}",
        "     ^",
    ]


@pytest.mark.parametrize("name", MAPPINGS)
def test_63_levels_may_be_wrapped_once(name: str):
    """It is the 65th level that is refused."""
    step = {"id": "s", **MAPPINGS[name]}
    walk = Walk(flow_of(step), input=nested(63), runs={"s": done()}).run()
    assert walk.finished.state is RunPhase.SUCCEEDED


def test_wrapping_again_and_again_ends_at_the_step_that_goes_too_far():
    """Fifty levels around the output before it, six times over: the second is refused."""
    first = {"id": "s0", "set": wrapped(50, "{{ input.n }}")}
    more = [{"id": f"s{i}", "set": wrapped(50, f"{{{{ steps.s{i - 1}.output }}}}")} for i in range(1, 6)]
    walk = Walk(flow_of(first, *more), input={"n": 1}).run()
    assert walk.trace == ["s0 SUCCEEDED", "s1 FAILED EXPRESSION_FAILED", "run FAILED"]
    assert f"  at /set{'/a' * 50}\n  {{{{ steps.s0.output }}}}\n" in walk.finished.failure.message


def test_the_output_of_the_flow_is_a_document():
    """Its place is that in `spec`."""
    walk = walked({"id": "s", "set": {}}, output={"v": "{{ input }}"})
    assert walk.trace[-1] == "run FAILED"
    assert walk.finished.failure.reason == "EXPRESSION_FAILED"
    assert "64 levels\n  at /output/v\n" in walk.finished.failure.message


CONTAINERS = {
    "parallel": {"parallel": {"branches": {"l": [node("n")]}}},
    "foreach": {"foreach": {"in": [1], "as": "it"}, "steps": [node("n")]},
    "foreach with a result": {
        "foreach": {"in": [1], "as": "it"},
        "steps": [node("b")],
        "result": "{{ input }}",
    },
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_a_container_makes_of_outputs_is_a_document(name: str):
    """The list of a foreach and the object of a parallel are a level more."""
    step = {"id": "c", **CONTAINERS[name]}
    assert walked(step, levels=63).finished.state is RunPhase.SUCCEEDED
    walk = walked(step)
    assert walk.trace[-2:] == ["c FAILED OUTPUT_TOO_LARGE", "run FAILED"]
    assert walk.finished.failure.message == "the output of step c nests deeper than 64 levels"


@pytest.mark.parametrize("turns", [0, 1])
def test_the_result_of_a_loop_is_a_document(turns: int):
    """Its place is that in the step, also when there was no turn at all."""
    loop = {"when": f"{{{{ index < {turns} }}}}", "max": 1, "steps": [node("n")]}
    step = {"id": "c", "while": loop, "result": {"v": "{{ input }}"}}
    assert walked(step, levels=63).finished.state is RunPhase.SUCCEEDED
    failure = walked(step).finished.failure
    assert (failure.reason, failure.step) == ("EXPRESSION_FAILED", "c")
    assert "64 levels\n  at /result/v\n" in failure.message


def test_an_answer_is_a_document_with_the_form_in_it():
    """A form of 64 levels makes an output of 65."""
    for levels, end in ((63, "ok SUCCEEDED"), (64, "ok FAILED OUTPUT_TOO_LARGE")):
        walk = Walk(flow_of({"id": "ok", "approve": {"form": {"type": "object"}}})).run()
        walk.say(Answer("a1", "ada", "ok", approved=True, form=Json.of(nested(levels)), comment=""))
        assert end in walk.trace


def test_who_hears_of_a_failure_is_told_without_an_input_that_is_too_deep():
    """There would be no room for it inside of what is told."""
    for levels, kept in ((63, True), (64, False)):
        flow = flow_of({"id": "bad", "fail": {"message": "no"}}, policies={"on_failure": {"flow": "tell"}})
        walk = Walk(flow, input=nested(levels)).run()
        assert (walk.asked[0].input.value["input"] is not None) is kept


def test_the_results_of_a_foreach_end_where_they_are_too_large(monkeypatch: pytest.MonkeyPatch):
    """A thousand results that together are many times too large are not all made."""
    made = []
    evaluate = Template.evaluate

    def counted(self: Template, *given: object) -> object:
        if len(given) > 1:  # with the room that it shares
            made.append(self)
        return evaluate(self, *given)

    monkeypatch.setattr(Template, "evaluate", counted)
    step = {
        "id": "c",
        "foreach": {"in": "{{ input.l }}", "as": "it"},
        "steps": [{"id": "b", "set": {}}],
        "result": "{{ input.l ?? 0 }}",
    }
    walk = Walk(flow_of(step), input={"l": list(range(1_000))}).run()
    assert 400 < len(made) < 600
    assert walk.trace[-1] == "run FAILED"
    failure = walk.finished.failure
    assert (failure.reason, failure.step) == ("EXPRESSION_FAILED", "c")
    assert "larger than 1,048,576 characters" in failure.message
