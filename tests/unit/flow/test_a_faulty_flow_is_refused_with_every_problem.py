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
