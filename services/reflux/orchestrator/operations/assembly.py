"""The parts of OperationService, wired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.orchestrator.operations.acts import Acts
from reflux.orchestrator.operations.alone import Steps
from reflux.orchestrator.operations.bulk import Bulks
from reflux.orchestrator.operations.forks import Forks
from reflux.orchestrator.operations.servicer import OperationServicer

if TYPE_CHECKING:
    from reflux.orchestrator.flows.cache import FlowCache
    from reflux.orchestrator.flows.store import FlowStore
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.launcher import Launcher
    from reflux.orchestrator.mesh_view import MeshView
    from reflux.orchestrator.waiting import Waiter
    from reflux.orchestrator.words.teller import Teller
    from reflux.runtime.clock import Clock
    from reflux.runtime.postgres import Pool


def assemble(  # noqa: PLR0917 - wiring: each is of a type of its own
    mesh: MeshView,
    clock: Clock,
    pool: Pool,
    store: FlowStore,
    flows: FlowCache,
    reader: JournalReader,
    launcher: Launcher,
    waiter: Waiter,
    teller: Teller,
) -> OperationServicer:
    """The servicer of one orchestrator."""
    forks = Forks(pool=pool, flows=flows, store=store, reader=reader, launcher=launcher, mesh=mesh)
    steps = Steps(flows=flows, reader=reader, launcher=launcher, mesh=mesh)
    acts = Acts(forks=forks, reader=reader, teller=teller)
    bulks = Bulks(pool=pool, flows=flows, clock=clock, acts=acts)
    return OperationServicer(
        pool=pool,
        flows=flows,
        clock=clock,
        forks=forks,
        steps=steps,
        bulks=bulks,
        reader=reader,
        waiter=waiter,
    )
