"""What comes after a loop is looked for once, however many of its items are done anew."""

from __future__ import annotations

from reflux.core import cut
from reflux.core.fork import plan_retry
from tests.support.walk import Walk, failed, flow_of, node

ITEMS = 50
UNDO = {"compensate": {"node": "undo", "with": {}}}


def test_what_comes_after_a_loop_is_looked_for_once(monkeypatch):
    """Ten thousand items that were undone, and hundreds of steps after them: the loop stood still."""
    looked: list[str] = []
    dependants = cut.dependants

    def counted(flow, name):
        looked.append(name)
        return dependants(flow, name)

    monkeypatch.setattr(cut, "dependants", counted)
    loop = {"id": "items", "foreach": {"in": "{{ input }}", "as": "item"}, "steps": [node("pay", **UNDO)]}
    flow = flow_of(loop, *(node(f"after{number}") for number in range(9)), node("bad"))
    origin = Walk(flow, {"bad": [failed()]}, [*range(ITEMS)]).run()
    plan = plan_retry(origin.state, flow)
    assert len(plan.points) == ITEMS
    assert looked.count("items") == 1
    assert len(looked) == ITEMS + 2
