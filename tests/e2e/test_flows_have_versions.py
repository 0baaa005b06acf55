"""Flows are created, changed and rolled back; a run keeps the version it began with."""

from tests.support.rest import Rest


def returning(value, name="versions"):
    return {"name": name, "spec": {"steps": [{"id": "done", "return": value}]}}


def test_changes_make_versions_and_rollback_makes_another(rest: Rest):
    """PUT replaces, an equal document changes nothing, PATCH changes what it names, rollback repeats."""
    rest("DELETE", "/api/flows/versions")
    first = rest.post("/api/flows", returning(1))
    same = rest("PUT", "/api/flows/versions", returning(1)).ok()
    second = rest("PUT", f"/api/flows/versions?etag={first['etag']}", returning(2)).ok()
    stale = rest("PUT", f"/api/flows/versions?etag={first['etag']}", returning(3))
    patched = rest("PATCH", "/api/flows/versions?update_mask=description", {"description": "said"}).ok()
    back = rest("POST", "/api/flows/versions/versions/1:rollback").ok()
    versions = rest.get("/api/flows/versions/versions")["versions"]

    assert (first["version"], same["version"], second["version"]) == (1, 1, 2)
    assert stale.status == 409
    assert patched["description"] == "said"
    assert back["spec"] == first["spec"]
    assert [each["version"] for each in versions] == list(range(back["version"], 0, -1))
    assert rest.get("/api/flows/versions/versions/2")["spec"] == second["spec"]


def test_a_run_keeps_its_version_and_survives_the_flow(rest: Rest):
    """A run of version 1 is still a run of version 1 after a change and a deletion."""
    rest("DELETE", "/api/flows/keeps")
    flow = rest.post("/api/flows", returning("one", "keeps"))
    run = rest.post("/api/flows/keeps/execute?wait=10s")
    rest("PUT", "/api/flows/keeps", returning("two", "keeps")).ok()
    assert rest("DELETE", f"/api/flows/{flow['id']}").status == 200

    later = rest.get(f"/api/runs/{run['id']}")
    assert (later["flow_version"], later["output"]) == (1, "one")
    assert rest("POST", "/api/flows/keeps/execute").status == 404


def test_a_name_is_taken_once_and_yaml_is_json(rest: Rest):
    """The same name twice is refused; a YAML document is the same flow."""
    rest("DELETE", "/api/flows/yaml")
    text = b"name: yaml\nspec:\n  steps:\n    - {id: done, return: on}\n"
    made = rest("POST", "/api/flows", raw=text, content_type="application/yaml").ok()
    taken = rest("POST", "/api/flows", returning(1, "yaml"))

    assert made["spec"] == {"steps": [{"id": "done", "return": "on"}]}
    assert taken.status == 409
    assert [flow["name"] for flow in rest.get("/api/flows?page_size=1000")["flows"]].count("yaml") == 1


def test_older_spellings_are_read_and_rewritten(rest: Rest):
    """What users wrote before still works, and is saved in the present form."""
    step = {
        "id": "fetch",
        "node": "http.request",
        "version": "1.0.0",
        "with": {"url": "{{ inputs.url }}"},
        "retry": {"maxAttempts": 3, "backoff": [1, 3, 10]},
        "timeout": 20,
    }
    document = {"name": "older", "spec": {"steps": [step], "policies": {"maxDurationSec": 60}}}
    saved = rest("PUT", "/api/flows/older?allow_missing=true", document).ok()["spec"]

    assert saved["steps"][0]["node"] == "http.request@1.0.0"
    assert saved["steps"][0]["with"] == {"url": "{{ input.url }}"}
    assert saved["steps"][0]["retry"]["attempts"] == 3
    assert "maxDurationSec" not in str(saved)
