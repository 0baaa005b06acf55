"""Webhooks over the whole stack, as senders and people see them: curl's side of /hooks/."""

from __future__ import annotations

import base64
import concurrent.futures
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rest import Answer, Rest, send
from tests.support.runs import ended
from tests.support.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = b"a secret of the shop and of us.."
GITHUB_KEY = "It's a Secret to Everybody"
ECHO = {"id": "done", "return": {"got": "{{ input }}", "by": "{{ trigger.?id ?? 'a person' }}"}}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """A stack whose environment holds the secrets of two senders, and not that of a third."""
    secrets = {
        "SHOP_SECRET": "whsec_" + base64.b64encode(KEY).decode(),
        "CODE_SECRET": GITHUB_KEY,
    }
    with running_stack(tmp_path_factory.mktemp("hooks") / "data", environment=secrets) as stack:
        yield stack.rest


def hook(path: str, **keys: Any) -> dict[str, Any]:
    return {"id": "hook", "type": "webhook", "path": path, **keys}


def save(rest: Rest, name: str, *triggers: dict[str, Any], steps: Any = (ECHO,), **spec: Any) -> Answer:
    document = {"name": name, "spec": {"triggers": list(triggers), "steps": list(steps), **spec}}
    return rest("PUT", f"/api/flows/{name}?allow_missing=true", document)


def post(rest: Rest, path: str, body: bytes = b"", **headers: str) -> Answer:
    """A delivery; underscores in names of headers become dashes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return send("POST", f"{rest.url}/hooks/{path}", body, names, seconds=60)


def signed(body: bytes, delivery: str, *, ago: int = 0, key: bytes = KEY) -> dict[str, str]:
    """Headers of Standard Webhooks."""
    stamp = str(int(time.time()) - ago)
    mac = hmac.digest(key, f"{delivery}.{stamp}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook_id": delivery, "webhook_timestamp": stamp, "webhook_signature": signature}


def refused(answer: Answer) -> tuple[int, str]:
    """Status and reason of an error in our shape."""
    [info] = [each for each in answer.json["details"] if each["@type"].endswith("ErrorInfo")]
    assert info["domain"] == "reflux.dev"
    return answer.status, info["reason"]


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"n": 9007199254740993}', {"n": 9007199254740993}),
        (FORM, b"name=Ada&item=1&item=2", {"name": "Ada", "item": ["1", "2"]}),
        ("text/plain; charset=utf-8", "Grüße".encode(), {"body": "Grüße"}),
        (
            "image/png",
            b"\x89PNG\r\n\x1a\n\x00\xff",
            {"content_type": "image/png", "base64": "iVBORw0KGgoA/w=="},
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
            {"a": "1"},
        ),
        ("application/json", b"", {}),
    ],
    ids=["json", "form", "text", "binary", "multipart", "empty"],
)
def test_any_kind_of_body_becomes_the_input(rest: Rest, content_type: str, body: bytes, value: Any):
    """The sender gets the run's output as the body, itself, and the run's id in a header."""
    save(rest, "echo", hook("echo", respond="run")).ok()
    answer = post(rest, "echo", body, Content_Type=content_type)
    assert answer.status == 200, answer.body
    assert answer.json == {"got": value, "by": "hook"}
    run = rest.get(f"/api/runs/{answer.headers['x-reflux-run-id']}")
    assert (run["trigger"], run["actor"], run["input"]) == ("hook", "trigger:hook", value)


def test_the_trigger_says_what_the_input_is(rest: Rest):
    """Query, method, headers and path too; no secret among them; a public host name is served."""
    template = {"all": "{{ request }}", "shop": "{{ request.query.shop }}"}
    save(rest, "shaped", hook("shaped/in", method="PUT", respond="run", input=template)).ok()
    headers = {"Host": "hooks.shop.example", "Authorization": "Bearer t", "X-Event": "paid", "Cookie": "c"}
    url = f"{rest.url}/hooks/shaped/in?shop=oslo"
    got = send("PUT", url, b'"x"', {**headers, "Content-Type": "application/json"}, seconds=30).ok()["got"]
    seen = got["all"]["headers"]
    assert (seen["host"], seen["x-event"]) == ("hooks.shop.example", "paid")
    assert not {"authorization", "cookie", "x-reflux-actor"} & seen.keys()
    assert (got["shop"], got["all"]["method"], got["all"]["path"]) == ("oslo", "PUT", "shaped/in")
    assert got["all"]["body"] == "x"
    assert refused(post(rest, "shaped/in", b"")) == (404, "WEBHOOK_NOT_FOUND")


def test_signatures_are_judged_over_the_raw_bytes(rest: Rest):
    """Right, wrong, missing, replayed; GitHub's way too; a secret that nobody has set."""
    standard = {"auth": "hmac", "secret": {"env": "SHOP_SECRET"}}
    github = {"auth": "hmac", "secret": {"env": "CODE_SECRET"}, "signature": "github"}
    unset = {"auth": "hmac", "secret": {"env": "NOBODY_HAS_SET_THIS"}}
    save(
        rest,
        "signed",
        hook("signed", **standard),
        {**hook("code", **github), "id": "code"},
        {**hook("unset", **unset), "id": "unset"},
    ).ok()
    body = b'{ "total" : 1.50 }'
    accepted = post(rest, "signed", body, Content_Type="application/json", **signed(body, "d1"))
    assert accepted.status == 202
    ended(rest, accepted.json["run_id"])
    tight = json.dumps(json.loads(body)).encode()
    for wrong in (signed(tight, "d2"), signed(body, "d2", key=b"another"), {}):
        assert refused(post(rest, "signed", body, **wrong)) == (401, "SIGNATURE_INVALID")
    assert refused(post(rest, "signed", body, **signed(body, "d3", ago=400))) == (401, "DELIVERY_REPLAYED")
    mac = hmac.digest(GITHUB_KEY.encode(), b"{}", "sha256").hex()
    code = {
        "Content_Type": "application/json",
        "X_GitHub_Delivery": "g1",
        "X_Hub_Signature_256": f"sha256={mac}",
    }
    first, again = (post(rest, "code", b"{}", **code) for _ in range(2))
    assert (first.status, again.json) == (202, {"run_id": first.json["run_id"], "duplicate": True})
    assert refused(post(rest, "unset", b"{}", **signed(b"{}", "d1"))) == (503, "SECRET_MISSING")
    [problem] = rest.post("/api/flows/signed:plan")["problems"]
    assert (problem["code"], problem["pointer"]) == ("SECRET_MISSING", "/spec/triggers/2/secret/env")


