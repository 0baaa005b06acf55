"""Orchestrators as processes of their own, over the stores of a test and its scripted mesh."""

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from reflux.cli.stack.ports import free_ports
from reflux.runtime import rpc
from reflux.runtime.settings import Address
from tests.support.scripted_mesh import Client

SHARDS = 8
LEASE_SECONDS = 3
PATIENCE = 90.0


class Cluster:
    """Orchestrators as processes, what they own, and what the nodes did."""

    def __init__(self, session, folder, *, dsn, redis_url, mesh):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLUX_")}
        self.environment = environment | {
            "PYTHONPATH": str(Path(__file__).parents[2] / "services"),
            "REFLUX_POSTGRES_DSN": dsn,
            "REFLUX_REDIS_URL": redis_url,
            "REFLUX_MESH_ADDRESS": str(mesh),
            "REFLUX_REGISTRY_ADDRESS": str(mesh),
            "REFLUX_CONTROLPLANE_ADDRESS": str(mesh),
            "REFLUX_LEASE_SECONDS": str(LEASE_SECONDS),
            "REFLUX_SHARDS": str(SHARDS),
        }
        self.session = session
        self.folder = folder
        self.processes = {}
        self.clients = {}

    async def rows(self, statement, *parameters):
        return await (await self.session.execute(statement, parameters)).fetchall()

    def start(self, name, address=None):
        """Starts an orchestrator, at an address of its own unless one is given."""
        address = address or Address("127.0.0.1", free_ports(1)[0])
        environment = {**self.environment, "REFLUX_ORCHESTRATOR_ADDRESS": str(address)}
        command = (sys.executable, "-m", "reflux.cli", "serve", "orchestrator")
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.clients[name] = Client(address, rpc.channel(address))

    @contextmanager
    def stopped(self):
        """Leaves no process behind."""
        try:
            yield self
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()

    async def shares(self):
        """How many shards each living member owns, the fewest first."""
        found = await self.rows(
            "SELECT count(shards.id) FROM members LEFT JOIN shards ON shards.owner = members.id"
            " WHERE members.state = 'alive' GROUP BY members.id"
        )
        return sorted(count for (count,) in found)

    async def balanced(self, members):
        """Every shard has one of so many owners, and none has two more than another."""
        async with asyncio.timeout(PATIENCE):
            while True:
                shares = await self.shares()
                if len(shares) == members and sum(shares) == SHARDS and shares[-1] - shares[0] <= 1:
                    return
                await asyncio.sleep(0.05)
