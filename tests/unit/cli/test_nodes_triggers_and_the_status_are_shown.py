"""`reflux node`, `reflux trigger` and `reflux status`: what is there, and what is not well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.cli.commands.status import uptime
from tests.unit.cli.shapes import a_run
from tests.unit.cli.test_the_server_is_found import stack_on

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer


def test_versions_are_shown_with_their_share(server: FakeServer, reflux: Reflux) -> None:
    """State, endpoints, effect and share; and the flows that it does not fit."""
    lines = reflux("node", "list", ok=True).stdout.splitlines()
    found = [" ".join(line.split()) for line in lines[1:]]
    assert found == [
        "http.request 2.0.0 ABSENT 0 by input checkout@3 Sends one request.",
        "http.request 1.0.0 LIVE 1 100 % by input Sends one request.",
    ]


def test_one_version_with_everything(server: FakeServer, reflux: Reflux) -> None:
    """The expression of its effect, its endpoints, its part in the route."""
    shown = dict(
        line.split("  ", 1)
        for line in reflux("node", "get", "http.request@1.0.0", ok=True).stdout.splitlines()
    )
    facts = {name.strip(): value.strip() for name, value in shown.items()}
    assert facts["decided by"] == "input.method == 'GET' ? 'pure' : 'at_most_once'"
    assert facts["endpoints"] == "127.0.0.1:7001"
    assert facts["share"] == "100 %"
    assert facts["tries"] == "2"


def test_the_flows_that_a_version_does_not_fit_are_shown(server: FakeServer, reflux: Reflux) -> None:
    """With step, place and what to do; whoever cannot say keeps nobody from looking at the rest."""
    text = " ".join(reflux("node", "get", "http.request@2.0.0", ok=True).stdout.split())
    assert "checkout@3 ask /spec/steps/0/with/url some, perhaps it takes string and no longer null" in text
    assert "does not fit" not in reflux("node", "get", "http.request@1.0.0", ok=True).stdout
    server.contracts.away = True
    ended = reflux("node", "list", ok=True)
    assert "is not known: UNAVAILABLE" in ended.stderr
    assert "http.request 1.0.0 LIVE 1 100 % by input ? Sends" in " ".join(ended.stdout.split())


def test_an_unknown_version_names_the_known(server: FakeServer, reflux: Reflux) -> None:
    """3, for a node and for a version of it."""
    ended = reflux("node", "get", "http.request@9")
    assert ended.status == 3
    assert "it has 2.0.0, 1.0.0" in ended.stderr
    assert reflux("node", "get", "no.such").status == 3


def test_a_trigger_shows_the_url_to_call(server: FakeServer, reflux: Reflux) -> None:
    """Whole, with the method, at the server that was asked."""
    row = reflux("trigger", "list", ok=True).stdout.splitlines()[1]
    assert " ".join(row.split()) == "orders incoming webhook POST /hooks/orders, hmac"
    text = reflux("trigger", "get", "orders", "incoming", ok=True).stdout
    assert f"POST http://{server.address}/hooks/orders" in text
    assert reflux("trigger", "list", "--flow", "other", ok=True).stdout == ""
    assert reflux("trigger", "get", "orders", "nope").status == 3


def test_a_schedule_shows_when_it_fires_and_how_it_fared(server: FakeServer, reflux: Reflux) -> None:
    """In the list its last error, by itself all of it; paused it says so."""
    row = reflux("trigger", "list", ok=True).stdout.splitlines()[2]
    assert row.split()[:3] == ["orders", "night", "cron"]
    assert "0 2 * * * Europe/Oslo" in row
    assert "INPUT_INVALID" in row
    text = reflux("trigger", "get", "orders", "night", ok=True).stdout
    assert "INPUT_INVALID does not fit" in text
    assert "7 fired, 1 failed" in text
    assert "paused" not in text
    assert "paused" in reflux("trigger", "pause", "orders", "night", ok=True).stdout
    assert "paused" not in reflux("trigger", "resume", "orders", "night", ok=True).stdout
    assert len(reflux("trigger", "preview", "orders", "night", "-n", "3", ok=True).stdout.splitlines()) == 4


def test_a_trigger_is_fired_by_hand(server: FakeServer, reflux: Reflux) -> None:
    """With its form, once per request id; the run's id is all that is printed."""
    ended = reflux("trigger", "fire", "orders", "refund", "--input", '{"n": 1}', "--request-id", "r", ok=True)
    [request] = server.triggers.fired
    assert (request.trigger_id, request.form.data, request.request_id) == ("refund", b'{"n": 1}', "r")
    assert ended.stdout.strip() == reflux("trigger", "fire", "orders", "night", "--json").json["id"]
    assert server.triggers.fired[1].form.data == b""
    assert server.triggers.fired[1].request_id
    assert "Refund an order" in reflux("trigger", "list", ok=True).stdout


def test_a_server_elsewhere_is_described_by_its_api(server: FakeServer, reflux: Reflux) -> None:
    """Nodes and runs by state, more than a page as `100+`."""
    server.runs.run = a_run("FAILED")
    answer = reflux("status", "--json", ok=True).json
    assert answer["stack"] is None
    assert answer["trouble"] == []
    assert answer["api"]["runs"]["FAILED"] == {"count": 1, "more": True}
    assert answer["api"]["runs"]["RUNNING"] == {"count": 0, "more": False}
    titles, counts = reflux("status", ok=True).stdout.splitlines()[-2:]
    assert dict(zip(titles.split()[1:], counts.split(), strict=True))["FAILED"] == "1+"


def test_what_is_not_well_is_1_and_said(server: FakeServer, reflux: Reflux) -> None:
    """Traffic without an endpoint, and a route that is on its way."""
    server.routes.state = pb.Route.APPLYING
    server.routes.add([pb.Target(version="2.0.0", weight=10000)])
    ended = reflux("status")
    assert ended.status == 1
    assert "! http.request@2.0.0 gets 100 % of the traffic and has no live endpoint" in ended.stdout
    assert "! the newest route of http.request is APPLYING, waiting for mesh-2" in ended.stdout


def test_the_parts_are_shown_even_when_the_api_is_away(
    reflux: Reflux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is when one wants to see them: with state, pid and restarts; the status is 5."""
    part = {"name": "envoy", "state": "restarting", "pid": None, "restarts": 3, "seconds": None}
    monkeypatch.setenv("COLUMNS", "200")
    with stack_on(tmp_path / ".reflux", "http://127.0.0.1:1"):
        state = tmp_path / ".reflux" / "run" / "stack.json"
        text = state.read_text().replace('"parts": {}', f'"parts": {{"envoy": {_json(part)}}}')
        state.write_text(text)
        ended = reflux("status")
    assert ended.status == 5
    assert "envoy  restarting              3" in ended.stdout
    assert "! part envoy is restarting" in ended.stdout
    assert "nothing answers at 127.0.0.1:1 (the stack on" in ended.stderr


def _json(value: object) -> str:
    import json

    return json.dumps(value)


def test_uptime_is_the_processes_own() -> None:
    """From the kernel; nothing is said of a process that is gone."""
    mine, first = uptime(os.getpid()), uptime(1)
    assert mine is not None
    assert first is not None
    assert 0 <= mine <= first
    assert uptime(None) is None
    assert uptime(2**22 + 1) is None
