"""Eyes for processes and for stacks: what runs, what a stack says of itself, waiting with a deadline."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reflux.cli.stack.postgres import PostgresServer
from reflux.cli.stack.valkey import ValkeyServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from reflux.cli.stack.folder import DataFolder


def eventually(check: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """The first true answer of `check`, asked until the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.02)
    pytest.fail(f"not within {seconds:.0f} s: {what}")


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def descendants(pid: int) -> set[int]:
    """Every process below `pid`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


@dataclass(slots=True)
class RunningStack:
    """A supervisor in a process of its own."""

    folder: DataFolder
    process: subprocess.Popen[str]
    seen: set[int] = field(default_factory=set)

    def state(self) -> dict[str, Any]:
        """What `run/stack.json` says, empty before it exists."""
        return dict(self.folder.read_state() or {})

    def until_up(self) -> RunningStack:
        """Wait until every part has been ready."""

        def up() -> bool:
            state = self.state()  # perhaps still that of a stack that was killed
            return bool(state.get("up") and state["pid"] == self.process.pid)

        eventually(lambda: up() or self.process.poll() is not None, "the stack is up")
        assert self.process.poll() is None, self.process.communicate()
        self.seen |= descendants(self.process.pid)
        return self

    def pid(self, part: str) -> int:
        """The present process of a part."""
        return int(self.state()["parts"][part]["pid"])

    def until_restarted(self, part: str) -> int:
        """Wait until a part has been started again and is ready; return its pid."""

        def restarted() -> bool:
            status = self.state()["parts"][part]
            return bool(status["restarts"] and status["state"] == "ready")

        eventually(restarted, f"{part} is ready again")
        return self.pid(part)

    def dsn(self) -> str:
        """The superuser's way into the embedded PostgreSQL."""
        home = self.folder.part("postgres")
        return PostgresServer(home, Path(), self.state()["ports"]["postgres"], home / "log").admin_dsn()

    def redis_url(self) -> str:
        """The way into the embedded Valkey."""
        home = self.folder.part("valkey")
        return ValkeyServer(home, Path(), self.state()["ports"]["valkey"], home / "log").url()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Signal the supervisor, wait for its end, return what it printed."""
        self.process.send_signal(number)
        stdout, _ = self.process.communicate(timeout=60)
        return stdout
