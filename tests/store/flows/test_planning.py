"""What a flow would do in the mesh as it is now."""

from __future__ import annotations

import pytest

from reflux.core.effect import EffectClass
from reflux.core.errors import InvalidArgument, NotFound
from reflux.core.expression import compile_expression
from reflux.orchestrator.mesh_view import TargetView
from tests.store.flows.conftest import refusal

SCHEMA = {
    "type": "object",
    "required": ["url"],
    "properties": {"url": {"type": "string"}, "retries": {"$ref": "#/$defs/count"}},
    "additionalProperties": False,
    "$defs": {"count": {"type": "integer"}},
}
BY_METHOD = compile_expression("input.method == 'GET' ? 'pure' : 'at_most_once'")


@pytest.fixture
def mesh(flows):
    """http.request in two versions, the second by fallback only; a third gets nothing."""
    flows.mesh.add("http.request", "1.0.0", schema=SCHEMA)
    flows.mesh.add("http.request", "2.0.0", schema=SCHEMA)
    flows.mesh.add("http.request", "3.0.0")
    flows.mesh.send("http.request", TargetView("1.0.0", 10_000, ("2.0.0",)), TargetView("3.0.0", 0, ()))
    return flows.mesh


def calling(node="http.request", **keys):
    keys.setdefault("with", {"url": "http://x"})
    return {"name": "planned", "spec": {"steps": [{"id": "a", "node": node, **keys}]}}


def problems_of(response):
    return [(problem.code, problem.pointer) for problem in response.problems]


async def test_a_step_shows_what_it_could_meet(flows, mesh):
    """The route's versions with their shares, the fallback chain with none, class, lane and order."""
    document = calling()
    document["spec"]["steps"].append({"id": "b", "node": "http.request@3.0.0"})
    plan = await flows.plan(document)
    assert plan.valid
    first, second = plan.steps
    assert [(v.version, v.weight, v.endpoints) for v in first.versions] == [
        ("1.0.0", 10_000, 2),
        ("2.0.0", 0, 2),
    ]
    assert (first.step, first.node, first.effect, first.lane) == ("a", "http.request", "pure", "broad")
    assert [(v.version, v.weight) for v in second.versions] == [("3.0.0", 10_000)]
    assert (list(first.needs), list(second.needs)) == ([], ["a"])


async def test_the_weakest_class_of_all_reachable_versions_counts(flows, mesh):
    """Envoy may pick any of them, also by fallback."""
    mesh.add("http.request", "2.0.0", effect=EffectClass.IDEMPOTENT)
    (step,) = (await flows.plan(calling())).steps
    assert (step.effect, step.lane) == ("idempotent", "safe")


@pytest.mark.parametrize(
    ("method", "effect", "lane"),
    [("GET", "pure", "broad"), ("POST", "at_most_once", "safe"), ("{{ input.m }}", "by input", "by input")],
)
async def test_a_class_given_by_the_input_is_known_when_the_input_is(flows, mesh, method, effect, lane):
    """Else the plan says that the input decides."""
    mesh.add("http.request", "3.0.0", effect=BY_METHOD)
    (step,) = (await flows.plan(calling("http.request@3.0.0", **{"with": {"method": method}}))).steps
    assert (step.effect, step.lane) == (effect, lane)


async def test_a_step_may_declare_a_stronger_class_and_no_weaker_one(flows, mesh):
    """What the flow says goes over the node's word, and is shown; less than that would only cost tries."""
    mesh.add("http.request", "1.0.0", effect=EffectClass.AT_MOST_ONCE)
    stronger = await flows.plan(calling(effect="idempotent"))
    assert (stronger.valid, stronger.steps[0].effect, stronger.steps[0].lane) == (True, "idempotent", "safe")
    mesh.add("http.request", "1.0.0", effect=EffectClass.IDEMPOTENT)
    weaker = await flows.plan(calling(effect="at_most_once"))
    assert problems_of(weaker) == [("EFFECT_WEAKER", "/spec/steps/0/effect")]


async def test_one_version_that_is_never_pure_makes_the_lane_known(flows, mesh):
    """Whatever the input makes of the other one."""
    mesh.add("http.request", "1.0.0", effect=BY_METHOD)
    mesh.add("http.request", "2.0.0", effect=EffectClass.IDEMPOTENT)
    (step,) = (await flows.plan(calling(**{"with": {"url": "{{ input.u }}"}}))).steps
    assert (step.effect, step.lane) == ("by input", "safe")


