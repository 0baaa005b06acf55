"""Whatever is wrong with a request, the answer names the place and what to do, in one shape."""

import json

import pytest

from tests.support.rest import Rest

STEP = {"id": "a", "node": "http.request", "with": {"url": "https://example.org"}}


def flow(*steps, name="bad-input", **spec):
    return {"name": name, "spec": {"steps": list(steps), **spec}}


def reason(answer):
    """The one ErrorInfo of an answer, checked for shape."""
    error = answer.json
    assert set(error) >= {"code", "message", "details"}, error
    assert error["message"]
    [info] = [detail for detail in error["details"] if detail["@type"].endswith("google.rpc.ErrorInfo")]
    assert info["domain"] == "reflux.dev"
    return info["reason"]


def places(answer):
    """The fields that its BadRequest names."""
    return [
        (violation["field"], violation["description"])
        for detail in answer.json["details"]
        if detail["@type"].endswith("google.rpc.BadRequest")
        for violation in detail["field_violations"]
    ]


@pytest.mark.parametrize(
    ("document", "place", "said"),
    [
        (flow({**STEP, "retries": 3}), "/spec/steps/0/retries", "UNKNOWN_KEY"),
        (flow({**STEP, "needs": ["b"]}, {**STEP, "id": "b", "needs": ["a"]}), "/spec/steps/0/needs", "CYCLE"),
        (flow(STEP, STEP), "/spec/steps/1/id", "DUPLICATE_ID"),
        (
            flow({"id": "x", "set": {"v": "{{ steps.y.output.v }}"}}, {"id": "y", "set": {"v": 1}}),
            "/spec/steps/0/set/v",
            "STEP_NOT_BEFORE",
        ),
        (
            flow({**STEP, "credentials": "{{ input.mine }}"}),
            "/spec/steps/0/credentials",
            "TEMPLATE_NOT_ALLOWED",
        ),
        (
            flow(STEP, triggers=[{"id": "night", "type": "cron", "cron": "0 0 30 2 *"}]),
            "/spec/triggers/0/cron",
            "BAD_SCHEDULE",
        ),
        ({**flow(STEP), "specs": {}}, "/specs", "UNKNOWN_KEY"),
    ],
    ids=[
        "unknown-key",
        "cycle",
        "duplicate-id",
        "later-step",
        "chosen-credential",
        "triggers",
        "unknown-field",
    ],
)
def test_a_faulty_flow_is_refused_with_every_place(rest: Rest, document, place, said):
    """A flow with problems is not saved; each problem is a field violation with its code."""
    answer = rest("POST", "/api/flows", document)

    assert answer.status == 400
    assert reason(answer) == "FLOW_INVALID"
    assert any(field == place and said in text for field, text in places(answer)), places(answer)


def test_a_plan_names_unknown_nodes_versions_and_wrong_input_types(rest: Rest):
    """What a flow cannot do here and now is found without running it, all at once."""
    steps = [
        {"id": "a", "node": "http.requst", "with": {}},
        {"id": "b", "node": "http.request@9.9.9", "with": {"url": "https://example.org"}},
        {"id": "c", "node": "http.request", "with": {"url": 7}},
    ]
    plan = rest.post("/api/flows:plan", flow(*steps))

    found = {(problem["code"], problem["pointer"]) for problem in plan["problems"]}
    assert not plan["valid"]
    assert ("UNKNOWN_NODE", "/spec/steps/0/node") in found
    assert ("UNKNOWN_VERSION", "/spec/steps/1/node") in found
    assert ("INPUT_INVALID", "/spec/steps/2/with/url") in found
    assert all(problem["hint"] for problem in plan["problems"])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([{"id": "a", "node": "nobody.knows"}], "NODE_NOT_FOUND"),
        (
            [{"id": "a", "node": "http.request@9.9.9", "with": {"url": "https://x.test"}}],
            "NODE_VERSION_NOT_FOUND",
        ),
        (
            [{"id": "a", "node": "http.request", "with": {"url": "{{ input.nothing.here }}"}}],
            "EXPRESSION_FAILED",
        ),
        ([{"id": "a", "node": "http.request", "with": {"url": "{{ input.number }}"}}], "INPUT_INVALID"),
    ],
    ids=["unknown-node", "unknown-version", "missing-field", "wrong-type"],
)
def test_a_step_that_cannot_be_done_fails_with_its_reason(rest: Rest, steps, expected):
    """The run fails and says in which step and why; nothing hangs."""
    name = f"fails-{expected.lower().replace('_', '-')}"
    rest("PUT", f"/api/flows/{name}?allow_missing=true", flow(*steps, name=name)).ok()
    run = rest.post(f"/api/flows/{name}/execute?wait=30s", {"number": 7})

    assert run["state"] == "FAILED"
    assert run["error"]["reason"] == expected
    assert run["error"]["step"] == "a"


