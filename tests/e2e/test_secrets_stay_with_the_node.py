"""A step names a credential; what is behind the name reaches the target, and is found nowhere else.

The whole stack is looked through byte by byte: every file of its data folder (tables and their log, logs of
all processes, Valkey's), what the API tells of the runs, and every span that was exported.
"""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.otlp import Receiver, running_receiver
from tests.support.stack import Stack, running_stack
from tests.unit.sdk.credentials import bearer, put

SECRET = "tok-5fC2rWq8ZkLm-of-the-shop"
MARK = "mark-of-a-run-that-is-looked-for"
"""Sent as the run's input: what finds it would find the secret too."""


class Echo(BaseHTTPRequestHandler):
    """Repeats the headers that it was sent; /no declines in their words."""

    got: list[str]

    def do_GET(self) -> None:
        headers = dict(self.headers.items())
        type(self).got.append(headers.get("Authorization", ""))
        body = json.dumps(headers).encode()
        self.send_response(403 if self.path == "/no" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Back", headers.get("Authorization", "none"))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """A target that keeps nothing to itself; its origin."""
    Echo.got = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, echo: str) -> Iterator[Stack]:
    """A stack with one credential in its data folder, and one that others can read."""
    data = tmp_path_factory.mktemp("secret") / "data"
    folder = data / "credentials"
    folder.mkdir(parents=True)
    put(folder, "shop-api", bearer(echo, token=SECRET))
    put(folder, "open-to-all", bearer(echo, token=SECRET), mode=0o644)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
    with running_stack(data, environment=environment) as stack:
        yield stack


def step(name: str, url: str, credential: str, **keys: Any) -> dict[str, Any]:
    return {
        "id": name,
        "node": "http.request",
        "with": {"url": url},
        "credentials": credential,
        "on_error": "continue",
        **keys,
    }


@pytest.fixture(scope="module")
def run(stack: Stack, echo: str) -> dict[str, Any]:
    """A run whose steps use credentials in every way, good and bad."""
    retry = {"attempts": 3, "delay": "50ms", "on": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}
    elsewhere = echo.replace("127.0.0.1", "127.0.0.2")
    spec = {
        "steps": [
            step("good", f"{echo}/", "shop-api", cache={"ttl": "1m"}),
            step("declined", f"{echo}/no", "shop-api", retry=retry),
            step("missing", f"{echo}/", "not-there", retry=retry),
            step("public", f"{echo}/", "open-to-all"),
            step("elsewhere", f"{elsewhere}/", "shop-api"),
            step("nowhere", f"{echo}/", "shop-api") | {"credentials": {"no-slot": "shop-api"}},
            {"id": "last", "set": {"seen": "{{ steps.good.output }}", "mark": "{{ input.mark }}"}},
        ]
    }
    stack.rest("PUT", "/api/flows/secret?allow_missing=true", {"name": "secret", "spec": spec}).ok()
    made: dict[str, Any] = stack.rest.post("/api/flows/secret/execute?wait=60s", {"mark": MARK})
    steps = stack.rest.get(f"/api/runs/{made['id']}/steps")["steps"]
    return {**made, "steps": {each["id"]: each for each in steps}}


def test_the_target_gets_it_and_the_run_does_not(run: dict[str, Any]):
    """The target repeats what it was sent, in its body and in a header; who declines does so too."""
    assert run["state"] == "SUCCEEDED"
    assert set(Echo.got) == {f"Bearer {SECRET}"}, "the good step and the declined one, and no other"
    good = run["steps"]["good"]["output"]
    assert good["body"]["Authorization"] == good["headers"]["x-back"] == "Bearer ***"
    declined = run["steps"]["declined"]["error"]
    assert (declined["reason"], declined["code"]) == ("TARGET_STATUS", "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("name", "reason", "said"),
    [
        ("missing", "CREDENTIAL_UNAVAILABLE", "there is no file of this name"),
        ("public", "CREDENTIAL_UNAVAILABLE", "chmod 600"),
        ("elsewhere", "CREDENTIAL_UNFIT", "may not be sent to http://127.0.0.2"),
        ("nowhere", "CREDENTIAL_UNFIT", "no slot no-slot"),
    ],
)
def test_without_it_a_step_fails_once_and_says_why(run: dict[str, Any], name: str, reason: str, said: str):
    """Nothing is tried again, and no other version is asked: it is nobody's illness."""
    failed = run["steps"][name]
    assert (failed["state"], failed["error"]["reason"]) == ("FAILED", reason)
    assert said in failed["error"]["message"]
    (attempt,) = failed["attempts"]
    assert attempt["tries"] <= 1
    assert attempt["outcome"] in ("NO_EFFECT", "NOT_SENT")


def test_it_is_in_no_table_no_log_and_no_trace(stack: Stack, run: dict[str, Any], receiver: Receiver):
    """Not a byte of it in any file of the stack but its own; the mark of the run is found the same way."""
    trace = receiver.trace(run["id"], until=lambda trace: trace.named("run secret") and trace.named("GET"))
    events = stack.rest.get(f"/api/runs/{run['id']}/events")
    plan = stack.rest.get("/api/flows/secret")
    for told in (trace.spans, run, events, plan):
        assert SECRET not in repr(told)
    assert "shop-api" in repr(plan), "its name is no secret"

    found = {needle: _files_with(stack.data, needle) for needle in (SECRET, MARK)}
    assert found[SECRET] == {"credentials/open-to-all", "credentials/shop-api"}
    assert any(file.startswith("postgres") for file in found[MARK]), "the run was not looked through"
    assert "endpoint_registered" in stack.log("nodes"), (
        "the nodes logged nothing that could be looked through"
    )


def _files_with(folder: Path, needle: str) -> set[str]:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return {str(file.relative_to(folder)) for file in files if needle.encode() in file.read_bytes()}
