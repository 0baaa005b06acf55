"""Orchestrators come and go while hundreds of runs go on: shards move, and nothing is lost or done twice.

Each orchestrator is a process of its own, over real PostgreSQL and Valkey. The nodes are scripted here, so
what they did is a ledger that no orchestrator can write.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from psycopg import AsyncConnection

from reflux.cli.stack.ports import free_ports
from reflux.runtime import rpc
from reflux.runtime.postgres import enter_service
from reflux.runtime.settings import Address
from tests.support.scripted_mesh import Client, claim

SHARDS = 8
LEASE = timedelta(seconds=3)
GATED, FREE = 60, 140
PATIENCE = 90.0
STEPS = (
    {"id": "first", "node": "work.pure"},
    {"id": "pay", "node": "work.once"},
    {"id": "hold", "node": "work.pure", "with": {"gate": "{{ input.gate }}"}},
    {"id": "ship", "node": "work.once"},
    {"id": "last", "node": "work.pure"},
)


@pytest.fixture
async def session(database_dsn):
    """A session of the orchestrator's role."""
    async with await AsyncConnection.connect(database_dsn, autocommit=True) as connection:
        await enter_service(connection, "orchestrator")
        yield connection


class Cluster:
    """Orchestrators as processes, what they own, and what the nodes did."""

    def __init__(self, session, environment, folder):
        self.session = session
        self.environment = environment
        self.folder = folder
        self.processes = {}
        self.clients = {}

    async def rows(self, statement, *parameters):
        return await (await self.session.execute(statement, parameters)).fetchall()

    @asynccontextmanager
    async def started(self, *names):
        """These orchestrators, until the end of the block or of theirs."""
        for name in names:
            address = Address("127.0.0.1", free_ports(1)[0])
            environment = {**self.environment, "REFLUX_ORCHESTRATOR_ADDRESS": str(address)}
            with (self.folder / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    (sys.executable, "-m", "reflux.cli", "serve", "orchestrator"),
                    env=environment, stdout=log, stderr=log,
                )  # fmt: skip
            self.clients[name] = Client(address, rpc.channel(address))
        try:
            yield
        finally:
            for name in names:
                self.processes[name].kill()
                self.processes[name].wait()

    async def shares(self):
        """How many shards each living member owns, in order; what nobody owns under `None`."""
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


@pytest.fixture
def cluster(session, database_dsn, valkey_url, mesh, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFLUX_")}
    environment |= {
        "PYTHONPATH": str(Path(__file__).parents[3] / "services"),
        "REFLUX_POSTGRES_DSN": database_dsn,
        "REFLUX_REDIS_URL": valkey_url,
        "REFLUX_MESH_ADDRESS": str(mesh.address),
        "REFLUX_REGISTRY_ADDRESS": str(mesh.address),
        "REFLUX_CONTROLPLANE_ADDRESS": str(mesh.address),
        "REFLUX_LEASE_SECONDS": str(LEASE.total_seconds()),
        "REFLUX_SHARDS": str(SHARDS),
    }
    return Cluster(session, environment, tmp_path)


class World:
    """What the nodes do: an effect is done when its claim was granted, and stands in the ledger then."""

    def __init__(self):
        self.gates = [asyncio.Event() for _ in range(3)]
        self.effects = Counter()

    async def __call__(self, given, envelope, context):
        await asyncio.sleep(0.05)
        if "gate" in given and given["gate"] is not None:
            await self.gates[given["gate"]].wait()
        if envelope["x-reflux-step"] in ("pay", "ship"):
            try:
                await claim(envelope)
            except grpc.aio.AioRpcError:
                await context.abort(grpc.StatusCode.ABORTED, "not claimed, not done")
            self.effects[envelope["x-reflux-run-id"], envelope["x-reflux-step"]] += 1
            await asyncio.sleep(0.05)
        return {"ok": True}


async def _begin(clients, flow, number, gate):
    """Starts a run at whoever takes it, once; its id."""
    turn = number
    async with asyncio.timeout(PATIENCE):
        while True:
            turn += 1
            try:
                started = await clients[turn % len(clients)].start(
                    flow, {"gate": gate}, request_id=f"run-{number}"
                )
                return started["id"]
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)


async def test_shards_move_and_nothing_is_lost_or_done_twice(cluster, mesh):
    """One joins, one is drained, one is killed, in the middle of 200 runs: each ends, each effect is one."""
    mesh.script = world = World()
    begun = []

    async def load(flow):
        """Keeps runs coming, through everything that happens."""
        for number in range(GATED, GATED + FREE):
            living = [cluster.clients[name] for name in ("a", "b", "c") if name in cluster.clients]
            begun.append(await _begin(living, flow, number, None))
            await asyncio.sleep(0.05)

    async with cluster.started("a", "b"):
        await cluster.balanced(2)
        a, b = cluster.clients["a"], cluster.clients["b"]
        flow = await a.save("moves", *STEPS)
        begun += await asyncio.gather(*(_begin([a, b], flow, number, number % 3) for number in range(GATED)))
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(load(flow))
            async with cluster.started("c"):
                await cluster.balanced(3)
                world.gates[0].set()
                cluster.processes["a"].send_signal(signal.SIGTERM)
                del cluster.clients["a"]
                await cluster.balanced(2)
                world.gates[1].set()
                cluster.processes["b"].kill()
                del cluster.clients["b"]
                await cluster.balanced(1)
                world.gates[2].set()
                await loading
                states = await _ended(cluster, begun)
                [(quarantined,)] = await cluster.rows(
                    "SELECT count(*) FROM runs WHERE error_reason = 'QUARANTINED'"
                )
                recoveries = await cluster.rows("SELECT max(recoveries) FROM runs")
                journals = await cluster.rows(
                    "SELECT run_id, array_agg(seq ORDER BY seq) FROM journal GROUP BY run_id"
                )

    assert len(begun) == len(set(begun)) == GATED + FREE
    assert set(states) == set(begun)
    assert all(seqs == list(range(1, len(seqs) + 1)) for _, seqs in journals)
    assert max(world.effects.values()) == 1, "an effect was done twice"
    for run_id, state in states.items():
        done = [world.effects[run_id, step] for step in ("pay", "ship")]
        # Killed between the claim and the reply: nobody can know, so a person must say.
        assert state in ("SUCCEEDED", "PARKED"), (run_id, state)
        assert state == "PARKED" or done == [1, 1], (run_id, done)
    assert Counter(states.values())["SUCCEEDED"] > (GATED + FREE) / 2
    assert quarantined == 0
    assert recoveries[0][0] <= 1
    # A call may be repeated once by each of the three moves, and by nothing else.
    calls = Counter((call["x-reflux-run-id"], call["x-reflux-step"]) for call in mesh.calls)
    assert max(calls.values()) <= 4, calls.most_common(3)


async def _ended(cluster, begun):
    """The state of each run, once none goes on."""
    async with asyncio.timeout(PATIENCE):
        while True:
            states = dict(await cluster.rows("SELECT id::text, state FROM runs"))
            if len(states) == len(begun) and not {"RUNNING", "CANCELING"} & set(states.values()):
                return states
            await asyncio.sleep(0.2)
