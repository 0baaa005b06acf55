"""The data folder of a stack: who may use it, and what others can read about the running stack.

- `run/lock` is locked (flock) by the supervisor for as long as it lives, and holds its pid. The kernel
  drops the lock with the process, so a killed stack never blocks the next.
- `run/stack.json` says where everything is: pids, ports, URLs, never a secret. It is replaced in one step
  at every change and removed at a clean stop. It may be stale: the lock says whether a stack runs.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from reflux.cli.stack import files
from reflux.cli.stack.errors import FolderError, StackRunningError
from reflux.cli.stack.logfiles import LogFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from reflux.cli.stack.part import PartStatus


@dataclass(frozen=True, slots=True)
class StackState:
    """What `run/stack.json` holds.

    Attributes:
        pid: of the supervisor.
        urls: where people and programs go: `edge`, `admin`, and `metrics.PART` of each process of ours and of
            `envoy`.
        ports: by what listens there.
        parts: by name.
        up: every part has been ready.
    """

    pid: int
    urls: Mapping[str, str]
    ports: Mapping[str, int]
    parts: Mapping[str, PartStatus] = field(default_factory=dict)
    up: bool = False


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The folder `root`, absolute."""

    root: Path

    @property
    def logs(self) -> LogFiles:
        """The log files of the parts."""
        return LogFiles(self.root / "logs")

    @property
    def state_file(self) -> Path:
        """Where the running stack describes itself."""
        return self.root / "run" / "stack.json"

    def part(self, name: str) -> Path:
        """What the part `name` keeps."""
        return self.root / name

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder ours inside the block; the state file is gone after it.

        Raises:
            StackRunningError: it belongs to a running stack.
            FolderError: it cannot be written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("logs", "run"):
                (self.root / name).mkdir(exist_ok=True)
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderError(f"cannot keep data in {self.root}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackRunningError(self._explain_holder()) from None
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self.state_file.unlink(missing_ok=True)  # of a stack that was killed
            try:
                yield
            finally:
                self.state_file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """The pid of the running supervisor; None if no stack runs here."""
        try:
            descriptor = os.open(self._lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            return int(text) if text.isdigit() else 0
        else:
            return None
        finally:
            os.close(descriptor)

    def write_state(self, state: StackState) -> None:
        """Replace the state file."""
        files.write_json(self.state_file, asdict(state))

    def read_state(self) -> dict[str, object] | None:
        """The state file as it is, perhaps of a stack that was killed; None if there is none."""
        try:
            return dict(json.loads(self.state_file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return None

    @property
    def _lock_file(self) -> Path:
        return self.root / "run" / "lock"

    def _explain_holder(self) -> str:
        state = self.read_state() or {}
        urls = state.get("urls")
        where = f" at {urls['edge']}" if isinstance(urls, dict) and "edge" in urls else ""
        return (
            f"a stack already runs on {self.root}: process {self.holder()}{where}; "
            f"stop it with `reflux down --data-dir {self.root}`, or use another --data-dir"
        )
