"""The child that a retried run goes on from: what a sub-flow had done well is not done again either.

A step that failed because the run it had begun did not end well is retried by a child that goes on from that
one, as a retry does. It walks the version that the former one walked, unless its step names another one. The
journal of the retry says which run that is (`Origin.children`), because the run that it goes on from may not
have begun one, or be forgotten. Everything here follows from runs that have ended, so whoever works it out
again finds the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reflux.core.cut import split
from reflux.core.errors import NotFound, Refused
from reflux.core.flow.model import FlowAction
from reflux.core.fork import plan_child
from reflux.core.origin import Operation, Origin

if TYPE_CHECKING:
    from reflux.core.flow import Flow
    from reflux.core.fork import Anew, ForkPlan
    from reflux.core.names import RunId, StepPath
    from reflux.core.state import RunState
    from reflux.orchestrator.flows.cache import FlowCache, Resolved
    from reflux.orchestrator.journal_reader import JournalReader


@dataclass(frozen=True, slots=True)
class Former:
    """A child of an origin, and what the one in its place takes over."""

    state: RunState
    flow: Resolved
    """What the new one walks."""
    plan: ForkPlan

    @property
    def origin(self) -> Origin:
        """Where the new one comes from."""
        return self.plan.begins(Operation.RETRY, self.state)


async def former_child(
    reader: JournalReader, flows: FlowCache, former: RunId, path: StepPath, action: FlowAction
) -> Former | None:
    """What the next child of a step takes over; None where it begins from nothing.

    Args:
        reader: of journals.
        flows: compiled.
        former: the run that the step had begun.
        path: of the step.
        action: of the step in the flow version to go on with.

    Raises:
        NotFound: it is forgotten, its flow is deleted, or the version that the step names is not there.
        Refused: nothing can go on from it: an effect of which nobody knows, or it has not ended.
        psycopg.Error: the database is away.
    """
    child = await reader.state(former)
    current = await flows.resolve(action.flow)
    if child.created.flow_id != current.flow_id:
        return None
    number = action.version or child.created.flow_version
    flow = await flows.at(current.flow_id, number)
    try:
        plan = plan_child(child, flow.flow)
    except (NotFound, Refused) as error:
        message = f"step {path} goes on from run {child.id}: {error.message}"
        raise type(error)(error.reason, message, metadata=error.metadata) from None
    return Former(child, flow, plan)


async def with_children(
    reader: JournalReader, flows: FlowCache, plan: ForkPlan, target: Flow, *, same_input: bool = True
) -> ForkPlan:
    """The plan, in which a step that goes on from a child repeats only what that one does.

    Without the `same_input` it may be given something else, and then begins from nothing.

    Raises:
        NotFound, Refused, psycopg.Error: as `former_child`.
    """

    async def judged(each: Anew) -> Anew:
        if (child := plan.children.get(each.step)) is None:
            return each
        action = target.steps[split(each.step)[1]].action
        assert isinstance(action, FlowAction), f"{each.step} begins no run"
        former = await former_child(reader, flows, child.run_id, each.step, action)
        if former is None:
            return each
        below = await with_children(reader, flows, former.plan, former.flow.flow)
        return replace(each, acted=not same_input or any(one.acted for one in below.anew))

    return replace(plan, anew=tuple([await judged(each) for each in plan.anew]))
