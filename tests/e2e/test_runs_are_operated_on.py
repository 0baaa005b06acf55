"""An outage is mended over REST: see the failure, mend the flow, retry, and nothing happens twice."""

import time
from collections import Counter
from typing import Any

from tests.support.ledger import Ledger
from tests.support.rest import Rest
from tests.support.runs import ended


def flow(ledger: Ledger, name: str, target: str) -> dict[str, Any]:
    """An order whose lines are charged and mailed; mails go to `target`."""

    def post(step: str, url: str) -> dict[str, Any]:
        return {"id": step, "node": "http.request", "with": {"method": "POST", "url": url}}

    lines = {
        "id": "lines",
        "foreach": {"in": "{{ input.lines }}", "as": "line"},
        "steps": [
            post("charge", f"{ledger.url}/effect/{name}-charge-{{{{ line }}}}"),
            post("mail", f"{target}/effect/{name}-mail-{{{{ line }}}}"),
        ],
    }
    return {
        "name": name,
        "spec": {
            "search_key": "{{ input.order }}",
            "steps": [lines, {"id": "end", "return": "{{ input.order }}"}],
        },
    }


def effects(ledger: Ledger, name: str) -> Counter[str]:
    """How often each effect of the flow happened."""
    return Counter(entry["name"] for entry in ledger.entries() if entry["name"].startswith(name))


def test_an_outage_is_mended_without_doing_anything_twice(rest: Rest, ledger: Ledger):
    """List the failures, look at the plan, retry with the mended version, replay one step, retry the rest."""
    name = f"mended-{time.time_ns()}"
    saved = rest.post("/api/flows", flow(ledger, name, "http://127.0.0.1:1"))
    orders = [{"order": f"{name}/{number}", "lines": [number]} for number in range(3)]
    runs = [rest.post(f"/api/flows/{name}/execute?wait=30s", order) for order in orders]
    assert {run["state"] for run in runs} == {"FAILED"}, runs

    [group] = rest.get(f"/api/runs:fingerprints?flow_id={name}")["fingerprints"]
    assert int(group["count"]) == 3
    found = rest.get(f"/api/runs?fingerprint={group['fingerprint']}&key={name}/1")["runs"]
    assert [run["id"] for run in found] == [runs[1]["id"]]

    rest("PUT", f"/api/flows/{name}", flow(ledger, name, ledger.url)).ok()
    plan = rest.post(f"/api/runs/{runs[1]['id']}:retry", {"flow_version": "newest", "dry_run": True})["plan"]
    assert [(one["step"], one["state"]) for one in plan["kept"]] == [("lines[0]/charge", "SUCCEEDED")]
    assert [(one["step"], one["why"]) for one in plan["anew"]] == [("lines[0]/mail", "from")]

    first = rest.post(f"/api/runs/{runs[1]['id']}:retry?request_id=r1", {"flow_version": "newest"})["run"]
    assert ended(rest, first["id"])["output"] == f"{name}/1"
    refused = rest("POST", f"/api/runs/{first['id']}:retry", {})
    assert (refused.status, refused.json["details"][0]["reason"]) == (400, "RUN_NOT_FAILED")

    bulk = {
        "operation": "retry",
        "filter": {"flow_id": name, "fingerprint": group["fingerprint"]},
        "arguments": {"flow_version": "newest"},
        "expected_count": 2,
    }
    too_many = rest("POST", "/api/runs:bulk", bulk)
    assert too_many.json["details"][0]["reason"] == "COUNT_EXCEEDED"
    done = rest.post("/api/runs:bulk", {**bulk, "filter": {"key": f"{name}/2"}, "expected_count": 1})
    assert ended(rest, done["runs"][0]["new_run_id"])["state"] == "SUCCEEDED"
    forked = rest.post(f"/api/runs/{runs[0]['id']}:fork", {"from_step": "lines[0]/mail", "flow_version": 2})[
        "run"
    ]
    assert ended(rest, forked["id"])["state"] == "SUCCEEDED"

    once = Counter(f"{name}-{step}-{number}" for step in ("charge", "mail") for number in range(3))
    assert effects(ledger, name) == once

    replay = rest.post(f"/api/runs/{first['id']}/steps/mail:execute?wait=30s", {"path": "lines[0]/mail"})
    assert (replay["state"], replay["origin"]["operation"]) == ("SUCCEEDED", "execute_step")
    for path in ("lines[0]/mail", "lines%5B0%5D/mail"):
        replay = rest.post(f"/api/runs/{first['id']}/steps/{path}:execute?wait=30s", {"input": {}})
        assert (replay["state"], replay["origin"]["steps"]) == ("FAILED", ["lines[0]/mail"])
    alone = rest.post(f"/api/flows/{saved['id']}/steps/mail:execute?wait=30s", {"context": {"line": 9}})
    assert alone["state"] == "SUCCEEDED", alone
    assert effects(ledger, name) == once + Counter([f"{name}-mail-1", f"{name}-mail-9"])
