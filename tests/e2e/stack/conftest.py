"""Stacks of real servers, run by the real supervisor in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reflux.cli.stack.folder import DataFolder
from tests.e2e.stack.running import RunningStack, alive, descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = Path(__file__).with_name("small_stack.py")


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[Callable[..., RunningStack]]:
    """Start a stack of the given parts (default: the three servers); nothing survives the test."""
    started: list[RunningStack] = []

    def start(*parts: str, name: str = "data", stdout: int = subprocess.PIPE) -> RunningStack:
        folder = DataFolder(tmp_path / name)
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder.root), *parts],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack = RunningStack(folder, process)
        started.append(stack)
        return stack

    yield start
    for stack in started:
        stack.seen |= descendants(stack.process.pid)
        stack.process.terminate()
        try:
            stack.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            stack.process.kill()
            stack.process.communicate()
        for pid in filter(alive, stack.seen):
            os.kill(pid, signal.SIGKILL)
