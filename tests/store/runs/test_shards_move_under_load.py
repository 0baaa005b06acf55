"""Orchestrators come and go while hundreds of runs go on: shards move, and nothing is lost or done twice.

Each orchestrator is a process of its own, over real PostgreSQL and Valkey. The nodes are scripted here, so
what they did is a ledger that no orchestrator can write.
"""

import asyncio
import signal
from collections import Counter

import grpc

from tests.support.cluster import PATIENCE
from tests.support.scripted_mesh import claim

GATED, FREE = 60, 140
STEPS = (
    {"id": "first", "node": "work.pure"},
    {"id": "pay", "node": "work.once"},
    {"id": "hold", "node": "work.pure", "with": {"gate": "{{ input.gate }}"}},
    {"id": "ship", "node": "work.once"},
    {"id": "last", "node": "work.pure"},
)


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
            begun.append(await _begin([*cluster.clients.values()], flow, number, None))
            await asyncio.sleep(0.05)

    cluster.start("a")
    cluster.start("b")
    await cluster.balanced(2)
    a, b = cluster.clients["a"], cluster.clients["b"]
    flow = await a.save("moves", *STEPS)
    begun += await asyncio.gather(*(_begin([a, b], flow, number, number % 3) for number in range(GATED)))
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(load(flow))
        cluster.start("c")
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
    [(quarantined,)] = await cluster.rows("SELECT count(*) FROM runs WHERE error_reason = 'QUARANTINED'")
    recoveries = await cluster.rows("SELECT max(recoveries) FROM runs")
    journals = await cluster.rows("SELECT run_id, array_agg(seq ORDER BY seq) FROM journal GROUP BY run_id")

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
