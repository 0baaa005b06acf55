"""A run as people see it, with what its journal does not know: its place in a queue, and runs below it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from reflux.core.event import RunPhase
from reflux.orchestrator import run_view
from reflux.orchestrator.store import runs, slots

MOST_CHILDREN: Final = 1_000
"""Of a run, that are looked at."""

if TYPE_CHECKING:
    from reflux.core.names import RunId
    from reflux.core.state import RunState
    from reflux.orchestrator.store.slots import QueuePlace, Standing
    from reflux.runtime.postgres import Pool


async def run_document(pool: Pool, state: RunState) -> bytes:
    """A Run; of a queued one, with its place in the queue at this moment, which a pause does not cost it.

    Raises:
        psycopg.Error: the database is away.
    """
    if not state.queued or state.phase not in (RunPhase.QUEUED, RunPhase.PAUSED):
        return run_view.run_document(state, parked=await parked_below(pool, state))
    queue = _queue(state, await slots.standing(pool, state.id))
    if state.phase is RunPhase.PAUSED:
        del queue["waiting"]  # it waits for a person first
    return run_view.run_document(state, queue=queue)


async def parked_below(pool: Pool, state: RunState) -> frozenset[RunId]:
    """The runs that steps have begun, and that wait for a person.

    Raises:
        psycopg.Error: the database is away.
    """
    children = [] if state.finished else list(islice(state.child_runs.values(), MOST_CHILDREN))
    return await runs.parked_among(pool, children) if children else frozenset()


def _queue(state: RunState, standing: Standing) -> dict[str, Any]:
    """What the journal does not know of the run: `waiting` and `queue`."""
    place = standing.place
    until = run_view.stamp(standing.start_at)
    if place is None or not place.position:
        why = "waits for its time, by the rate of its flow" if standing.start_at else "about to begin"
        return {"waiting": {"why": why, "until": until}, "queue": None}
    why = (
        f"{_ordinal(place.position)} of {place.length} for a slot of "
        f"{slots.named(state.created.flow_name, place.key)}, which has {place.limit} and gives none more"
    )
    # The rate says when it may begin at the earliest, not when it will: nobody knows when a slot is free.
    return {"waiting": {"why": why, "until": None}, "queue": _place(place)}


def _place(place: QueuePlace) -> dict[str, Any]:
    return {
        "position": place.position,
        "length": place.length,
        "held": place.held,
        "limit": place.limit,
        "key": place.key,
    }


def _ordinal(number: int) -> str:
    """As people say it.

    >>> [_ordinal(number) for number in (1, 2, 3, 4, 11, 112, 21)]
    ['1st', '2nd', '3rd', '4th', '11th', '112th', '21st']
    """
    last = 0 if number % 100 in (11, 12, 13) else number % 10
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(last, 'th')}"
