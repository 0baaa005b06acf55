"""`route` beside a node: how this step's calls find their version. No other step is affected.

    route: { sticky: "{{ input.order.customer }}" }   calls with this value stay with their version

The sticky value replaces the one that the node's Route names. Null stands for none: then each attempt draws
for itself. A field that is missing fails the step, as in every template; `{{ input.?customer }}` allows for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.flow.model import NodeAction, StepRoute
from reflux.core.flow.problems import ProblemCode

if TYPE_CHECKING:
    from reflux.core.flow.model import Action
    from reflux.core.flow.problems import Place
    from reflux.core.flow.steps import Draft, StepReader

KEYS: Final = ("sticky",)
UNBUILT: Final = ("pin", "versions", "fallback", "tries", "try_timeout")


def read_step_route(steps: StepReader, place: Place, draft: Draft, action: Action) -> StepRoute | None:
    """The `route` of a step that calls a node."""
    reader = steps.reader
    reader.known_keys(place, KEYS, UNBUILT)
    sticky = reader.optional(place, "sticky")
    if sticky is None:
        return None
    if isinstance(action, NodeAction) and action.version is not None:
        message = f"a pinned step draws nothing: {action.node}@{action.version} answers, or nobody"
        reader.problems.add(ProblemCode.MISPLACED_KEY, sticky, message, "remove sticky, or the pin")
    return StepRoute(steps.template(sticky, draft))
