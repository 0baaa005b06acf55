"""Orchestrators as processes of their own, to be really killed; the mesh stays with the test."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from reflux.cli.stack.ports import free_ports
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.support.scripted_mesh import Client

START_SECONDS = 60.0


@dataclass
class Fleet:
    """Some orchestrators on one database, each at an address of its own for all its lives."""

    environment: dict[str, str]
    clients: list[Client] = field(default_factory=list)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def begin(self, number: int) -> None:
        """Starts the process of that number, and sees it serve."""
        address = self.clients[number].address
        environment = self.environment | {"REFLUX_ORCHESTRATOR_ADDRESS": str(address)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reflux.cli", "serve", "orchestrator", env=os.environ | environment,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.processes[number : number + 1] = [process]
        async with asyncio.timeout(START_SECONDS):
            while not await _listens(address):
                assert process.returncode is None, "the orchestrator ended instead of serving"
                await asyncio.sleep(0.05)

    async def kill(self, number: int) -> None:
        """SIGKILL: nothing is said, nothing is written any more."""
        process = self.processes[number]
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def start(self, number: int, flow: str, given: Any, request_id: str) -> dict[str, Any]:
        """A run, through whichever orchestrator is there, asked for until one answers."""
        while True:
            number = (number + 1) % len(self.clients)
            try:
                return await self.clients[number].start(flow, given, request_id=request_id)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                await asyncio.sleep(0.1)


async def _listens(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def fleet(size: int, **environment: str) -> AsyncIterator[Fleet]:
    """So many orchestrators with these settings; gone after the block."""
    made = Fleet({f"REFLUX_{name.upper()}": value for name, value in environment.items()})
    addresses = [Address("127.0.0.1", port) for port in free_ports(size)]
    channels = [rpc.channel(address) for address in addresses]
    try:
        for address, channel in zip(addresses, channels, strict=True):
            made.clients.append(Client(address, await channel.__aenter__()))
        for number in range(size):
            await made.begin(number)
        yield made
    finally:
        for process in made.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for channel in channels:
            await channel.__aexit__(None, None, None)
