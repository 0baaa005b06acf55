"""Orchestrators as processes of their own, to be really killed; stores and scripted mesh stay with the test.

Each has a name, and keeps its address, its client and its log through all its lives. Nobody answers while it
is down: `insist` asks again.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from psycopg import AsyncConnection

from reflux.cli.stack.ports import free_ports
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.support.scripted_mesh import Client
from tests.support.waiting import rows

SOURCE = Path(__file__).parents[2] / "services"
"""The code of this checkout."""
SHARDS = 8
PATIENCE = 90.0
"""Seconds after which what did not happen counts as stuck."""
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""What a client sees of an orchestrator that is down, stopped, or on its way out."""

Answer = TypeVar("Answer")


def store_settings(dsn: str, redis_url: str, mesh: Address, **more: Any) -> dict[str, Any]:
    """Settings of an orchestrator over these stores, whose whole surroundings are the scripted mesh."""
    around = dict.fromkeys(("mesh_address", "registry_address", "controlplane_address"), str(mesh))
    return {
        "postgres_dsn": dsn,
        "redis_url": redis_url,
        "lease_seconds": 2.0,
        "shards": SHARDS,
        **around,
        **more,
    }


def environment_of(settings: dict[str, Any], source: Path = SOURCE) -> dict[str, str]:
    """Settings as a process gets them, and where its code is; nothing of ours besides."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REFLUX_")}
    given = {f"REFLUX_{name.upper()}": str(value) for name, value in settings.items()}
    return {**inherited, **given, "PYTHONPATH": str(source)}


async def insist(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer of who is asked again for as long as nobody answers.

    Raises:
        TimeoutError: nobody did within `PATIENCE`.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await ask()
            except grpc.aio.AioRpcError as error:
                if error.code() not in SILENT:
                    raise
                await asyncio.sleep(0.05)


@dataclass
class Orchestrators:
    """Processes and their clients, by name."""

    settings: dict[str, Any]
    folder: Path
    """Of their logs."""
    source: Path = SOURCE
    clients: dict[str, Client] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def begin(self, name: str, **settings: Any) -> None:
        """Starts the process of that name, with these settings besides."""
        if name not in self.clients:
            address = Address("127.0.0.1", free_ports(1)[0])
            self.clients[name] = Client(address, rpc.channel(address))
        settings = {**self.settings, "orchestrator_address": self.clients[name].address, **settings}
        command = (sys.executable, "-m", "reflux.cli", "serve", "orchestrator")
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=environment_of(settings, self.source), cwd=self.folder, stdout=log, stderr=log
            )

    async def serving(self, name: str, **settings: Any) -> Client:
        """Starts the process of that name, and sees it serve."""
        self.begin(name, **settings)
        client = self.clients[name]
        async with asyncio.timeout(PATIENCE):
            # The channel may still hold the connection to the one before; so first see this one listen.
            while not await _listens(client.address):
                assert self.processes[name].poll() is None, self.log(name).read_text()
                await asyncio.sleep(0.02)
            await client.channel.channel_ready()
        return client

    def kill(self, name: str) -> None:
        """SIGKILL: nothing is said, nothing is written any more."""
        self.processes[name].kill()
        self.processes[name].wait()

    async def drained(self, name: str) -> None:
        """SIGTERM: it hands over what it has, and leaves without a complaint."""
        self.processes[name].terminate()
        assert await asyncio.to_thread(self.processes[name].wait, 30) == 0, self.log(name).read_text()

    async def start(self, turn: int, flow: str, given: Any, request_id: str) -> str:
        """The id of a run, asked for at one after the other, from the `turn`th on, until one answers."""

        async def ask() -> str:
            nonlocal turn
            turn += 1
            clients = [*self.clients.values()]
            return str((await clients[turn % len(clients)].start(flow, given, request_id=request_id))["id"])

        return await insist(ask)

    def log(self, name: str) -> Path:
        """What the process of that name said, in all its lives."""
        return self.folder / f"{name}.log"


async def _listens(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def orchestrators(
    settings: dict[str, Any], folder: Path, source: Path = SOURCE
) -> AsyncIterator[Orchestrators]:
    """Orchestrators over these stores; no process is left after the block."""
    made = Orchestrators(settings, folder, source)
    try:
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
            process.wait()
        for client in made.clients.values():
            await client.channel.close()


async def balanced(session: AsyncConnection[Any], members: int) -> None:
    """Every shard has one of so many living owners, and none has two more than another."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await rows(
                session,
                "SELECT count(shards.id) FROM members LEFT JOIN shards ON shards.owner = members.id"
                " WHERE members.state = 'alive' GROUP BY members.id",
            )
            shares = sorted(count for (count,) in found)
            if len(shares) == members and sum(shares) == SHARDS and shares[-1] - shares[0] <= 1:
                return
            await asyncio.sleep(0.05)
