"""Death of the supervisor, or of a part: nothing is left behind, and everything comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psycopg
import redis

from tests.e2e.stack.running import alive, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.stack.running import RunningStack


def test_a_killed_supervisor_leaves_no_child_and_no_grandchild(
    start_stack: Callable[..., RunningStack],
) -> None:
    """After kill -9 the kernel ends the parts; PostgreSQL ends its own children."""
    stack = start_stack().until_up()
    with psycopg.connect(stack.dsn()):  # a backend with a client attached
        assert len(stack.seen) > 3
        os.kill(stack.process.pid, signal.SIGKILL)
        eventually(lambda: not any(map(alive, stack.seen)), "every process of the stack has ended")


def test_what_was_committed_is_there_after_a_kill_and_the_next_start(
    start_stack: Callable[..., RunningStack],
) -> None:
    """The next `up`, at once, sees off what is still ending and recovers; the stale state is replaced."""
    first = start_stack().until_up()
    with psycopg.connect(first.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    first.process.kill()
    first.process.wait()
    second = start_stack().until_up()
    assert second.state()["pid"] == second.process.pid
    with psycopg.connect(second.dsn()) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_a_stale_pid_of_another_process_does_not_stop_the_start(
    start_stack: Callable[..., RunningStack],
) -> None:
    """After a reboot the number in `postmaster.pid` may belong to anybody, even to the same user."""
    first = start_stack("postgres").until_up()
    lock = first.folder.part("postgres") / "data" / "postmaster.pid"
    content = lock.read_text()
    first.process.kill()
    first.process.wait()
    eventually(lambda: not any(map(alive, first.seen)), "the first server has ended")
    bystander = subprocess.Popen(["sleep", "600"], user=lock.parent.stat().st_uid)
    try:
        lock.write_text("\n".join([str(bystander.pid), *content.splitlines()[1:]]) + "\n")
        second = start_stack("postgres").until_up()
        with psycopg.connect(second.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_killed_part_is_started_again(start_stack: Callable[..., RunningStack]) -> None:
    """Valkey is back under a new pid, on the same port; the restart is counted and logged."""
    stack = start_stack("valkey", "envoy").until_up()
    before = stack.pid("valkey")
    envoy = stack.pid("envoy")
    os.kill(before, signal.SIGKILL)
    after = stack.until_restarted("valkey")
    assert after != before
    with redis.Redis.from_url(stack.redis_url()) as client:
        assert client.ping()
    assert stack.pid("envoy") == envoy
    assert stack.state()["parts"]["valkey"]["restarts"] == 1
    log = stack.folder.logs.path("supervisor").read_text()
    assert '"part_ended"' in log
    assert '"part_restarted"' in log


def test_a_killed_postgres_recovers(start_stack: Callable[..., RunningStack]) -> None:
    """The hardest case: its children outlive it for a moment and still hold its memory."""
    stack = start_stack("postgres").until_up()
    with psycopg.connect(stack.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        os.kill(stack.pid("postgres"), signal.SIGKILL)
        stack.until_restarted("postgres")
    with psycopg.connect(stack.dsn()) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_what_a_killed_part_had_started_ends_with_it(start_stack: Callable[..., RunningStack]) -> None:
    """A part leads a group; the supervisor ends the rest of it before it starts the part again."""
    stack = start_stack("stubborn").until_up()
    children = stack.seen - {stack.pid("stubborn")}
    assert children
    os.kill(stack.pid("stubborn"), signal.SIGKILL)
    stack.until_restarted("stubborn")
    eventually(lambda: not any(map(alive, children)), "the former children have ended")
    stack.process.kill()  # what the part has started is its own business when the supervisor is killed


def test_a_part_that_keeps_crashing_is_started_less_and_less_often(
    start_stack: Callable[..., RunningStack],
) -> None:
    """Each delay is twice the one before: 0.05 s, 0.1 s, 0.2 s, 0.4 s as this stack is configured."""
    stack = start_stack("valkey").until_up()
    began = time.monotonic()
    for crashes in range(1, 5):
        os.kill(stack.pid("valkey"), signal.SIGKILL)

        def ready_again(restarts: int = crashes) -> bool:
            part = stack.state()["parts"]["valkey"]
            return bool(part["restarts"] == restarts and part["state"] == "ready")

        eventually(ready_again, f"restart {crashes}")
    assert time.monotonic() - began >= 0.05 + 0.1 + 0.2 + 0.4
