"""A stack does not depend on being watched, nor on being able to say how it is."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

from tests.e2e.stack.running import alive, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.stack.running import RunningStack

DRAINED = "received fast shutdown request"


def drained(stack: RunningStack) -> bool:
    """Whether the stack ended in order: PostgreSQL was asked to, not killed, and nothing is left."""
    stack.process.wait(60)
    log = stack.folder.logs.path("postgres").read_text()
    return stack.process.returncode == 0 and DRAINED in log and not any(map(alive, stack.seen))


def test_a_reader_that_has_gone_does_not_spoil_the_drain(start_stack: Callable[..., RunningStack]) -> None:
    """`make up | tee log` and Ctrl-C: the pipe is closed before the parts have ended."""
    stack = start_stack("postgres", "valkey").until_up()
    assert stack.process.stdout is not None
    stack.process.stdout.close()
    stack.process.send_signal(signal.SIGINT)
    assert drained(stack)


def test_a_terminal_that_has_gone_does_not_spoil_the_drain(start_stack: Callable[..., RunningStack]) -> None:
    """The window is closed: SIGHUP, and every line of progress is an input/output error."""
    screen, terminal = os.openpty()
    stack = start_stack("postgres", "valkey", stdout=terminal)
    os.close(terminal)
    stack.until_up()
    os.close(screen)
    stack.process.send_signal(signal.SIGHUP)
    assert drained(stack)


def test_a_state_that_cannot_be_written_ends_nothing(start_stack: Callable[..., RunningStack]) -> None:
    """As on a full disk: the crash of a part is still answered, and the drain still ordered."""
    stack = start_stack("postgres", "valkey").until_up()
    killed = stack.pid("valkey")
    shutil.rmtree(stack.folder.state_file.parent)
    os.kill(killed, signal.SIGKILL)
    log = stack.folder.logs.path("supervisor")
    eventually(lambda: "part_restarted" in log.read_text(), "valkey is ready again")
    assert "state_not_written" in log.read_text()
    stack.process.send_signal(signal.SIGINT)
    assert drained(stack)
