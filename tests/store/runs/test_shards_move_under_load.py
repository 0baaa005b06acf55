"""Orchestrators come and go while hundreds of runs go on: shards move, and nothing is lost or done twice.

Each orchestrator is a process of its own, over real PostgreSQL and Valkey. The nodes are scripted here, so
what they did is a ledger that no orchestrator can write.
"""

import asyncio
from collections import Counter

import grpc

from tests.support.orchestrators import PATIENCE, balanced
from tests.support.scripted_mesh import claim
from tests.support.waiting import rows

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


async def test_shards_move_and_nothing_is_lost_or_done_twice(processes, session, mesh):
    """One joins, one is drained, one is killed, in the middle of 200 runs: each ends, each effect is one."""
    mesh.script = world = World()
    begun = []

    async def load(flow):
        """Keeps runs coming, through everything that happens."""
        for number in range(GATED, GATED + FREE):
            begun.append(await processes.start(number, flow, {"gate": None}, f"run-{number}"))
            await asyncio.sleep(0.05)

    processes.settings["lease_seconds"] = 3.0
    for name in ("a", "b"):
        processes.begin(name)
    await balanced(session, 2)
    flow = await processes.clients["a"].save("moves", *STEPS)
    begun += await asyncio.gather(
        *(processes.start(number, flow, {"gate": number % 3}, f"run-{number}") for number in range(GATED))
    )
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(load(flow))
        processes.begin("c")
        await balanced(session, 3)
        world.gates[0].set()
        processes.processes["a"].terminate()
        await balanced(session, 2)
        world.gates[1].set()
        processes.kill("b")
        await balanced(session, 1)
        world.gates[2].set()
        await loading
    states = await _ended(session, begun)
    [(quarantined,)] = await rows(session, "SELECT count(*) FROM runs WHERE error_reason = 'QUARANTINED'")
    recoveries = await rows(session, "SELECT max(recoveries) FROM runs")
    journals = await rows(session, "SELECT run_id, array_agg(seq ORDER BY seq) FROM journal GROUP BY run_id")

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


async def _ended(session, begun):
    """The state of each run, once none goes on."""
    async with asyncio.timeout(PATIENCE):
        while True:
            states = dict(await rows(session, "SELECT id::text, state FROM runs"))
            if len(states) == len(begun) and not {"RUNNING", "CANCELING"} & set(states.values()):
                return states
            await asyncio.sleep(0.2)
