"""The embedded Valkey: wake-ups and live run events. Never truth, so it may forget.

Its settings are a file (0600), because the password may not stand in an argument list. Memory is bounded:
when it is full, what was used longest ago goes.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.cli.stack import files
from reflux.cli.stack.child import Launch, base_environment, spawn

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

_CONFIG: Final = "valkey.conf"
_PASSWORD: Final = "password"  # noqa: S105 - the name of a file
_MEMORY: Final = "256mb"


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """One embedded server: what it keeps is in `folder`, it listens on loopback at `port`."""

    folder: Path
    program: Path
    port: int
    log: Path

    def url(self, database: int = 0) -> str:
        """URL of a database, password included."""
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/{database}"

    async def prepare(self) -> None:
        """Write the configuration."""
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self._password(),
            "dir": json.dumps(str(self.folder.absolute()), ensure_ascii=False),
            "appendonly": "yes",
            "save": '""',
            "maxmemory": _MEMORY,
            "maxmemory-policy": "allkeys-lru",
            "daemonize": "no",
            "logfile": '""',
        }
        files.write_text(
            self.folder / _CONFIG, "".join(f"{name} {value}\n" for name, value in settings.items())
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server as configured by `prepare`."""
        return spawn(
            Launch(
                argv=(str(self.program), str((self.folder / _CONFIG).absolute())),
                log=self.log,
                env=base_environment(),
                death_signal=signal.SIGTERM,
            )
        )

    async def ready(self) -> bool:
        """Say whether the server has loaded its data and answers."""
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"AUTH {self._password()}\r\nPING\r\n".encode())
                return (await reader.readline(), await reader.readline()) == (b"+OK\r\n", b"+PONG\r\n")
            finally:
                writer.close()
        return False

    def _password(self) -> str:
        """Made when first asked for."""
        path = self.folder / _PASSWORD
        if not path.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_text(path, secrets.token_urlsafe(24))
        return path.read_text(encoding="ascii").strip()