async def test_an_unknown_node_or_version_is_a_problem_with_the_nearest_name(flows, mesh):
    """The flow may be saved all the same: a node may come later."""
    document = calling("http.reqest")
    document["spec"]["steps"].append({"id": "b", "node": "http.request@1.0.1"})
    plan = await flows.plan(document)
    assert problems_of(plan) == [
        ("UNKNOWN_NODE", "/spec/steps/0/node"),
        ("UNKNOWN_VERSION", "/spec/steps/1/node"),
    ]
    assert [problem.hint for problem in plan.problems] == [
        "did you mean http.request?",
        "did you mean 1.0.0?",
    ]
    assert (await flows.create(document))["version"] == 1


async def test_a_steps_own_shares_are_planned_and_their_versions_must_be_there(flows, mesh):
    """Those of the step, not of the node's route; a version that is not there is named at its place."""
    mesh.add("http.request", "3.0.0")
    own = {"versions": {"1.0.0": 2500, "3.0.0": 7500}}
    (step,) = (await flows.plan(calling(route=own))).steps
    assert [(each.version, each.weight) for each in step.versions] == [("1.0.0", 2500), ("3.0.0", 7500)]
    gone = {"versions": {"1.0.0": 2500, "4.0.0": 7500}}
    document = calling(route=gone)
    document["spec"]["steps"].append({**document["spec"]["steps"][0], "id": "b", "route": {"pin": "5.0.0"}})
    assert problems_of(await flows.plan(document)) == [
        ("UNKNOWN_VERSION", "/spec/steps/0/route/versions/4.0.0"),
        ("UNKNOWN_VERSION", "/spec/steps/1/route/pin"),
    ]


async def test_a_node_without_traffic_is_a_problem(flows, mesh):
    """Registered, but no route leads to it."""
    mesh.add("new.node", "1.0.0")
    plan = await flows.plan(calling("new.node"))
    assert problems_of(plan) == [("NO_ROUTE", "/spec/steps/0/node")]
    assert "new.node@1.0.0" in plan.problems[0].hint


async def test_constants_are_checked_against_the_input_schema(flows, mesh):
    """At their place, once for all versions that say the same; what is a template is not judged."""
    plan = await flows.plan(calling(**{"with": {"url": "{{ input.u }}", "retries": "three", "bad": 1}}))
    assert problems_of(plan) == [
        ("INPUT_INVALID", "/spec/steps/0/with"),
        ("INPUT_INVALID", "/spec/steps/0/with/retries"),
    ]
    assert {problem.hint for problem in plan.problems} == {"the input of http.request@1.0.0, 2.0.0"}
    assert (await flows.plan(calling(**{"with": "{{ input }}"}))).valid
    assert (await flows.plan(calling(**{"with": {"url": "{{ 1 }}", "retries": "{{ input.r }}"}}))).valid


async def test_a_missing_with_is_checked_at_the_step(flows, mesh):
    """There is no other place to point to."""
    document = {"name": "planned", "spec": {"steps": [{"id": "a", "node": "http.request"}]}}
    assert problems_of(await flows.plan(document)) == [("INPUT_INVALID", "/spec/steps/0")]


async def test_problems_of_the_document_and_of_the_mesh_come_together(flows, mesh):
    """All at once, in document order; a plan never fails on a faulty flow."""
    document = calling("unknown.node")
    document["spec"]["steps"] += [
        {"id": "b", "nod": "x"},
        {"id": "c", "node": "http.request@9", "when": "{{ steps.z.output }}"},
        {"id": "d", "node": "x", "credentials": "{{ input.mine }}"},
    ]
    plan = await flows.plan(document)
    assert not plan.valid
    assert problems_of(plan) == [
        ("UNKNOWN_NODE", "/spec/steps/0/node"),
        ("NO_ACTION", "/spec/steps/1"),
        ("UNKNOWN_KEY", "/spec/steps/1/nod"),
        ("UNKNOWN_VERSION", "/spec/steps/2/node"),
        ("UNKNOWN_STEP", "/spec/steps/2/when"),
        ("UNKNOWN_NODE", "/spec/steps/3/node"),
        ("TEMPLATE_NOT_ALLOWED", "/spec/steps/3/credentials"),
    ]
    assert [step.step for step in plan.steps] == ["a", "c", "d"]


async def test_a_plan_names_credentials_and_where_they_are_taken(flows, mesh):
    """Which a step names, and in which slots each version takes one; only nodes know what is there."""
    mesh.add("http.request", "1.0.0", slots=("authorization", ""))
    mesh.add("http.request", "2.0.0", slots=("authorization", ""))
    plan = await flows.plan(calling(credentials="shop-api"))
    assert plan.valid
    (step,) = plan.steps
    assert dict(step.credentials) == {"": "shop-api"}
    assert [[*version.credentials] for version in step.versions] == [["authorization"], ["authorization"]]


