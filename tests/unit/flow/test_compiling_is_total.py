"""Whatever the document, compiling gives a flow or problems, soon, and never raises."""

from __future__ import annotations

import copy
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.core.document import MAX_DEPTH
from reflux.core.flow import ProblemCode, compile_flow, digest
from reflux.core.flow.problems import MAX_PROBLEMS

WORDS = "name spec steps id node if then else when switch parallel branches set return fail needs retry delay"
TEXTS = st.sampled_from(
    [*WORDS.split(), "a", "b", "{{ steps.a.output }}", "{{ inputs", "true", "1s", "~", "/"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)

GOOD = {
    "name": "good",
    "spec": {
        "input": {"type": "object", "properties": {"x": {"type": "integer"}}},
        "vars": {"limit": 3},
        "policies": {"timeout": "1h", "on_error": "fail"},
        "triggers": [
            {
                "id": "hook",
                "type": "webhook",
                "path": "a/b",
                "method": "PUT",
                "auth": "hmac",
                "secret": {"env": "KEY"},
                "signature": {"header": "x-sig", "prefix": "v=", "encoding": "hex"},
                "delivery_id": "x-id",
                "respond": "run",
                "timeout": "3s",
                "input": {"v": ["{{ request.body }}", "{{ vars.limit }}"]},
            },
            {"id": "open", "type": "webhook", "path": "open"},
        ],
        "steps": [
            {"id": "t", "node": "webhook.trigger", "with": {"path": "t", "auth": "none"}},
            {
                "id": "a",
                "node": "x@1",
                "with": {"v": ["{{ input.x }}", "{{ steps.t.output.y }}"]},
                "needs": ["t"],
                "retry": {"attempts": 2, "on": ["ABORTED"]},
            },
            {"id": "b", "if": {"when": "{{ steps.a.output.ok }}", "then": [{"id": "c", "set": {"y": 1}}]}},
            {"id": "d", "switch": [{"when": True, "steps": []}, {"else": []}], "timeout": {"total": "3s"}},
            {"id": "e", "parallel": {"branches": {"l": [], "r": [{"id": "f", "node": "z"}]}}},
            {"id": "g", "needs": ["a"], "join": "any_success", "fail": {"message": "{{ vars.limit }}"}},
            {"id": "h", "return": "{{ run.id }}"},
        ],
    },
}


@given(VALUES)
def test_any_value_is_judged(document):
    """Wherever a document is anything at all, the answer is a flow or at least one problem."""
    result = compile_flow(document)
    assert (result.flow is None) == bool(result.problems)


ODD = [
    *[None, True, -1, 1.5, "", "a", [], {}, [1], {"a": 1}, ["a"], "1s", 10**30, float("nan"), "\ud800"],
    *["{{", "{{ }}", "{{ steps.a.output }}", "{{ steps['a'] }}", "{{ inputs.x }}", "{{ nodes.a.output }}"],
    *[{"when": True}, {"else": []}, {"steps": []}, [{"id": "a"}], [{"id": "q", "node": "x"}], [["ABORTED"]]],
    *[
        {"id": "zz", "foreach": {}},
        {"$ref": "#"},
        {"pattern": "x"},
        {"$ref": "#/$defs/x", "$defs": {"x": {}}},
    ],
]
KEYS = "version timeout retry maxAttempts backoff onError maxDurationSec needs join when disabled if parallel"


def spoil(document, draw):
    """Replace, remove, repeat or add something somewhere in `document`."""
    container = document
    while True:
        key = draw.choice(list(container) if isinstance(container, dict) else range(len(container)))
        if not isinstance(container[key], dict | list) or not container[key] or draw.random() < 0.15:
            break
        container = container[key]
    match draw.randrange(4):
        case 0 if len(container) > 1:
            del container[key]
        case 1 if isinstance(container, list):
            container.append(copy.deepcopy(draw.choice(container)))
        case 2 if isinstance(container, dict):
            container[draw.choice(KEYS.split())] = copy.deepcopy(draw.choice(ODD))
        case _:
            container[key] = copy.deepcopy(draw.choice(ODD))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_a_good_flow_spoiled_in_any_place_is_judged(seed, times):
    """The compiler goes on to the end; and what it accepts, saved, is the same flow again."""
    document = copy.deepcopy(GOOD)
    draw = random.Random(seed)
    for _ in range(times):
        spoil(document, draw)
    result = compile_flow(document)
    assert (result.flow is None) == bool(result.problems)
    assert all(problem.pointer == "" or problem.pointer.startswith("/") for problem in result.problems)
    if result.flow is not None:
        again = compile_flow({"name": "again", "spec": result.spec})
        assert (again.problems, again.spec) == ((), result.spec)
        assert again.flow.digest == result.flow.digest


def test_the_flow_used_above_is_good():
    """Else the test before would start from a fault."""
    assert compile_flow(GOOD).problems == ()


def test_a_document_that_is_too_deep_is_refused_without_recursion():
    """A bomb of nesting costs one pass."""
    bomb = current = []
    for _ in range(100_000):
        current.append([])
        current = current[0]
    (problem,) = compile_flow({"name": "x", "spec": bomb}).problems
    assert problem.code is ProblemCode.LIMIT_EXCEEDED
    assert str(MAX_DEPTH) in problem.message


def test_a_document_that_is_too_large_is_refused():
    """1 MiB is the limit of every document."""
    flow = {"name": "large", "spec": {"steps": [{"id": "a", "node": "x", "with": {"v": "x" * (1 << 20)}}]}}
    (problem,) = compile_flow(flow).problems
    assert problem.code is ProblemCode.LIMIT_EXCEEDED


def test_more_steps_than_a_flow_may_have_are_refused_once():
    """The first one too many is named, not each."""
    steps = [{"id": f"s{n}", "node": "x"} for n in range(1_200)]
    (problem,) = compile_flow({"name": "many", "spec": {"steps": steps}}).problems
    assert (problem.code, problem.pointer) == (ProblemCode.LIMIT_EXCEEDED, "/spec/steps/1000")


HOSTILE = {
    "unknown keys": {"steps": [{"id": "a", "node": "x"}], **{f"k{n}": 1 for n in range(60_000)}},
    "unknown steps": {"steps": [{"id": "a", "node": "x", "needs": [f"s{n}" for n in range(60_000)]}]},
    "unknown roots": {
        "steps": [{"id": f"s{n}", "set": {"v": ["{{ stps.s0.output }}"] * 9}} for n in range(1_000)]
    },
    "backwards": {
        "steps": [{"id": f"s{n}", "set": {}, "needs": [f"s{n + 1}"] if n < 999 else []} for n in range(1_000)]
    },
    "many needs": {
        "steps": [
            {"id": f"s{n}", "set": {}, "needs": [f"s{m}" for m in range(n)][-100:]} for n in range(1_000)
        ]
    },
    "older roots": {"steps": [{"id": "a", "set": {"v": "{{ inputs.x }}" * 9_000}}]},
    "large schema": {"input": {"properties": {f"p{n}": {} for n in range(60_000)}}, "steps": []},
    "deep schema": {"input": {"$defs": {"a": {}}, "anyOf": [{"$ref": "#/$defs/a"}] * 4_000}, "steps": []},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_document_is_judged_soon(kind):
    """Whatever grows with the document grows about as fast as it, and the list of problems is bounded."""
    begin = time.process_time()
    problems = compile_flow({"name": "hostile", "spec": HOSTILE[kind]}).problems
    assert time.process_time() - begin < 20, "at most a second or two on an ordinary machine"
    assert len(problems) <= MAX_PROBLEMS + 1


def test_problems_that_are_not_listed_are_counted():
    """The last one says how many more there are."""
    problems = compile_flow({"name": "hostile", "spec": HOSTILE["unknown roots"]}).problems
    assert len(problems) == MAX_PROBLEMS + 1
    assert "8800 more" in problems[-1].message


def test_equal_specs_have_equal_digests_whatever_the_order_of_their_keys():
    """The digest is of the meaning, not of the text."""
    assert digest({"a": 1, "b": [1.5, "é"]}) == digest({"b": [1.5, "é"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_document_that_was_read_can_be_sent_back():
    """What the server added is known, and ignored."""
    sent = {
        **GOOD,
        "id": "x",
        "version": 3,
        "digest": "y",
        "etag": "y",
        "create_time": "z",
        "update_time": "z",
        "ui": {"a": 1},
    }
    assert compile_flow(sent).problems == ()
