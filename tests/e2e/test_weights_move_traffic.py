"""A route says who gets how much; what was chosen is what the draws predict, and stands in the journal."""

import json
import time

from tests.support.ledger import Ledger
from tests.support.rest import Rest

NODE = "http.request"


def route(*targets, **fields):
    return {"targets": [{"version": version, "weight": weight} for version, weight in targets], **fields}


def attempts(rest: Rest, flow: str, runs: int):
    """The one attempt of each of so many runs."""
    started = [rest.post(f"/api/flows/{flow}/execute?wait=20s") for _ in range(runs)]
    assert {run["state"] for run in started} == {"SUCCEEDED"}
    steps = [rest.get(f"/api/runs/{run['id']}/steps")["steps"][0] for run in started]
    return [step["attempts"][0] for step in steps]


def test_the_counts_are_exactly_those_that_the_draws_predict(rest: Rest, ledger: Ledger):
    """At 60/40 a draw below 6000 goes to the first version, every other one to the second."""
    step = {"id": "get", "node": NODE, "with": {"url": f"{ledger.url}/effect/weights"}}
    rest("PUT", "/api/flows/weights?allow_missing=true", {"name": "weights", "spec": {"steps": [step]}}).ok()
    before = rest.get(f"/api/routes/{NODE}")
    changed = rest("PUT", f"/api/routes/{NODE}", route(("1.0.0", 6000), ("2.0.0", 4000), note="a test")).ok()
    made = attempts(rest, "weights", 30)
    rest("PUT", f"/api/routes/{NODE}", route(("1.0.0", 10_000), ("2.0.0", 0))).ok()
    back = attempts(rest, "weights", 5)

    assert changed["revision"] == before["revision"] + 1
    assert changed["state"] == "APPLIED"
    for attempt in made:
        expected = "1.0.0" if attempt["draw"] < 6000 else "2.0.0"
        assert attempt["chosen"] == attempt["answered_by"] == expected
        assert attempt["weight"] == (6000 if expected == "1.0.0" else 4000)
        assert attempt["revision"] == changed["revision"]
    assert {attempt["chosen"] for attempt in made} == {"1.0.0", "2.0.0"}
    assert {attempt["chosen"] for attempt in back} == {"1.0.0"}


def test_going_back_is_one_call(rest: Rest, ledger: Ledger):
    """A new revision that equals an old one, at once; the journal says by which each run was routed."""
    step = {"id": "get", "node": NODE, "with": {"url": f"{ledger.url}/effect/back"}}
    rest("PUT", "/api/flows/back?allow_missing=true", {"name": "back", "spec": {"steps": [step]}}).ok()
    old = rest("PUT", f"/api/routes/{NODE}", route(("1.0.0", 10_000), ("2.0.0", 0))).ok()
    rest("PUT", f"/api/routes/{NODE}", route(("1.0.0", 0), ("2.0.0", 10_000), note="all of it")).ok()
    [moved] = attempts(rest, "back", 1)
    new = rest.post(f"/api/routes/{NODE}/revisions/{old['revision']}:rollback")
    [returned] = attempts(rest, "back", 1)

    assert (moved["chosen"], moved["revision"]) == ("2.0.0", old["revision"] + 1)
    assert (returned["chosen"], returned["revision"]) == ("1.0.0", new["revision"])
    assert (new["revision"], new["targets"]) == (old["revision"] + 2, old["targets"])
    changes = rest.get(f"/api/routes/{NODE}:diff")["changes"]
    assert [(each["version"], each["before"], each["after"]) for each in changes] == [
        ("1.0.0", "0", "10000"),
        ("2.0.0", "10000", "0"),
    ]


def test_a_pinned_step_gets_its_version_whatever_the_weights(rest: Rest, ledger: Ledger):
    """`node@version` is answered by that version, and the reason says pin."""
    step = {"id": "get", "node": f"{NODE}@2.0.0", "with": {"url": f"{ledger.url}/effect/pin"}}
    rest("PUT", "/api/flows/pinned?allow_missing=true", {"name": "pinned", "spec": {"steps": [step]}}).ok()
    [attempt] = attempts(rest, "pinned", 1)

    assert attempt["answered_by"] == "2.0.0"
    assert attempt["reason"] == "pin"