async def test_a_slot_that_nobody_has_is_a_problem(flows, mesh):
    """Of all that could answer: what only one of them takes is no mistake."""
    mesh.add("http.request", "2.0.0", slots=("key",))
    plan = await flows.plan(calling(credentials={"key": "mine", "keys": "mine"}))
    assert problems_of(plan) == [("UNKNOWN_CREDENTIAL", "/spec/steps/0/credentials/keys")]
    assert "it has key" in plan.problems[0].message
    plan = await flows.plan(calling(credentials="mine"))
    assert problems_of(plan) == [("UNKNOWN_CREDENTIAL", "/spec/steps/0/credentials")]
    assert problems_of(await flows.plan(calling("http.request@1.0.0", credentials={"key": "mine"}))) == [
        ("UNKNOWN_CREDENTIAL", "/spec/steps/0/credentials/key")
    ]


async def test_a_saved_flow_is_planned_by_its_name(flows, mesh):
    """With an empty body; a document, if there is one, is what is planned."""
    await flows.create(calling())
    assert [step.step for step in (await flows.plan(flow_id="planned")).steps] == ["a"]
    assert not (await flows.plan(calling("unknown.node"), flow_id="planned")).valid
    assert isinstance(await refusal(flows.plan(flow_id="missing")), NotFound)


async def test_a_document_that_cannot_be_read_is_refused(flows):
    """A plan needs something to plan."""
    for document in ("{", ""):
        assert isinstance(await refusal(flows.plan(document)), InvalidArgument)


def beginning(name, *flows, **spec):
    """A flow whose steps begin runs of others."""
    steps = [{"id": f"s{n}", "flow": each} for n, each in enumerate(flows)] or [{"id": "a", "set": {"n": 1}}]
    return {"name": name, "spec": {"steps": steps, **spec}}


async def test_a_flow_that_is_named_must_be_there(flows):
    """Also in that version; a misspelt error flow would be found when something has failed."""
    await flows.create(beginning("inner"))
    policies = {"on_failure": {"flow": "tell"}}
    plan = await flows.plan(beginning("outer", "inner", "nobody", "inner@2", policies=policies))
    assert sorted(problems_of(plan)) == [
        ("UNKNOWN_FLOW", "/spec/policies/on_failure/flow"),
        ("UNKNOWN_FLOW", "/spec/steps/1/flow"),
        ("UNKNOWN_VERSION", "/spec/steps/2/flow"),
    ]


async def test_a_flow_that_would_begin_itself_again_is_a_problem(flows):
    """At once or through others; the flow that hears of a failure may be the same one."""
    await flows.create(beginning("a", "b"))
    await flows.create(beginning("b", "c"))
    plan = await flows.plan(beginning("c", "a", "c", policies={"on_failure": {"flow": "c"}}))
    assert problems_of(plan) == [("FLOW_CYCLE", "/spec/steps/0/flow"), ("FLOW_CYCLE", "/spec/steps/1/flow")]
    assert "a, which begins b, which begins c" in plan.problems[0].message


STRICT = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "integer"}},
    "additionalProperties": False,
}


async def test_a_flow_must_take_what_a_step_gives_it(flows):
    """Constants at their place; what is a template is not judged, and no input is an empty one."""
    await flows.create(beginning("strict", input=STRICT))
    given = ({"n": "x"}, {"m": 1}, {"n": "{{ input.n }}"}, "{{ input }}", {"n": 1})
    steps = [{"id": f"s{n}", "flow": "strict", "with": each} for n, each in enumerate(given)]
    steps += [{"id": "pinned", "flow": "strict@1", "with": {"n": 1.5}}, {"id": "bare", "flow": "strict"}]
    plan = await flows.plan({"name": "outer", "spec": {"steps": steps}})
    assert problems_of(plan) == [
        ("INPUT_INVALID", "/spec/steps/0/with/n"),
        ("INPUT_INVALID", "/spec/steps/1/with"),
        ("INPUT_INVALID", "/spec/steps/1/with"),
        ("INPUT_INVALID", "/spec/steps/5/with/n"),
        ("INPUT_INVALID", "/spec/steps/6"),
    ]
    assert [plan.problems[n].hint for n in (0, 3)] == [
        "the input of flow strict",
        "the input of flow strict@1",
    ]


