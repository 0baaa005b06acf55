"""What the supervisor is given to do: parts to keep alive, and things to do once between them."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Part:
    """A child that is started, known to be ready, kept alive and stopped.

    Attributes:
        name: also the name of its log file, `logs/<name>.log`.
        start: prepares what the part needs and spawns it; called again for every restart. Its argument is
            the descriptor on which a part without `ready` announces itself, else None.
        ready: asked again and again until it says yes; None: the part writes a newline to its descriptor.
        start_seconds: from the start until it must be ready.
        stop_signal: asks it to drain and end.
        stop_seconds: how long it may drain; then it is killed.
        metrics: URL of its metrics; None: it serves none, or they are listed elsewhere.
    """

    name: str
    start: Callable[[int | None], Awaitable[subprocess.Popen[bytes]]]
    ready: Callable[[], Awaitable[bool]] | None
    start_seconds: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    metrics: str | None = None


@dataclass(frozen=True, slots=True)
class Once:
    """Something done between two parts, within `seconds`, each time the stack starts."""

    name: str
    run: Callable[[], Awaitable[object]]
    seconds: float = 120.0


class PartState(StrEnum):
    """Where a part is in its life. One that is GONE was a process too many, and is shown no more."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A part as others see it: `pid` of its present process, `restarts` since the stack was started.

    `seconds` is how long it took to become ready the last time; `metrics` is the URL of what it counts.
    """

    name: str
    state: PartState
    pid: int | None = None
    restarts: int = 0
    seconds: float | None = None
    metrics: str | None = None


class Observer(Protocol):
    """Is told what happens to the stack, from the event loop's thread; must not block for long."""

    def part_changed(self, status: PartStatus) -> None:
        """A part has entered another state."""

    def step_done(self, name: str, seconds: float) -> None:
        """Something done once has succeeded."""

    def stack_up(self) -> None:
        """Every step has been taken."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a crashed part is started again: doubling, bounded, forgiving.

    Attributes:
        first: seconds after the first crash.
        most: longest wait in seconds.
        stable: after so many seconds of being ready the next crash counts as the first.
    """

    first: float = 0.5
    most: float = 30.0
    stable: float = 60.0

    def delay(self, crashes: int) -> float:
        """Seconds to wait after the given number of crashes in a row, 1 or more."""
        return float(min(self.most, self.first * 2 ** min(crashes - 1, 30)))
