"""The one Envoy of the embedded stack: edge and mesh listeners, admin on loopback.

What is in the bootstrap is the control plane's business; here it is a document that is written down and
handed to Envoy. Hot restart is off: it would tie stacks on one machine together by a shared number.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reflux.cli.stack import files
from reflux.cli.stack.child import Launch, base_environment, spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class EnvoyProxy:
    """Envoy with a given bootstrap; `admin` is the port of its admin interface on loopback."""

    folder: Path
    program: Path
    bootstrap: Mapping[str, Any]
    admin: int
    log: Path

    async def prepare(self) -> None:
        """Write the bootstrap."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_text(self._file, json.dumps(self.bootstrap, indent=1))

    def start(self) -> subprocess.Popen[bytes]:
        """Start Envoy on the written bootstrap."""
        return spawn(
            Launch(
                argv=(
                    str(self.program),
                    *("-c", str(self._file.absolute())),
                    *("--concurrency", "2"),
                    *("--log-level", "warning"),
                    "--disable-hot-restart",
                ),
                log=self.log,
                env=base_environment(),
            )
        )

    async def ready(self) -> bool:
        """Say whether Envoy is LIVE: all its listeners and clusters have their first configuration."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
            try:
                writer.write(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
                return b" 200 " in await reader.readuntil(b"\r\n")
            finally:
                writer.close()
        return False

    @property
    def _file(self) -> Path:
        return self.folder / "bootstrap.json"
