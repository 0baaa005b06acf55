"""What a script branches on: the exit status says who must act, and it is the same for every command."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from reflux.cli import exits
from reflux.cli.exits import Exit
from reflux.core import errors
from reflux.core.reasons import Reason
from tests.unit.cli.shapes import CREATED, RUN, a_run, an_event, finished

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

KINDS = {
    errors.InvalidArgument: 2,
    errors.Unauthenticated: 2,
    errors.NotFound: 3,
    errors.AlreadyExists: 4,
    errors.Conflict: 4,
    errors.Refused: 1,
    errors.Unavailable: 5,
    errors.Exhausted: 5,
    errors.Defect: 1,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_error_has_its_status(
    server: FakeServer, reflux: Reflux, kind: type[errors.RefluxError]
) -> None:
    """Every leaf of the error tree, by what the caller can do about it; reason and message are shown."""
    server.next_errors = [kind(Reason.ARGUMENT_INVALID, "the words of the server")]
    ended = reflux("flow", "list")
    assert ended.status == KINDS[kind]
    assert ended.stdout == ""
    assert ended.stderr.startswith("reflux: ARGUMENT_INVALID: the words of the server\n")


def test_every_leaf_of_the_tree_is_listed_here() -> None:
    """A new kind of error must be given its status."""
    tree = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.RefluxError)
    }
    leaves = {kind for kind in tree if not tree & set(kind.__subclasses__())}
    assert leaves == set(KINDS)


@pytest.mark.parametrize(
    ("state", "status"),
    [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1), ("PARKED", 6), ("RUNNING", 7), ("QUEUED", 7)],
)
def test_a_run_that_was_waited_for_says_how_it_ended(
    server: FakeServer, reflux: Reflux, state: str, status: int
) -> None:
    """Failed, parked and not yet ended are three things."""
    server.runs.states = [state]
    assert reflux("flow", "run", "orders", "--wait", "10ms").status == status


@pytest.mark.parametrize(("state", "status"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1)])
def test_a_run_that_was_watched_says_how_it_ended(
    server: FakeServer, reflux: Reflux, state: str, status: int
) -> None:
    """The same for `run watch`."""
    server.runs.events = [CREATED, finished(2, state)]
    server.runs.run = a_run(state)
    assert reflux("run", "watch", RUN).status == status


def test_a_run_that_is_parked_ends_its_watch(server: FakeServer, reflux: Reflux) -> None:
    """Its stream stays open, but nothing more happens until a person acts: 6."""
    failure = {"reason": "EFFECT_AMBIGUOUS", "message": "nobody knows"}
    server.runs.events = [CREATED, an_event(2, "RunParked", failure=failure, time=None)]
    server.runs.run = a_run("PARKED")
    ended = reflux("run", "watch", RUN)
    assert ended.status == 6
    assert "run PARKED: EFFECT_AMBIGUOUS: nobody knows" in ended.stdout


def test_a_watch_that_begins_behind_the_parking_ends_too(server: FakeServer, reflux: Reflux) -> None:
    """Nothing more comes, and nobody waits for it."""
    server.runs.events, server.runs.run = [CREATED], a_run("PARKED")
    assert reflux("run", "watch", RUN, "--after", "1").status == 6


def test_ctrl_c_is_130(server: FakeServer) -> None:
    """As shells have it, without a traceback."""
    server.runs.events, server.runs.run = [CREATED], a_run("RUNNING")
    command = [sys.executable, "-m", "reflux.cli", "run", "watch", RUN]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    assert "accepted" in watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    _, errors = watch.communicate(timeout=60)
    assert (watch.returncode, errors) == (130, "")


def test_nothing_that_listens_is_told_with_what_to_do(reflux: Reflux) -> None:
    """Its own status, the address, who named it, and how to get a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    ended = reflux("flow", "list", "--server", address)
    assert ended.status == 5
    assert ended.stderr == f"reflux: SERVICE_UNREACHABLE: nothing answers at {address} (--server)\n"


def test_wrong_usage_is_2(server: FakeServer, reflux: Reflux) -> None:
    """An unknown option, a missing argument, a value that no service has to see."""
    assert reflux("flow", "list", "--nonsense").status == 2
    assert reflux("flow", "get").status == 2
    assert reflux("run", "list", "--state", "TIRED").status == 2
    assert reflux("run", "list", "--since", "yesterday").status == 2
    assert reflux("flow", "run", "orders", "--wait", "soon").status == 2
    assert reflux("flow", "run", "orders", "--input", "{not json").status == 2
    assert server.asked == []


def test_a_wrong_setting_is_2(reflux: Reflux, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is none, from the flag or the environment, is told before anything is called."""
    ended = reflux("flow", "list", "--server", "nowhere")
    assert ended.status == 2
    assert "server: Value error, 'nowhere' is not an address of the form host:port" in ended.stderr
    monkeypatch.setenv("REFLUX_SERVER", "https://example.test:443")
    ended = reflux("flow", "list")
    assert ended.status == 2
    assert "TLS is not spoken yet" in ended.stderr


def test_the_help_lists_them(reflux: Reflux) -> None:
    """Nobody has to read our code to write a script."""
    text = " ".join(reflux("--help").stdout.split())
    for status in Exit:
        assert f"{int(status)} " in text
    assert exits.of_run("CANCELING") is Exit.NOT_YET
