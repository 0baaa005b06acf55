"""A plan of many steps does not keep the orchestrator from everything else."""

from __future__ import annotations

import asyncio
from collections import Counter

from reflux.core.flow import compile_flow
from reflux.orchestrator.flows.plan import plan_flow
from reflux.orchestrator.mesh_view import TargetView
from tests.store.flows.conftest import Mesh

STEPS = 50
DOCUMENT = {
    "name": "long",
    "spec": {
        "steps": [
            {"id": "s0", "node": "demo.add", "with": {"a": 1}},
            *(
                {"id": f"s{n}", "node": "demo.add", "with": {"a": f"{{{{ steps.s{n - 1}.output.sum }}}}"}}
                for n in range(1, STEPS)
            ),
        ]
    },
}


class CountingMesh(Mesh):
    """Counts how often an output schema is asked for."""

    def __init__(self):
        super().__init__()
        self.asked = Counter()
        for version in ("1.0.0", "2.0.0"):
            self.add("demo.add", version, output={"properties": {"sum": {}}, "additionalProperties": False})
        self.send("demo.add", TargetView("1.0.0", 10_000, ("2.0.0",)))

    async def output_schema(self, node, version):
        self.asked[version] += 1
        return await super().output_schema(node, version)


async def test_an_output_schema_is_read_once_for_all_steps():
    """Reading one takes milliseconds, and 900 steps of one version read the same."""
    mesh = CountingMesh()
    plan = await plan_flow(DOCUMENT, compile_flow(DOCUMENT), mesh)
    assert (len(plan.steps), plan.problems) == (STEPS, ())
    assert mesh.asked == {"1.0.0": 1, "2.0.0": 1}


async def test_others_run_between_the_steps():
    """However many there are."""
    turns = 0

    async def run():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(run())
    await plan_flow(DOCUMENT, compile_flow(DOCUMENT), CountingMesh())
    other.cancel()
    assert turns >= STEPS
