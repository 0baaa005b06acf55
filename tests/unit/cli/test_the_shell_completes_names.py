"""Completion: the shell asks `reflux` itself, which asks the server, within a second and without a word."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from reflux.cli.__main__ import app
from tests.unit.cli.shapes import RUN, a_step

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

FLOW = '{"name": "%s", "spec": {"steps": [{"id": "a", "set": {}}]}}'


def asking(line: str) -> dict[str, str]:
    """How bash asks what may follow, with the cursor at the end of the line."""
    return {
        "_REFLUX_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }


def complete(line: str) -> list[str]:
    """What bash is offered."""
    ended = CliRunner().invoke(app, [], env=asking(line), prog_name="reflux")
    assert ended.stderr == ""
    return ended.stdout.split()


def complete_in_a_process(line: str, server: str) -> list[str]:
    """The same by the program itself, whose libraries might write to stderr behind our back."""
    ended = subprocess.run(
        [sys.executable, "-m", "reflux.cli"],
        env={**os.environ, **asking(line), "REFLUX_SERVER": server},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.fixture
def _flows(server: FakeServer, reflux: Reflux) -> None:
    for name in ("orders", "other"):
        reflux("flow", "apply", "-", given=FLOW % name, ok=True)
    server.runs.steps = [a_step(), a_step(id="ship")]


@pytest.mark.usefixtures("_flows")
@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("reflux flow get o", ["orders", "other"]),
        ("reflux flow get or", ["orders"]),
        ("reflux flow rollback orders ", ["1"]),
        ("reflux run get ", [RUN]),
        (f"reflux run why {RUN} s", ["ship"]),
        ("reflux node get http", ["http.request"]),
        ("reflux route set http.request ", ["2.0.0=", "1.0.0="]),
        ("reflux route rollback http.request ", ["1"]),
        ("reflux trigger get orders ", ["incoming", "night", "refund"]),
        ("reflux run list --state S", ["SUCCEEDED"]),
    ],
)
def test_names_come_from_the_server(line: str, names: list[str]) -> None:
    """Flows, runs, steps, nodes, versions, revisions and triggers, of what was typed before."""
    assert complete(line) == names


def test_the_server_of_the_line_is_asked(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that was typed already counts."""
    monkeypatch.delenv("REFLUX_SERVER")
    assert complete(f"reflux node get --server {server.address} ") == ["http.request"]


def test_the_program_itself_completes_and_is_silent(server: FakeServer) -> None:
    """Names when there is a server, nothing at all when there is none."""
    assert complete_in_a_process("reflux node get ", server.address) == ["http.request"]
    assert complete_in_a_process("reflux node get ", "127.0.0.1:1") == []


def test_a_wrong_setting_is_no_business_of_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is offered, nothing said."""
    monkeypatch.setenv("REFLUX_SERVER", "no address")
    assert complete("reflux flow get ") == []


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection and says nothing: the deadline frees the shell."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("REFLUX_SERVER", f"127.0.0.1:{silent.getsockname()[1]}")
        assert complete("reflux flow get ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_can_be_had(shell: str) -> None:
    """What --show-completion prints is for this program."""
    environment = {"_REFLUX_COMPLETE": f"source_{shell}"}
    ended = CliRunner().invoke(app, [], env=environment, prog_name="reflux")
    assert "_REFLUX_COMPLETE" in ended.stdout
    assert ended.exit_code == 0
