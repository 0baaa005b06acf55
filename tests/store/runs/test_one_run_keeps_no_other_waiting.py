"""A run whose expressions take seconds together holds up nobody: its walk takes turns with all else."""

from reflux.orchestrator import worker

HEAVY = "{{ range(99).map(x, range(90).map(y, x * y + x - y)).size() }}"
"""Some milliseconds, and well within what one expression may take."""


async def test_a_loop_of_slow_expressions_lets_other_runs_through(begin, mesh, monkeypatch):
    """Another run ends while it goes on, with calls and commits of its own; and so does the loop, whole."""
    turns = []
    go_on = worker.Worker._go_on
    monkeypatch.setattr(worker.Worker, "_go_on", lambda self, run: turns.append(run.id) or go_on(self, run))
    item = {"id": "a", "set": {"a": HEAVY}}
    loop = {"id": "l", "foreach": {"in": "{{ range(500) }}", "as": "x", "parallel": 500}, "steps": [item]}
    async with begin() as client:
        slow = await client.save("slow", loop, output="{{ steps.l.output.size() }}")
        quick = await client.save("quick", {"id": "a", "node": "work.pure"}, {"id": "b", "node": "work.once"})
        first = await client.start(slow, {})
        second = await client.start(quick, {}, wait="20s")
        meanwhile = await client.run(first["id"])
        ended = await client.until(first["id"], "SUCCEEDED", seconds=60)
    assert second["state"] == "SUCCEEDED"
    assert meanwhile["state"] == "RUNNING"
    assert ended["output"] == 500
    assert turns.count(first["id"]) > 10