HEARS = {
    "type": "object",
    "required": ["run_id", "flow", "error", "input"],
    "properties": {
        "run_id": {"type": "string"},
        "flow": {"type": "object", "required": ["name", "version"]},
        "error": {"type": "object", "required": ["code", "message", "step"]},
        "input": {"type": "object"},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (HEARS, []),
        (STRICT, ["the whole: 'n' is a required", "the whole: Additional"]),
        ({"properties": {"error": {"type": "string"}}}, ["/error: "]),
        ({"properties": {"error": {"required": ["stack"]}}}, ["/error: 'stack' is a required"]),
    ],
)
async def test_the_flow_that_hears_of_a_failure_must_take_what_it_is_told(flows, schema, said):
    """Else nobody would hear of it; also where a flow hears of its own failures."""
    await flows.create(beginning("tell", input=schema))
    for name in ("outer", "tell"):
        policies = {"on_failure": {"flow": "tell"}}
        plan = await flows.plan(beginning(name, policies=policies, input=schema))
        where = ("INPUT_INVALID", "/spec/policies/on_failure/flow")
        assert problems_of(plan) == [where] * len(said)
        told = sorted(problem.message for problem in plan.problems)
        assert all(text in message for text, message in zip(said, told, strict=True)), told


async def test_what_undoes_a_step_is_planned_like_a_step(flows, mesh):
    """Its node, its input and its class."""
    undo = {"node": "refund", "with": {"id": "{{ self.output.id }}"}}
    plan = await flows.plan(calling(compensate=undo))
    assert problems_of(plan) == [("UNKNOWN_NODE", "/spec/steps/0/compensate/node")]
    assert [step.step for step in plan.steps] == ["a", "a~compensate"]


async def test_a_cache_of_a_call_that_may_have_an_effect_is_a_problem(flows, mesh):
    """The node says what it is; a class that the flow declares goes over that."""
    cache = {"ttl": "1m"}
    assert (await flows.plan(calling(cache=cache))).valid
    mesh.add("http.request", "1.0.0", effect=EffectClass.IDEMPOTENT)
    assert problems_of(await flows.plan(calling(cache=cache))) == [("CACHE_NOT_PURE", "/spec/steps/0/cache")]
    assert (await flows.plan(calling(cache=cache, effect="pure"))).valid


async def test_what_is_read_of_an_output_must_be_there(flows, mesh):
    """In every version that the call can meet, the newest or not; what may be missing may."""
    closed = {"type": "object", "properties": {"status": {"type": "integer"}}, "additionalProperties": False}
    mesh.add("http.request", "2.0.0", schema=SCHEMA, output=closed)
    document = calling()
    document["spec"]["steps"].append(
        {"id": "b", "set": {"x": "{{ steps.a.output.body.total }}", "y": "{{ steps.a.output.?body }}"}}
    )
    plan = await flows.plan(document)
    assert problems_of(plan) == [("OUTPUT_UNKNOWN", "/spec/steps/1/set/x")]
    assert plan.problems[0].message == "body is not in the output of a"
    assert "http.request@2.0.0" in plan.problems[0].hint
    document["spec"]["steps"][0]["node"] = "http.request@1.0.0"
    assert (await flows.plan(document)).valid


async def test_a_steps_own_chain_is_resolved(flows, mesh):
    """Each version of it is shown, without weight; one that is not registered is a problem at its place."""
    plan = await flows.plan(calling(route={"fallback": ["3.0.0"], "tries": 2}))
    assert plan.valid
    assert [(v.version, v.weight) for v in plan.steps[0].versions] == [("1.0.0", 10_000), ("3.0.0", 0)]
    plan = await flows.plan(calling(route={"pin": "2.0.0", "fallback": ["9.0.0", "1.0.0"]}))
    assert problems_of(plan) == [("UNKNOWN_VERSION", "/spec/steps/0/route/fallback/0")]
    assert [(v.version, v.weight) for v in plan.steps[0].versions] == [("2.0.0", 10_000), ("1.0.0", 0)]


async def test_the_weakest_class_of_a_steps_own_chain_is_shown(flows, mesh):
    """Each attempt is made with the class of the one version that it asks."""
    mesh.add("http.request", "3.0.0", effect=EffectClass.AT_MOST_ONCE)
    (step,) = (await flows.plan(calling(route={"fallback": ["3.0.0"]}))).steps
    assert (step.effect, step.lane) == ("at_most_once", "safe")


async def test_a_try_is_shorter_than_the_attempt(flows, mesh):
    """Where the flow names no timeout the version does, or 60 s hold."""
    plan = await flows.plan(calling(route={"try_timeout": "60s"}))
    assert problems_of(plan) == [("BAD_VALUE", "/spec/steps/0/route/try_timeout")]
    assert "60s" not in plan.problems[0].message
    assert "1m" in plan.problems[0].hint
    longer = calling(route={"try_timeout": "60s"}, timeout={"attempt": "61s"})
    assert (await flows.plan(longer)).valid
    assert (await flows.plan(calling(route={"try_timeout": "59s"}))).valid
