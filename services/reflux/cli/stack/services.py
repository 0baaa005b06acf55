"""REFLUX's own services as children: `reflux serve NAME`, told everything by the environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.cli.stack.child import Launch, spawn
from reflux.cli.stack.part import Part

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from reflux.runtime.settings import Settings

_PREFIX: Final = "REFLUX_"
_DRAIN_SECONDS: Final = 25.0  # more than every service's own bounds together


@dataclass(frozen=True, slots=True)
class Service:
    """One `reflux serve` process: `arguments` are what follows `serve`."""

    arguments: tuple[str, ...]
    settings: Settings
    log: Path

    async def start(self, ready_fd: int | None) -> subprocess.Popen[bytes]:
        """Start the process; it announces itself on `ready_fd`."""
        settings = self.settings.model_copy(update={"ready_fd": ready_fd})
        return spawn(
            Launch(
                # -P: the working directory is not on the import path.
                argv=(sys.executable, "-P", "-m", "reflux.cli", "serve", *self.arguments),
                log=self.log,
                env=_caller_environment() | settings.to_environment(),
                pass_fds=() if ready_fd is None else (ready_fd,),
            )
        )

    def part(self, name: str) -> Part:
        """The process as a part of the stack."""
        return Part(name, self.start, ready=None, stop_seconds=_DRAIN_SECONDS)


def _caller_environment() -> dict[str, str]:
    """The caller's environment without settings: keys of providers and secrets of flows are in it."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(_PREFIX)}
