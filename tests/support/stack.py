"""A whole stack for tests and demos, started the way a person starts it: `reflux up`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.rest import Rest

START_SECONDS = 120.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    data: Path
    process: subprocess.Popen[bytes]

    @property
    def state(self) -> dict[str, Any]:
        """`run/stack.json` as it is now."""
        state: dict[str, Any] = json.loads((self.data / "run" / "stack.json").read_text())
        return state

    @property
    def rest(self) -> Rest:
        """REST calls through the edge."""
        return Rest(self.state["urls"]["edge"])

    @property
    def edge(self) -> str:
        """host:port of the edge, for gRPC."""
        return str(self.state["urls"]["edge"]).removeprefix("http://")

    def pid(self, part: str) -> int | None:
        """Process id of a part; None while it does not run."""
        pid: int | None = self.state["parts"][part]["pid"]
        return pid

    def kill(self, part: str, signal_number: int = signal.SIGKILL) -> int:
        """Sends a signal to a part; its former pid."""
        pid = self.pid(part)
        assert pid, f"{part} does not run"
        os.kill(pid, signal_number)
        return pid

    def log(self, part: str) -> str:
        """What a part has written."""
        return (self.data / "logs" / f"{part}.log").read_text(errors="replace")


@contextmanager
def running_stack(
    data: Path, *options: str, environment: Mapping[str, str] | None = None, quiet: bool = True
) -> Iterator[Stack]:
    """A stack on free ports in `data`, drained after the block."""
    stack = start_stack(data, *options, environment=environment, quiet=quiet)
    try:
        yield stack
    finally:
        stop_stack(stack)


def start_stack(
    data: Path, *options: str, environment: Mapping[str, str] | None = None, quiet: bool = True
) -> Stack:
    """Starts a stack and waits until every part is ready."""
    ports = ("--port", "0", "--mesh-port", "0", "--admin-port", "0")
    command = [sys.executable, "-m", "reflux.cli", "up", "--data-dir", str(data), *ports, *options]
    sink = subprocess.DEVNULL if quiet else None
    data.parent.mkdir(parents=True, exist_ok=True)
    log = data.parent / f"{data.name}-up.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=errors,
            env={**os.environ, "REFLUX_HTTP_ALLOW": "127.0.0.0/8", **(environment or {})},
        )
    stack = Stack(data, process)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the stack ended with {process.returncode}: {log.read_text()}")
        try:
            state = stack.state  # perhaps still that of a stack that was killed
            if state["up"] and state["pid"] == process.pid:
                return stack
        except (FileNotFoundError, ValueError):
            pass
        time.sleep(0.05)
    process.terminate()
    raise AssertionError(f"the stack was not ready within {START_SECONDS:.0f} s: {log.read_text()}")


def stop_stack(stack: Stack) -> None:
    """Drains a stack as Ctrl-C does."""
    if stack.process.poll() is None:
        stack.process.send_signal(signal.SIGINT)
    try:
        stack.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        stack.process.kill()
        stack.process.wait()
        raise
