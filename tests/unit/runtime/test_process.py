"""The life of a process: ready, signals, drain, failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """
import asyncio, sys, time
from concurrent.futures import ThreadPoolExecutor
from reflux.runtime import process
from reflux.runtime.settings import Settings

async def drains(ready):
    ready.set()
    try:
        await asyncio.sleep(60)
    finally:
        print("draining", flush=True)
        await asyncio.sleep(0.01)
        print("drained", flush=True)

async def drains_for_ever(ready):
    ready.set()
    try:
        await asyncio.sleep(60)
    finally:
        print("draining", flush=True)
        await asyncio.sleep(60)

async def leaves_a_thread(ready):
    ThreadPoolExecutor(1).submit(time.sleep, 60)
    ready.set()
    try:
        await asyncio.sleep(60)
    finally:
        print("drained", flush=True)

async def fails(ready):
    raise RuntimeError("the reason")

async def loop_class(ready):
    print(type(asyncio.get_running_loop()).__module__)

ready = asyncio.Event()
settings = Settings.load(ready_fd=int(sys.argv[2]))
process.run(globals()[sys.argv[1]](ready), name="test", settings=settings, ready=ready)
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A running program and the read end of its readiness descriptor."""

    process: subprocess.Popen[str]
    ready: int

    def end(self) -> tuple[str, str]:
        """(stdout, stderr) of the ended program."""
        return self.process.communicate(timeout=20)


@contextmanager
def running(main: str) -> Iterator[Running]:
    """`PROGRAM` with the given main function; killed at the latest when the block ends."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, main, str(write_end)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(write_end,),
    )
    os.close(write_end)
    try:
        yield Running(process, read_end)
    finally:
        os.close(read_end)
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_lets_the_process_drain(number: signal.Signals) -> None:
    """The main task is cancelled, what it does then is done, and the status is 0."""
    with running("drains") as program:
        assert os.read(program.ready, 10) == b"\n"
        program.process.send_signal(number)
        stdout, _ = program.end()
        assert stdout == "draining\ndrained\n"
        assert program.process.returncode == 0


def test_the_end_of_the_terminal_is_ignored_under_nohup() -> None:
    """Who started the process with SIGHUP ignored wants it to go on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running("drains") as program:
            assert os.read(program.ready, 10) == b"\n"
            program.process.send_signal(signal.SIGHUP)
            program.process.send_signal(signal.SIGTERM)  # counts as the first
            stdout, _ = program.end()
            assert stdout == "draining\ndrained\n"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_the_process_at_once() -> None:
    """A drain that takes too long can be cut short; the status is the one a shell expects."""
    with running("drains_for_ever") as program:
        assert os.read(program.ready, 10) == b"\n"
        program.process.send_signal(signal.SIGINT)
        assert program.process.stdout is not None
        assert program.process.stdout.readline() == "draining\n"
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(10) == 128 + signal.SIGINT


def test_a_thread_that_nobody_can_stop_is_not_waited_for() -> None:
    """The drain has its bound, and a function that blocks in a thread does not lengthen it."""
    with running("leaves_a_thread") as program:
        assert os.read(program.ready, 10) == b"\n"
        program.process.send_signal(signal.SIGTERM)
        stdout, stderr = program.end()
        assert stdout == "drained\n"
        assert "process_ended" in stderr
        assert program.process.returncode == 0


def test_readiness_is_one_newline_and_then_the_end_of_the_descriptor() -> None:
    """s6's protocol: whoever waits sees the newline, once."""
    with running("drains") as program:
        assert os.read(program.ready, 10) == b"\n"
        assert os.read(program.ready, 10) == b""


def test_a_failure_is_logged_once_and_ends_the_process_with_status_1() -> None:
    """The event names the process and carries the traceback; readiness was never announced."""
    with running("fails") as program:
        _, stderr = program.end()
        assert program.process.returncode == 1
        assert stderr.count("process_failed") == 1
        assert "RuntimeError: the reason" in stderr
        assert os.read(program.ready, 10) == b""


def test_services_run_on_uvloop() -> None:
    """The loop is chosen in one place."""
    with running("loop_class") as program:
        stdout, _ = program.end()
        assert stdout == "uvloop\n"
