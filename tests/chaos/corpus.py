"""The flows that must survive everything, and the rules by which the ledger judges them.

Every step with a node names its effect at the ledger after itself. What a flow may end as depends on the
fault: a step of class at_most_once whose outcome nobody knows is PARKED, and nothing else is a reason to.
"""

from dataclasses import dataclass, field
from typing import Any

PURE, KEYED, ONCE = "work.pure", "work.keyed", "work.once"


def call(step: str, node: str = PURE, **more: Any) -> dict[str, Any]:
    """A step that calls a node."""
    return {"id": step, "node": node, "with": {"item": "{{ input.n }}"}, **more}


@dataclass(frozen=True, slots=True)
class Case:
    """A flow, and which of its steps must have been recorded as DONE when it ends well."""

    name: str
    steps: tuple[dict[str, Any], ...]
    done: tuple[str, ...]
    """Paths."""
    effects: tuple[tuple[str, str], ...] = ()
    """Path and node of each step that is not pure."""
    policies: dict[str, Any] = field(default_factory=dict)
    ahead: int = 0
    """Runs of the flow that are asked for first, and that it may have to wait for."""


CORPUS = (
    Case("chain", (call("a"), call("b"), call("c")), ("a", "b", "c")),
    Case(
        "payment",
        (call("quote"), call("charge", ONCE), call("book", KEYED), call("tell")),
        ("quote", "charge", "book", "tell"),
        (("charge", ONCE), ("book", KEYED)),
    ),
    Case(
        "fan",
        (
            {
                "id": "lines",
                "foreach": {"in": "{{ [1, 2, 3] }}", "as": "line", "parallel": 2},
                "steps": [call("price", KEYED)],
            },
            call("sum"),
        ),
        ("lines[0]/price", "lines[1]/price", "lines[2]/price", "sum"),
        (("lines[0]/price", KEYED), ("lines[1]/price", KEYED), ("lines[2]/price", KEYED)),
    ),
    Case(
        "mended",
        (
            {
                "id": "risky",
                "try": {
                    "steps": [call("first", retry={"attempts": 2, "delay": "50ms", "jitter": "none"})],
                    "catch": [{"steps": [call("instead", KEYED)]}],
                    "finally": [call("always")],
                },
            },
        ),
        ("instead", "always"),
        (("instead", KEYED),),
    ),
    Case(
        "waits",
        (
            call("before", ONCE),
            {"id": "nap", "wait": {"for": "200ms"}},
            {
                "id": "both",
                "parallel": {"branches": {"left": [call("left")], "right": [call("right", KEYED)]}},
            },
        ),
        ("before", "left", "right"),
        (("before", ONCE), ("right", KEYED)),
    ),
    Case(
        "limited",  # without a step that may be PARKED: it would keep its slot until a person decides
        (call("take", KEYED), call("give", KEYED)),
        ("take", "give"),
        (("take", KEYED), ("give", KEYED)),
        policies={"concurrency": {"limit": 1}},
        ahead=1,
    ),
)