def test_a_hundred_equal_deliveries_at_once_are_one_run(rest: Rest):
    """Each answer is the same run's; the runs that exist are one."""
    save(rest, "once", hook("once")).ok()
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        sent = [pool.submit(post, rest, "once", b"{}", webhook_id="same") for _ in range(100)]
        answers = [each.result() for each in sent]
    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["run_id"] for answer in answers}) == 1
    assert [answer.json["duplicate"] for answer in answers].count(False) == 1
    assert len(rest.get("/api/runs?flow_id=once")["runs"]) == 1
    other = post(rest, "once", b"[]", webhook_id="same", Content_Type="application/json")
    assert refused(other) == (409, "REQUEST_ID_REUSED")


def test_a_sender_that_waits_is_told_how_it_ended(rest: Rest):
    """Failed with the author's own code, not done in time, a script's output; a duplicate gets the same."""
    fails = {"id": "no", "fail": {"message": "sold out", "code": "FAILED_PRECONDITION"}}
    save(rest, "fails", hook("fails", respond="run"), steps=[fails]).ok()
    answers = [post(rest, "fails", b"{}", webhook_id="d") for _ in range(2)]
    assert [refused(answer) for answer in answers] == [(400, "FAIL_STEP")] * 2
    assert answers[0].json["message"] == "sold out"
    assert len({answer.headers["x-reflux-run-id"] for answer in answers}) == 1
    slow = {
        "id": "slow",
        "node": "transform.execute",
        "with": {
            "code": "const end = Date.now() + 2000; while (Date.now() < end); return input.n + 1",
            "timeout_ms": 8000,
            "input": {"n": "{{ input.n }}"},
        },
    }
    save(rest, "slow", hook("slow", respond="run", timeout="100ms"), steps=[slow]).ok()
    late = post(rest, "slow", b'{"n": 1}', Content_Type="application/json")
    assert late.status == 202, late.body
    assert late.json["run_id"] == late.headers["x-reflux-run-id"]
    assert ended(rest, late.json["run_id"])["output"]["result"] == 2


