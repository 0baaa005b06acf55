"""What the launcher must know of a run that is not just started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reflux.core.flow.searchkey import key_of
from reflux.core.run import begin, evolve
from reflux.orchestrator import codec
from reflux.orchestrator.faulting import marked
from reflux.orchestrator.store import outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core import event as ev
    from reflux.core.flow import Flow
    from reflux.core.names import RunId
    from reflux.core.origin import OnlyStep, Origin
    from reflux.core.state import RunState
    from reflux.runtime.postgres import Pool


@dataclass(frozen=True, slots=True)
class Derived:
    """How a run differs from one that was just started with the flow."""

    origin: Origin
    pins: tuple[tuple[str, str], ...] = ()
    only_step: OnlyStep | None = None
    kept: Sequence[ev.OutcomeKept] = ()
    """What its journal goes on with after `RunCreated`."""
    pool: Pool | None = None
    """Where that is written; needed only with outcomes."""
    former: ev.RunCreated | None = None
    """How the run began that it goes on from. It stands as deep below others as that one, and hears of the
    same failure: else going on from a run would get around what ends a chain of runs. Its expressions see
    the same trigger: else what is done anew would go another way than what is kept."""

    def created(self, event: ev.RunCreated) -> ev.RunCreated:
        """The first event, with where the run comes from."""
        event = replace(event, origin=self.origin, pins=self.pins, only_step=self.only_step)
        if self.former is None:
            return event
        former = self.former
        return replace(
            marked(event, former),
            depth=former.depth,
            failure_of=former.failure_of,
            trigger=former.trigger,
            trigger_type=former.trigger_type,
            scheduled_for=former.scheduled_for,
        )

    async def write(self, run_id: RunId) -> None:
        """Makes the outcomes durable, before the run is begun.

        Raises:
            psycopg.Error: the database is away.
        """
        if self.kept and self.pool is not None:
            await outcomes.keep(self.pool, run_id, [codec.encode(event) for event in self.kept])

    async def forget(self, run_id: RunId) -> None:
        """Takes them back: the run was not begun.

        Raises:
            psycopg.Error: the database is away.
        """
        if self.kept and self.pool is not None:
            await outcomes.drop(self.pool, run_id)


def first_state(run_id: RunId, flow: Flow, created: ev.RunCreated, derived: Derived | None) -> RunState:
    """The state of a new run before it is walked."""
    state = begin(run_id, flow, created)
    for event in derived.kept if derived is not None else ():
        evolve(state, event)
    return state


def row_of(flow: Flow, created: ev.RunCreated) -> dict[str, Any]:
    """What the row of a new run says of it beside its flow: what it is searched by.

    Raises:
        InvalidArgument: its search key cannot be made.
    """
    origin = created.origin
    return {
        "search_key": None if created.only_step else key_of(flow, created.input),
        # A run that goes on from one that a trigger started was asked for by somebody, and is no firing.
        "trigger": (created.trigger or None) if origin is None else None,
        "origin": (origin.run_id or None) if origin else None,
        "operation": origin.operation if origin else None,
        "test": created.faults is not None,
    }
