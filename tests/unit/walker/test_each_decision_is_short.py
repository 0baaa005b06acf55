"""No decision evaluates an expression for each of many things: a walk can stop between any two of them."""

from __future__ import annotations

import pytest

from reflux.core.command import Piece, Record
from reflux.core.expression import Expression, Template
from reflux.core.run import evolve, fold, put
from reflux.core.walker import decide
from tests.support.walk import RUN, START, Walk, created, failed, flow_of, node

ITEMS = {"in": "{{ input.n }}", "as": "it"}
SET = {"id": "a", "set": {"n": "{{ it }}"}}
LOOP = {
    "id": "l",
    "foreach": {**ITEMS, "parallel": 5},
    "result": "{{ steps.a.output.n * 2 }}",
    "steps": [SET],
}
SWITCH = {
    "id": "s",
    "when": "{{ input.n[0] == 0 }}",
    "switch": [
        {"when": f"{{{{ input.n[0] == {n} - 19 }}}}", "steps": [{"id": f"b{n}", "set": {"n": n}}]}
        for n in range(20)
    ],
}
CATCH = {
    "id": "t",
    "try": {
        "steps": [{"id": "bad", "fail": {"message": "no"}}],
        "catch": [
            {
                "when": f"{{{{ error.step == 'bad' && input.n[0] == {n} - 19 }}}}",
                "steps": [{"id": f"h{n}", "set": {"n": n}}],
            }
            for n in range(20)
        ],
        "finally": [{"id": "last", "set": {"n": 1}}],
    },
}
NUMBERS = [*range(20)]


@pytest.fixture
def evaluated(monkeypatch):
    """One more element for each evaluation."""
    evaluated: list[object] = []
    for kind in (Expression, Template):
        real = kind.evaluate
        monkeypatch.setattr(
            kind,
            "evaluate",
            lambda self, *arguments, real=real: evaluated.append(self) or real(self, *arguments),
        )
    return evaluated


@pytest.mark.parametrize(
    ("step", "output"), [(LOOP, [2 * n for n in NUMBERS]), (SWITCH, {"n": 19}), (CATCH, {"n": 19})]
)
def test_whoever_takes_a_run_over_anywhere_gives_the_same(step, output, evaluated):
    """Also between two expressions of one decision, of which the journal says nothing."""
    flow = flow_of(step)
    journal, state = [created(flow, {"n": NUMBERS})], None
    for turn in range(500):
        if turn in (0, 5, 33, 61):
            former, state = state, fold(RUN, flow, journal)
            assert former is None or former.steps[step["id"]].output == state.steps[step["id"]].output
        before = len(evaluated)
        command = decide(state, START)
        # The condition of the step itself, or the step's own value, may come with it.
        assert len(evaluated) - before <= 2
        if command is None:
            break
        if isinstance(command, Piece):
            put(state, command)
            continue
        assert isinstance(command, Record)
        evolve(state, command.event)
        journal.append(command.event)
    assert state.finished is not None
    assert state.steps[step["id"]].output.value == output
    assert state.steps[step["id"]].pieces is None


def test_the_first_that_cannot_be_evaluated_is_named_by_its_place_in_the_list():
    """Not the first that ended; and what was worked out before it is given up."""
    loop = {**LOOP, "result": "{{ 1 / (it - 2) + 1 / (it - 4) }}", "on_error": "continue"}
    walk = Walk(flow_of(loop), input={"n": [4, 1, 2, 3]}).run()
    assert walk.state.steps["l"].failure.reason == "EXPRESSION_FAILED"
    assert walk.state.steps["l"].pieces is None
    assert walk.trace[-1] == "run SUCCEEDED"


def test_results_together_have_one_limit_of_size():
    """Though each is a decision of its own."""
    loop = {**LOOP, "result": "{{ input.text }}"}
    walk = Walk(flow_of(loop), input={"n": NUMBERS, "text": "x" * 400_000}).run()
    assert walk.finished.failure.reason == "EXPRESSION_FAILED"
    assert "together with those before it" in walk.finished.failure.message


def test_iterations_that_end_in_another_order_give_their_values_in_the_order_of_the_list():
    """Those that failed give their error."""
    loop = {
        "id": "l",
        "foreach": {**ITEMS, "parallel": 3, "on_item_error": "collect"},
        "result": "{{ it }}",
        "steps": [node("a")],
    }
    walk = Walk(
        flow_of(loop),
        {"l[0]/a": [failed(after=3)], "l[1]/a": [failed(after=1)]},
        input={"n": [7, 8, 9]},
    ).run()
    first, second, third = walk.output("l")
    assert (first["error"]["step"], second["error"]["step"], third) == ("l[0]/a", "l[1]/a", 9)