def test_a_body_that_is_too_large_is_refused_at_any_size(rest: Rest):
    """One byte more than allowed, and far more; the largest that is allowed is a run."""
    save(rest, "large", hook("large")).ok()
    for size in ((1 << 20) + 1, 5 << 20):
        answer = post(rest, "large", b"x" * size, Content_Type="text/plain")
        assert refused(answer) == (400, "DOCUMENT_TOO_LARGE")
    assert post(rest, "large", b"x" * ((1 << 20) - 100), Content_Type="text/plain").status == 202
    assert refused(post(rest, "large", b"{", Content_Type="application/json")) == (400, "DOCUMENT_UNREADABLE")


def test_a_path_belongs_to_one_flow(rest: Rest):
    """Until that flow lets go of it; then it is nobody's at once."""
    save(rest, "owner", hook("mine")).ok()
    answer = save(rest, "thief", hook("mine"))
    assert refused(answer) == (409, "WEBHOOK_PATH_TAKEN")
    assert "owner" in answer.json["message"]
    planned = rest.post(
        "/api/flows:plan", {"name": "thief", "spec": {"triggers": [hook("mine")], "steps": [ECHO]}}
    )
    assert [problem["code"] for problem in planned["problems"]] == ["PATH_TAKEN"]
    assert post(rest, "mine", b"{}").status == 202
    assert rest("DELETE", "/api/flows/owner").status == 200
    assert refused(post(rest, "mine", b"{}")) == (404, "WEBHOOK_NOT_FOUND")
    save(rest, "thief", hook("mine")).ok()
    assert post(rest, "mine", b"{}").status == 202


def test_triggers_are_resources(rest: Rest):
    """Listed, read by flow and id, and not found where they are not."""
    save(rest, "listed", hook("listed", respond="run"), {**hook("listed/2"), "id": "two"}).ok()
    listed = rest.get("/api/flows/listed/triggers")["triggers"]
    assert [(trigger["id"], trigger["path"]) for trigger in listed] == [
        ("hook", "/hooks/listed"),
        ("two", "/hooks/listed/2"),
    ]
    one = rest.get("/api/flows/listed/triggers/hook")
    assert (one["type"], one["method"], one["auth"], one["response"]) == ("WEBHOOK", "POST", "none", "RUN")
    assert listed[0] in rest.get("/api/triggers?page_size=1000")["triggers"]
    assert refused(rest("GET", "/api/flows/listed/triggers/three")) == (404, "TRIGGER_NOT_FOUND")
    assert rest.get("/")["links"]["triggers"] == "/api/triggers"


def test_the_older_spelling_is_served(rest: Rest):
    """A first step webhook.trigger: its flow answers where the step said."""
    first = {"id": "start", "node": "webhook.trigger", "with": {"path": "older", "respond": "run"}}
    then = {"id": "done", "return": {"n": "{{ nodes.start.output.n }}"}}
    saved = rest(
        "PUT", "/api/flows/older?allow_missing=true", {"name": "older", "spec": {"steps": [first, then]}}
    )
    assert saved.ok()["spec"]["steps"] == [{"id": "done", "return": {"n": "{{ input.n }}"}}]
    assert post(rest, "older", b'{"n": 7}', Content_Type="application/json").ok() == {"n": 7}