def test_what_sticks_draws_the_same_in_every_run(rest: Rest, ledger: Ledger):
    """By the route's own expression or by the step's; the journal has a digest, and never the value."""
    url = {"with": {"url": f"{ledger.url}/effect/sticky", "headers": {"customer": "{{ input.who }}"}}}
    steps = [
        {"id": "get", "node": NODE, **url},
        {"id": "own", "node": NODE, **url, "route": {"versions": {"1.0.0": 5000, "2.0.0": 5000}}},
    ]
    rest("PUT", "/api/flows/sticky?allow_missing=true", {"name": "sticky", "spec": {"steps": steps}}).ok()
    sticky = route(("1.0.0", 5000), ("2.0.0", 5000), sticky="input.?headers.?customer")
    rest("PUT", f"/api/routes/{NODE}", sticky).ok()

    def ran(who: str) -> list[dict]:
        run = rest.post("/api/flows/sticky/execute?wait=20s", {"who": who})
        assert "Ada Lovelace" not in json.dumps(
            rest.get(f"/api/runs/{run['id']}/steps")["steps"][0]["attempts"]
        )
        return [step["attempts"][0] for step in rest.get(f"/api/runs/{run['id']}/steps")["steps"]]

    until = time.monotonic() + 20  # an orchestrator hears of a route a moment after the proxies have it
    while ran("Ada Lovelace")[0]["reason"] != "sticky":
        assert time.monotonic() < until
    made = [ran(who) for who in ("Ada Lovelace", "Grace Hopper") * 4]
    rest("PUT", f"/api/routes/{NODE}", route(("1.0.0", 10_000), ("2.0.0", 0))).ok()

    for number, (get, own) in enumerate(made):
        same = made[number % 2][0]
        assert (get["reason"], get["sticky"], get["draw"]) == ("sticky", same["sticky"], same["draw"])
        assert get["answered_by"] == ("1.0.0" if get["draw"] < 5000 else "2.0.0")
        assert (own["answered_by"], own["sticky"]) == (get["answered_by"], get["sticky"])
        assert own["weight"] == 5000
    assert made[0][0]["sticky"] != made[1][0]["sticky"]


def test_a_route_that_cannot_be_is_refused_with_every_place(rest: Rest):
    """Wrong sums, unknown versions, fallbacks in a circle, stale revisions, unknown fields: no change."""
    before = rest.get(f"/api/routes/{NODE}")
    refused = [
        rest("PUT", f"/api/routes/{NODE}", document)
        for document in (
            route(("1.0.0", 6000), ("2.0.0", 3000)),
            route(("1.0.0", 9000), ("7.7.7", 1000)),
            {"targets": [{"version": "1.0.0", "weight": 10_000, "fallback": ["2.0.0", "1.0.0"]}]},
            {**route(("1.0.0", 10_000)), "colour": "red"},
            route(("1.0.0", 10_000), revision=before["revision"] + 5),
        )
    ]

    assert [answer.status for answer in refused] == [400, 400, 400, 400, 409]
    assert rest("PUT", "/api/routes/nobody.knows", route(("1.0.0", 10_000))).status == 404
    assert rest.get(f"/api/routes/{NODE}") == before


def test_nodes_show_their_versions_and_schemas(rest: Rest):
    """What is deployed can be read: versions, effect, endpoints, JSON Schemas."""
    nodes = {node["name"]: node for node in rest.get("/api/nodes")["nodes"]}
    versions = rest.get(f"/api/nodes/{NODE}/versions")["versions"]
    schema = rest.get(f"/api/nodes/{NODE}/versions/1.0.0/input-schema")

    assert set(nodes) >= {"http.request", "transform.execute"}
    assert {version["version"] for version in versions} >= {"1.0.0", "2.0.0"}
    assert all(version["state"] == "LIVE" and version["endpoints"] for version in versions)
    assert "url" in schema["properties"]
    assert rest("GET", f"/api/nodes/{NODE}/versions/9.9.9").status == 404
