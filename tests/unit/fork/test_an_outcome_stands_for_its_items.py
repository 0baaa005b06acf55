"""Within loops an outcome stands for the items it was made with; to compare them is no great work."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from reflux.core import kept
from reflux.core.document import Json
from reflux.core.fork import plan_fork
from reflux.core.names import StepPath
from tests.support.walk import Walk, flow_of, node
from tests.unit.fork.forks import begun, calls

FLOW = flow_of(
    {
        "id": "orders",
        "foreach": {"in": "{{ input }}", "as": "order"},
        "steps": [
            {
                "id": "lines",
                "foreach": {"in": "{{ order.lines }}", "as": "line", "parallel": 20},
                "steps": [node("price"), node("book")],
            }
        ],
    }
)


def test_each_item_is_read_once(monkeypatch):
    """Though the lines of an order are the item of the loop around theirs."""
    read: list[int] = []

    class Counted(Json):
        @classmethod
        def of(cls, value: Any) -> Json:
            read.append(len(Json.of(value).raw))
            return Json.of(value)

    monkeypatch.setattr(kept, "Json", Counted)
    given = [{"lines": [f"line {number}" for number in range(200)]}]
    origin = Walk(FLOW, {}, given).run()
    plan = plan_fork(origin.state, FLOW, StepPath("orders[0]/lines[7]/price"))
    assert len(plan.kept) == 398
    assert sum(read) < 3 * len(Json.of(given).raw)

    read.clear()
    assert calls(begun(plan, FLOW, {}, given).run()) == [
        f"orders[0]/lines[7]/{name}" for name in ("price", "book")
    ]
    assert sum(read) < 3 * len(Json.of(given).raw)


def test_an_outcome_of_an_older_journal_stands_for_its_items_too():
    """There all the items around it were taken together, the innermost first."""
    given = [{"lines": ["a", "b"]}]
    plan = plan_fork(Walk(FLOW, {}, given).run().state, FLOW, StepPath("orders[0]/lines[1]/book"))

    def older(*items: Any) -> bytes:
        return sha256(Json.of([*items]).raw).digest()

    digests = {
        f"orders[0]/lines[{n}]/{name}": older(line, given[0])
        for n, line in enumerate("ab")
        for name in ("price", "book")
    }
    events = tuple(replace(each, items_digest=digests[each.step]) for each in plan.kept)
    same = begun(replace(plan, kept=events), FLOW, {}, given).run()
    assert calls(same) == ["orders[0]/lines[1]/book"]
    other = begun(replace(plan, kept=events), FLOW, {}, [{"lines": ["a", "c"]}]).run()
    assert len(calls(other)) == 4, "the order around it is another one"
