"""The corpus of faulty flows: each file says what it is about, the flow, and all problems it must give."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reflux.core.flow import ProblemCode, compile_flow
from reflux.core.flow.hints import HINTS

CORPUS = sorted((Path(__file__).parent / "faulty").glob("*.yaml"))
FROM_PLAN = {
    ProblemCode.UNKNOWN_NODE,
    ProblemCode.UNKNOWN_VERSION,
    ProblemCode.NO_ROUTE,
    ProblemCode.UNKNOWN_CREDENTIAL,
    ProblemCode.EFFECT_WEAKER,
    ProblemCode.FLOW_CYCLE,
    ProblemCode.UNKNOWN_FLOW,
    ProblemCode.SECRET_MISSING,
    ProblemCode.INPUT_INVALID,
    ProblemCode.OUTPUT_UNKNOWN,
}


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_exactly_the_expected_problems_are_found_in_document_order(file):
    """Nothing is missing, nothing more is reported, and no flow comes out."""
    case = yaml.safe_load(file.read_text(encoding="utf-8"))
    result = compile_flow(case["flow"])
    found = [{"code": problem.code.value, "pointer": problem.pointer} for problem in result.problems]
    assert found == case["expect"], "\n".join(map(str, result.problems))
    assert result.flow is None
    assert all(problem.message and problem.hint for problem in result.problems)


def test_every_code_has_a_hint_of_its_own() -> None:
    """For the problems that nobody can say anything better about."""
    assert set(HINTS) == set(ProblemCode)
    assert len(set(HINTS.values())) == len(HINTS)


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_every_problem_says_what_is_wrong(file):
    """A message is a sentence for people, not a code."""
    result = compile_flow(yaml.safe_load(file.read_text(encoding="utf-8"))["flow"])
    assert all(len(problem.message.split()) > 2 for problem in result.problems)


def test_the_corpus_shows_every_code_that_compiling_can_give():
    """A code without a faulty flow would be a promise that nobody has seen kept."""
    shown = {entry["code"] for file in CORPUS for entry in yaml.safe_load(file.read_text())["expect"]}
    assert shown == {code.value for code in ProblemCode if code not in FROM_PLAN}


def first(*steps):
    """The first problem of a flow of these steps."""
    return compile_flow({"name": "one", "spec": {"steps": list(steps)}}).problems[0]


@pytest.mark.parametrize("word", ["in", "true", "null"])
def test_a_word_of_the_expression_language_is_said_to_be_one(word):
    """It keeps to the rule for names, so the rule is no help."""
    problem = first({"id": word, "node": "x"})
    assert problem.message == f"'{word}' cannot be the id of a step: it is a word of the expression language"
    assert problem.hint == "choose another name"


@pytest.mark.parametrize(
    ("step", "quotes"),
    [
        ({"node": "x", "name": 5}, True),
        ({"node": "x", "name": [5]}, False),
        ({"node": "x", "needs": "a"}, False),
        ({"fail": "boom"}, False),
        ({"node": "x", "retry": {"attempts": "3"}}, False),
    ],
)
def test_quotes_are_recommended_where_text_is_wanted(step, quotes):
    """Not where the text is what is wrong."""
    problem = first({"id": "s", **step})
    assert problem.code == ProblemCode.WRONG_TYPE
    assert ("quotes" in problem.hint) is quotes


@pytest.mark.parametrize(
    "loop",
    [
        {"foreach": {"in": [1], "as": "n"}, "steps": [{"id": "b", "node": "x"}]},
        {"while": {"when": False, "max": 1, "steps": [{"id": "b", "node": "x"}]}},
    ],
)
def test_the_result_of_a_loop_has_no_self_and_the_hint_says_what_it_has(loop):
    """It is made of an iteration, so what the loop gives is not there yet."""
    problem = first({"id": "l", **loop, "result": "{{ self.output }}"})
    assert (problem.code, problem.pointer) == (ProblemCode.UNKNOWN_ROOT, "/spec/steps/0/result")
    assert problem.message.startswith("the result of a loop has no self")
    assert problem.hint == "read the steps of the body, such as steps.b.output"
