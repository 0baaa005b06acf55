"""Signals, answers, pauses and decisions, over REST through the edge, as a person with curl says them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from tests.support.rest import Answer, Rest


def saved(rest: Rest, name: str, *steps: dict[str, Any]) -> str:
    document = {"name": name, "spec": {"steps": list(steps)}}
    return rest("PUT", f"/api/flows/{name}?allow_missing=true", document).ok()["id"]


def until(rest: Rest, run_id: str, step: str, state: str) -> dict[str, Any]:
    """The step once it stands so."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = {each["id"]: each for each in rest.get(f"/api/runs/{run_id}/steps")["steps"]}
        if step in found and found[step]["state"] == state:
            return found[step]
        time.sleep(0.05)
    raise AssertionError(f"{step} never was {state}")


def reason(answer: Answer) -> str:
    return next(each["reason"] for each in answer.json["details"] if "reason" in each)


def test_a_person_answers_a_step_inside_a_loop(rest: Rest) -> None:
    """Its path stands in the URL, escaped or not; the second answer is refused and says who was first."""
    form = {"type": "object", "properties": {"limit": {"type": "integer"}}}
    each = {"in": [1, 2], "as": "n", "parallel": 2}
    loop = {
        "id": "each",
        "foreach": each,
        "steps": [{"id": "ok", "approve": {"form": form, "message": "{{ n }}?"}}],
    }
    flow = saved(rest, "asks-in-a-loop", loop, {"id": "w", "wait": {"signal": "on"}})
    run = rest.post(f"/api/flows/{flow}/execute")["id"]
    one, two = "each[0]/ok", "each[1]/ok"
    assert until(rest, run, one, "RUNNING")["approval"]["message"] == "1?"
    path = f"/api/runs/{run}/steps/{quote(one)}"
    wrong = rest("POST", f"{path}:answer", {"approved": True, "form": {"limit": "much"}})
    rest.post(f"{path}:answer", {"approved": True, "form": {"limit": 1}})
    again = rest("POST", f"{path}:answer", {"approved": False})
    twice = rest("POST", f"{path}:answer?step=other", {"approved": False})

    token = rest.get(f"/api/runs/{run}/steps/{two}:token")["token"]
    assert rest.post("/api/approvals:show", {"token": token})["approval"]["message"] == "2?"
    rest.post("/api/approvals:answer", {"token": token, "approved": False, "by": "Ada"})
    forged = rest("POST", "/api/approvals:show", {"token": token[:-4] + "AAAA"})
    until(rest, run, "each", "SUCCEEDED")
    output = {step["id"]: step["output"] for step in rest.get(f"/api/runs/{run}/steps")["steps"]}["each"]

    assert (wrong.status, reason(wrong)) == (400, "FORM_INVALID")
    assert (again.status, reason(again)) == (400, "APPROVAL_ANSWERED")
    assert (twice.status, reason(twice)) == (400, "EDGE_REFUSED")
    assert (forged.status, reason(forged)) == (400, "APPROVAL_TOKEN_INVALID")
    assert [(item["approved"], item["by"]) for item in output] == [(True, "anonymous"), (False, "token: Ada")]


def test_a_signal_reaches_its_run_by_id_and_by_key(rest: Rest) -> None:
    """Both are answered with what came of them; an unknown name is refused."""
    wait = {"id": "w", "wait": {"signal": "shipped", "key": "{{ input.order }}"}}
    flow = saved(rest, "waits-for-parcels", wait, {"id": "r", "return": "{{ steps.w.output.box }}"})
    one = rest.post(f"/api/flows/{flow}/execute", {"order": "o-1"})["id"]
    two = rest.post(f"/api/flows/{flow}/execute", {"order": "o-2"})["id"]
    until(rest, one, "w", "RUNNING")
    until(rest, two, "w", "RUNNING")
    unknown = rest("POST", f"/api/runs/{one}:signal", {"name": "shiped"})
    by_id = rest.post(f"/api/runs/{one}:signal", {"name": "shipped", "payload": {"box": 1}, "signal_id": "p"})
    by_key = rest.post("/api/signals/shipped", {"key": "o-2", "payload": {"box": 2}})
    for run, box in ((one, 1), (two, 2)):
        until(rest, run, "r", "SUCCEEDED")
        assert rest.get(f"/api/runs/{run}")["output"] == box
    late = rest("POST", f"/api/runs/{one}:signal", {"name": "shipped"})

    assert (unknown.status, reason(unknown)) == (400, "SIGNAL_UNKNOWN")
    assert by_id == {"run_id": one, "signal_id": "p", "step": "w"}
    assert (by_key["run_ids"], by_key["keep_time"]) == ([two], None)
    assert (late.status, reason(late)) == (400, "RUN_FINISHED")


def test_a_run_is_paused_resumed_and_ended(rest: Rest) -> None:
    """With and without a body; a step that waits is skipped, one that is not PARKED is not completed."""
    steps = ({"id": "w", "wait": {"for": "1h"}}, {"id": "z", "wait": {"for": "1h"}})
    run = rest.post(f"/api/flows/{saved(rest, 'pauses', *steps)}/execute")["id"]
    until(rest, run, "w", "RUNNING")
    paused = rest.post(f"/api/runs/{run}:pause", {"reason": "lunch"})
    again = rest("POST", f"/api/runs/{run}:pause")
    rest.post(f"/api/runs/{run}/steps/w:skip", {"reason": "enough"})
    parked = rest("POST", f"/api/runs/{run}/steps/z:complete", {"choice": "fail"})
    listed = [each["id"] for each in rest.get("/api/runs?state=PAUSED")["runs"]]
    resumed = rest.post(f"/api/runs/{run}:resume")
    until(rest, run, "z", "RUNNING")
    ended = rest.post(f"/api/runs/{run}:terminate", {"reason": "it must stop"})
    after = rest("POST", f"/api/runs/{run}:resume")

    assert (paused["state"], paused["pause"]["reason"]) == ("PAUSED", "lunch")
    assert (again.status, reason(again)) == (400, "RUN_PAUSED")
    assert (parked.status, reason(parked)) == (400, "STEP_NOT_WAITING")
    assert run in listed
    assert (resumed["state"], resumed["pause"]) == ("RUNNING", None)
    assert (ended["state"], ended["unresolved_effects"]) == ("CANCELED", [])
    assert (after.status, reason(after)) == (400, "RUN_FINISHED")
