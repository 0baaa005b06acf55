"""A queued run begins at its time, unless something has ended it or put it aside in that very moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reflux.core import event as ev
from reflux.core.event import RunPhase
from reflux.core.run import begin, evolve
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.store.journal import RunUpdate, ShardLease
from reflux.orchestrator.worker import Worker
from tests.support.walk import RUN, START, created, flow_of

FLOW = flow_of({"id": "a", "wait": {"for": "1s"}})
NOW = START + timedelta(seconds=5)


class Clock:
    """It is `NOW`."""

    def now(self) -> Any:
        return NOW


def told_by_the_timer(*events: ev.Event) -> list[ev.Event]:
    """What a queued run records after these, when the time comes that the rate gave it."""
    nobody: Any = None
    clock: Any = Clock()
    worker = Worker(writer=nobody, caller=nobody, mesh=nobody, clock=clock, host=nobody)
    state = begin(RUN, FLOW, replace(created(FLOW), queued=True))
    for event in events:
        evolve(state, event)
    run = ActiveRun(state, ShardLease(1, 1), 2 + len(events), RunUpdate(RunPhase.QUEUED), begins_at=NOW)
    worker.runs[RUN] = run
    recorded: list[ev.Event] = []
    worker.walk = lambda _, made, *__: recorded.extend(made)  # type: ignore[method-assign, assignment]
    worker._on_timer(run)
    return recorded


CANCELLED = ev.CancelRequested("me", "", START)
ENDED = ev.RunFinished(RunPhase.CANCELED, START)
PUT_ASIDE = ev.RunParked(ev.Failure("INTERNAL", "QUARANTINED", "it kills"), START)


def test_it_begins_at_its_time():
    """The rate has given it a time, and that has come."""
    assert told_by_the_timer() == [ev.RunAdmitted(NOW)]


@pytest.mark.parametrize("events", [(CANCELLED,), (CANCELLED, ENDED), (ENDED,), (PUT_ASIDE,)])
def test_one_that_is_over_or_put_aside_does_not(events):
    """Its end may still be on its way to the database; after it nothing may come."""
    assert told_by_the_timer(*events) == []