def test_documents_that_are_bombs_are_refused(rest: Rest):
    """Depth, size and duplicate keys are bounded at the edge, for flows and for inputs."""
    rest("PUT", "/api/flows/bombs?allow_missing=true", flow({"id": "a", "set": {"v": 1}}, name="bombs")).ok()
    deep = b"[" * 70 + b"]" * 70
    large = json.dumps({"x": "y" * (2 << 20)}).encode()
    double = b'{"a": 1, "a": 2}'
    execute = "/api/flows/bombs/execute"

    for path in ("/api/flows", execute):
        assert reason(rest("POST", path, raw=deep)) == "DOCUMENT_UNREADABLE"
        assert reason(rest("POST", path, raw=double)) == "DOCUMENT_UNREADABLE"
        assert rest("POST", path, raw=large).status in (400, 413)
    assert "line 1" in rest("POST", execute, raw=double).json["message"]


def test_wrong_content_types_unknown_parameters_and_paths_are_refused(rest: Rest):
    """Nothing that was sent is ignored in silence."""
    form = rest("POST", "/api/flows", raw=b"a=b", content_type="application/x-www-form-urlencoded")
    parameter = rest("GET", "/api/runs?colour=red")
    path = rest("GET", "/api/flowers")
    method = rest("DELETE", "/api/runs")

    assert (form.status, reason(form)) == (400, "CONTENT_TYPE_UNSUPPORTED")
    assert "Content-Type: application/json" in form.json["message"]
    assert (parameter.status, reason(parameter)) == (400, "EDGE_REFUSED")
    assert "colour" in parameter.json["message"]
    assert (path.status, reason(path)) == (404, "EDGE_REFUSED")
    assert method.status in (404, 405)
    assert reason(method) == "EDGE_REFUSED"


def test_an_input_that_does_not_fit_the_flow_is_refused_before_anything_runs(rest: Rest):
    """The flow's own schema is checked, and the answer points into the input."""
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    document = flow({"id": "a", "return": "{{ input.n }}"}, name="typed", input=schema)
    rest("PUT", "/api/flows/typed?allow_missing=true", document).ok()
    answer = rest("POST", "/api/flows/typed/execute", {"n": "seven"})

    assert (answer.status, reason(answer)) == (400, "INPUT_INVALID")
    assert [field for field, _ in places(answer)] == ["/n"]


def test_page_tokens_of_other_lists_and_wrong_sizes_are_refused(rest: Rest):
    """A token is good for the list and the filters it was made for."""
    assert reason(rest("GET", "/api/runs?page_token=bm90IG91cnM")) == "PAGE_TOKEN_INVALID"
    assert reason(rest("GET", "/api/flows?page_size=5000")) == "ARGUMENT_INVALID"
    assert rest("GET", "/api/runs?state=SLEEPING").status == 400


def test_a_cancel_that_says_something_unknown_is_refused(rest: Rest):
    """Also small documents are read strictly."""
    flow_id = rest("PUT", "/api/flows/c?allow_missing=true", flow({"id": "a", "set": {}}, name="c")).ok()[
        "id"
    ]
    run = rest.post(f"/api/flows/{flow_id}/execute?wait=10s")
    answer = rest("POST", f"/api/runs/{run['id']}:cancel", {"reasn": "typo"})

    assert (answer.status, reason(answer)) == (400, "ARGUMENT_INVALID")
