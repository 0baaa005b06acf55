"""A run whose expressions take seconds together holds up nobody: its walk takes turns with all else."""

import pytest

from reflux.orchestrator import worker

HEAVY = "{{ range(99).map(x, range(90).map(y, x * y + x - y)).size() }}"
"""Some milliseconds, and well within what one expression may take."""


EACH = {"in": "{{ range(500) }}", "as": "x", "parallel": 500}
WAYS = {
    "steps": {"id": "l", "foreach": EACH, "steps": [{"id": "a", "set": {"a": HEAVY}}]},
    "results": {"id": "l", "foreach": EACH, "steps": [{"id": "a", "set": {"a": 1}}], "result": HEAVY},
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_loop_of_slow_expressions_lets_other_runs_through(begin, mesh, monkeypatch, way):
    """Another run ends while it goes on, with calls and commits of its own; and so does the loop, whole."""
    turns = []
    go_on = worker.Worker._go_on
    monkeypatch.setattr(worker.Worker, "_go_on", lambda self, run: turns.append(run.id) or go_on(self, run))
    async with begin() as client:
        slow = await client.save("slow", WAYS[way], output="{{ steps.l.output.size() }}")
        quick = await client.save("quick", {"id": "a", "node": "work.pure"}, {"id": "b", "node": "work.once"})
        first = await client.start(slow, {})
        second = await client.start(quick, {}, wait="20s")
        meanwhile = await client.run(first["id"])
        ended = await client.until(first["id"], "SUCCEEDED", seconds=60)
    assert second["state"] == "SUCCEEDED"
    assert meanwhile["state"] == "RUNNING"
    assert ended["output"] == 500
    assert turns.count(first["id"]) > 10
