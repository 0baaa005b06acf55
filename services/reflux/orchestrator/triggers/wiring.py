"""The parts that deal with triggers, wired."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.orchestrator.triggers.deliveries import Deliveries
from reflux.orchestrator.triggers.paths import WebhookPaths
from reflux.orchestrator.triggers.planning import TriggerPlanner
from reflux.orchestrator.triggers.scheduler import Scheduler
from reflux.orchestrator.triggers.schedules import ScheduleStore
from reflux.orchestrator.triggers.servicer import TriggerServicer
from reflux.orchestrator.triggers.store import TriggerStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reflux.core.names import RunId
    from reflux.orchestrator.flows.cache import FlowCache
    from reflux.orchestrator.flows.store import FlowStore
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.launcher import Launcher
    from reflux.orchestrator.store.lease import Lease
    from reflux.orchestrator.waiting import Waiter
    from reflux.runtime.clock import Clock
    from reflux.runtime.postgres import Pool


@dataclass(frozen=True, slots=True)
class Triggers:
    """What an orchestrator needs of them."""

    planner: TriggerPlanner
    scheduler: Scheduler
    servicer: TriggerServicer


def wire(
    *,
    pool: Pool,
    store: FlowStore,
    flows: FlowCache,
    launcher: Launcher,
    lease: Lease,
    waiter: Waiter,
    reader: JournalReader,
    clock: Clock,
    heard: Callable[[Sequence[RunId]], None],
) -> Triggers:
    """All of them over one pool; `heard` is told which runs a word was left for."""
    triggers, schedules, secrets = TriggerStore(pool), ScheduleStore(pool), os.environ.get
    deliveries = Deliveries(
        paths=WebhookPaths(triggers, flows), launcher=launcher, secrets=secrets, clock=clock
    )
    scheduler = Scheduler(
        store=schedules, flows=flows, launcher=launcher, lease=lease, pool=pool, heard=heard
    )
    servicer = TriggerServicer(
        flows=store,
        cache=flows,
        store=triggers,
        schedules=schedules,
        deliveries=deliveries,
        launcher=launcher,
        waiter=waiter,
        reader=reader,
        clock=clock,
    )
    return Triggers(TriggerPlanner(triggers, secrets), scheduler, servicer)
