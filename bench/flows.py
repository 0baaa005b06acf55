"""The flows of the benchmarks, as documents.

Each exists once for the node that takes batches and once for the other, so that both kinds of call can be
measured on one stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.echo import NODE, SINGLE

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow and what a run of it is given."""

    name: str
    steps: list[dict[str, Any]]
    given: dict[str, Any]
    work: int
    """Steps of a run that call a node."""


def sequence(length: int, node: str = NODE) -> Flow:
    """`length` trivial steps, each of which needs what the one before gave."""
    values = ["{{ input.value }}", *(f"{{{{ steps.s{step}.output.value }}}}" for step in range(1, length))]
    steps = [
        {"id": f"s{number}", "node": node, "with": {"value": value}}
        for number, value in enumerate(values, start=1)
    ]
    return Flow(f"sequence-{length}-{_kind(node)}", steps, {"value": "a trivial step"}, length)


def loop(items: int, parallel: int, node: str = NODE) -> Flow:
    """A trivial step for each item of a list, `parallel` of them at once."""
    steps = [
        {
            "id": "each",
            "foreach": {"in": "{{ input.items }}", "as": "item", "parallel": parallel},
            "steps": [{"id": "one", "node": node, "with": {"value": "{{ item }}"}}],
            "result": "{{ steps.one.output.value }}",
        }
    ]
    given = {"items": [f"item {number}" for number in range(items)]}
    return Flow(f"loop-{items}-{_kind(node)}", steps, given, items)


def of_both(make: Callable[[str], Flow]) -> tuple[Flow, Flow]:
    """The flow whose calls are shared, and the one whose calls are not."""
    return make(NODE), make(SINGLE)


def _kind(node: str) -> str:
    return "batched" if node == NODE else "unary"
