"""`--json`: one document on stdout and nothing else; a failure is a google.rpc.Status on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from reflux.core.errors import InvalidArgument, Violation
from reflux.core.reasons import Reason
from tests.unit.cli.shapes import CREATED, RUN, SETTLED, a_step, finished

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

FLOW = {"name": "orders", "spec": {"steps": [{"id": "a", "set": {"n": 9007199254740993}}]}}

COMMANDS = [
    ("status",),
    ("flow", "apply", "flow.json"),
    ("flow", "plan", "flow.json"),
    ("flow", "list"),
    ("flow", "get", "orders"),
    ("flow", "history", "orders"),
    ("flow", "diff", "orders", "flow.json"),
    ("flow", "rollback", "orders", "1"),
    ("flow", "run", "orders"),
    ("flow", "delete", "orders"),
    ("run", "list"),
    ("run", "get", RUN),
    ("run", "why", RUN),
    ("run", "cancel", RUN, "--reason", "enough"),
    ("run", "fork", RUN, "pay"),
    ("run", "retry", RUN),
    ("run", "failures"),
    ("run", "bulk", "cancel", "--flow", "orders"),
    ("run", "step", RUN, "pay"),
    ("flow", "step", "orders", "pay"),
    ("run", "signal", RUN, "shipped"),
    ("run", "send", "shipped", "--key", "k"),
    ("run", "answer", RUN, "ok", "--approve"),
    ("run", "token", RUN, "ok"),
    ("run", "pause", RUN),
    ("run", "resume", RUN),
    ("run", "terminate", RUN),
    ("run", "skip", RUN, "ok"),
    ("run", "complete", RUN, "pay", "retry"),
    ("node", "list"),
    ("node", "get", "http.request"),
    ("route", "list"),
    ("route", "get", "http.request"),
    ("route", "set", "http.request", "1.0.0=90", "2.0.0=10"),
    ("route", "shadow", "http.request"),
    ("route", "history", "http.request"),
    ("route", "diff", "http.request", "1", "1"),
    ("route", "rollback", "http.request", "1"),
    ("trigger", "list"),
    ("trigger", "get", "orders", "incoming"),
    ("trigger", "pause", "orders", "night"),
    ("trigger", "resume", "orders", "night"),
    ("trigger", "fire", "orders", "night"),
    ("trigger", "preview", "orders", "night"),
]


@pytest.fixture(autouse=True)
def _a_flow(tmp_path: Path, reflux: Reflux, server: FakeServer) -> None:
    (tmp_path / "flow.json").write_bytes(orjson.dumps(FLOW))
    reflux("flow", "apply", "flow.json", ok=True)
    server.runs.steps = [a_step()]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_gives_one_document(reflux: Reflux, command: tuple[str, ...]) -> None:
    """It parses as a whole, is an object, and stderr is silent."""
    ended = reflux(*command, "--json")
    assert ended.status == 0
    assert isinstance(ended.json, dict)
    assert ended.stderr == ""


def test_every_command_takes_it(reflux: Reflux) -> None:
    """The list above is complete: a new command must be added."""
    from reflux.cli.commands import flow, node, route, run, trigger

    apps = {"flow": flow.app, "run": run.app, "node": node.app, "route": route.app, "trigger": trigger.app}
    registered = {(name, command.name) for name, app in apps.items() for command in app.registered_commands}
    assert registered - {command[:2] for command in COMMANDS} == {("run", "watch")}


def test_a_watch_gives_a_line_for_each_event(server: FakeServer, reflux: Reflux) -> None:
    """The events as they are in the journal, one by one."""
    server.runs.events = [CREATED, SETTLED, finished(3)]
    ended = reflux("run", "watch", RUN, "--json", ok=True)
    assert [orjson.loads(line) for line in ended.stdout.splitlines()] == server.runs.events
    assert ended.stderr == ""


def test_numbers_keep_their_digits(server: FakeServer, reflux: Reflux) -> None:
    """An integer that no double holds is shown as it is."""
    server.runs.steps = []
    assert reflux("run", "get", RUN, "--json").json["output"] == {"total": 9007199254740993}
    assert reflux("flow", "get", "orders", "--json").json["spec"] == FLOW["spec"]


def test_a_failure_is_a_status_with_everything_the_service_said(server: FakeServer, reflux: Reflux) -> None:
    """Code, message, reason with its metadata, and each wrong place; stdout is empty."""
    violations = [Violation("/spec/steps/0", "wrong")]
    metadata = {"limit": "7"}
    server.next_errors = [
        InvalidArgument(Reason.FLOW_INVALID, "no", metadata=metadata, violations=violations)
    ]
    ended = reflux("flow", "list", "--json")
    assert (ended.status, ended.stdout) == (2, "")
    info, request = ended.refusal["details"]
    assert (ended.refusal["code"], ended.refusal["message"]) == (3, "no")
    assert (info["reason"], info["domain"], info["metadata"]) == ("FLOW_INVALID", "reflux.dev", metadata)
    assert request["field_violations"] == [{"field": "/spec/steps/0", "description": "wrong"}]


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (("flow", "get", "nope"), 5, "FLOW_NOT_FOUND"),
        (("run", "list", "--state", "TIRED"), 3, "ARGUMENT_INVALID"),
        (("flow", "apply", "missing.yaml"), 3, "ARGUMENT_INVALID"),
        (("flow", "list", "--server", "nowhere"), 3, "ARGUMENT_INVALID"),
        (("flow", "list", "--server", "127.0.0.1:1"), 14, "SERVICE_UNREACHABLE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_fails_before_any_service_looks_the_same(
    reflux: Reflux, command: tuple[str, ...], code: int, reason: str
) -> None:
    """A program needs one reader for failures, wherever they arise."""
    ended = reflux(*command, "--json")
    assert ended.stdout == ""
    assert ended.refusal["code"] == code
    assert ended.refusal["details"][0]["reason"] == reason


def test_a_refused_flow_is_both(reflux: Reflux, tmp_path: Path) -> None:
    """The results of all files on stdout, the refusal on stderr."""
    (tmp_path / "bad.json").write_text('{"name": "bad", "spec": {"steps": [{"id": "a"}]}}')
    ended = reflux("flow", "apply", "bad.json", "flow.json", "--json")
    assert ended.status == 2
    refused, unchanged = ended.json["flows"]
    assert refused["result"] == "refused"
    assert refused["problems"][0]["pointer"] == "/spec/steps/0"
    assert unchanged["result"] == "unchanged"
    assert ended.refusal["details"][0]["reason"] == "FLOW_INVALID"
