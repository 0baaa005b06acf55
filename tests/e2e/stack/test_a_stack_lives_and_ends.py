"""A stack comes up part by part, describes itself, drains in reverse, and resumes with its data."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from tests.e2e.stack.running import alive, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.stack.running import RunningStack


def test_every_server_answers_when_the_stack_is_up(start_stack: Callable[..., RunningStack]) -> None:
    """Up means usable: PostgreSQL, Valkey and Envoy answer at the ports that the state file names."""
    stack = start_stack().until_up()
    with psycopg.connect(stack.dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with redis.Redis.from_url(stack.redis_url()) as client:
        assert client.ping()
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.state()['ports']['envoy']}/ready") as answer:
        assert answer.read().strip() == b"LIVE"


def test_the_state_file_describes_the_running_stack_without_secrets(
    start_stack: Callable[..., RunningStack],
) -> None:
    """Pids, ports and URLs; each pid is that of the server itself, no launcher in between."""
    stack = start_stack().until_up()
    state = stack.state()
    assert state["pid"] == stack.process.pid
    assert {name: part["state"] for name, part in state["parts"].items()} == dict.fromkeys(
        ("postgres", "valkey", "envoy"), "ready"
    )
    for name, program in (("postgres", "postgres"), ("valkey", "valkey-server"), ("envoy", "envoy")):
        assert Path(f"/proc/{stack.pid(name)}/exe").readlink().name == program
    password = stack.dsn().split(":")[2].split("@")[0]
    assert password not in stack.folder.state_file.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_parts_in_reverse_order(
    start_stack: Callable[..., RunningStack], number: signal.Signals
) -> None:
    """Last started, first stopped; then no process and no state file is left, and the status is 0."""
    stack = start_stack().until_up()
    output = stack.stop(number)
    stopped = [line.split()[1] for line in output.splitlines() if line.endswith("stopped")]
    assert stopped == ["envoy", "valkey", "postgres"]
    assert stack.process.returncode == 0
    assert not stack.folder.state_file.exists()
    assert not any(map(alive, stack.seen))
    assert "database system is shut down" in stack.folder.logs.path("postgres").read_text()


def test_data_is_there_again_after_a_restart(start_stack: Callable[..., RunningStack]) -> None:
    """The second start uses what the first one made: same database, same password."""
    first = start_stack("postgres").until_up()
    with psycopg.connect(first.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    first.stop()
    second = start_stack("postgres").until_up()
    with psycopg.connect(second.dsn()) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_two_stacks_run_side_by_side(start_stack: Callable[..., RunningStack]) -> None:
    """Each with its own folder, whatever its name; the end of one does not touch the other."""
    one = start_stack("valkey", "envoy", name="one").until_up()
    two = start_stack("valkey", "envoy", name='the "zwölfte" stack').until_up()
    one.stop()
    with redis.Redis.from_url(two.redis_url()) as client:
        assert client.ping()


def test_a_second_signal_ends_everything_at_once(start_stack: Callable[..., RunningStack]) -> None:
    """A part that takes no notice of its drain is not waited for, and not left behind."""
    stack = start_stack("stubborn").until_up()
    part = stack.pid("stubborn")
    stack.process.send_signal(signal.SIGINT)
    eventually(lambda: stack.state()["parts"]["stubborn"]["state"] == "stopping", "the drain has begun")
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(5) == 128 + signal.SIGINT
    eventually(lambda: not alive(part), "the part has ended")
