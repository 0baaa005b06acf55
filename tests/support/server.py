"""An embedded server of the stack, for as long as a block runs."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from reflux.cli.stack.child import end_group

START_SECONDS = 30
STOP_SECONDS = 10


class Server(Protocol):
    """What PostgreSQL and Valkey have in common."""

    async def prepare(self) -> None:
        """Make its folder."""

    def start(self) -> subprocess.Popen[bytes]:
        """Spawn it."""

    async def ready(self) -> bool:
        """Whether it answers."""


@contextmanager
def running_server(server: Server, stop: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """It answers within the body; nothing of it is left afterwards."""
    asyncio.run(server.prepare())
    process = server.start()
    try:
        asyncio.run(_until_ready(server))
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_SECONDS)
        finally:
            end_group(process)


async def _until_ready(server: Server) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not await server.ready():
            await asyncio.sleep(0.02)
