"""Starts runs: durable first, then walked here."""

import asyncio
import random
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.errors import Exhausted, InvalidArgument, Unavailable
from reflux.core.event import RunPhase
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.run import begin
from reflux.core.state import RunState
from reflux.orchestrator import codec
from reflux.orchestrator.flows.cache import Resolved
from reflux.orchestrator.store.journal import RunUpdate, ShardLease
from reflux.orchestrator.store.lease import Lease
from reflux.orchestrator.store.start import Starter, StartRequest
from reflux.orchestrator.worker import MAX_NEW_RUNS, ActiveRun, Worker
from reflux.runtime.clock import Clock
from reflux.runtime.ids import uuid7

LEASE_SECONDS: Final = 5.0
"""How long a start waits for this orchestrator to own a shard, right after it joined."""


@dataclass(frozen=True, slots=True)
class Launched:
    """The run of a start, new or of an earlier start with the same request_id."""

    run_id: RunId
    first: RunState | None
    """Its state at the beginning when it is new; what is walked is another one."""


class Launcher:
    """Starts runs in shards of this orchestrator."""

    def __init__(self, *, lease: Lease, starter: Starter, worker: Worker, clock: Clock) -> None:
        self._clock = clock
        self._lease = lease
        self._starter = starter
        self._worker = worker

    async def launch(self, flow: Resolved, document: Json, *, request_id: str | None, actor: str) -> Launched:
        """Begins a run of the flow's current version; it is durable when this returns.

        Raises:
            InvalidArgument: the input does not fit the flow's schema.
            AlreadyExists: the request_id was used for something else.
            Exhausted, Unavailable: nothing was begun that will go on unseen; try again.
        """
        _check(flow, document)
        if self._worker.draining:
            raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator is stopping; try again")
        if self._worker.full(runs=MAX_NEW_RUNS):
            raise Exhausted(Reason.NOT_ACCEPTING, "this orchestrator has as many runs in hand as it can bear")
        lease = await self._shard()
        now = self._clock.now()
        run_id = RunId(uuid7(now))
        created = ev.RunCreated(flow.flow_id, flow.name, flow.version, document, actor, now)
        started = await self._starter.start(
            StartRequest(
                lease=lease,
                run_id=run_id,
                flow_id=flow.flow_id,
                flow_name=flow.name,
                flow_version=flow.version,
                actor=actor,
                created_at=now,
                payload=codec.encode(created),
                scope=f"flow:{flow.flow_id}",
                request_id=request_id,
                body_digest=sha256(document.raw).digest(),
            )
        )
        if not started.created:
            return Launched(started.run_id, None)
        # A word may have brought it into memory meanwhile; after a takeover it is the new owner's.
        if run_id not in self._worker.runs and lease in self._lease.held():
            shown = RunUpdate(RunPhase.RUNNING, wake_at=now, progressed=False)
            self._worker.add(ActiveRun(begin(run_id, flow.flow, created), lease, 2, shown))
        return Launched(run_id, begin(run_id, flow.flow, created))

    async def _shard(self) -> ShardLease:
        """One of our shards, at random.

        Raises:
            Unavailable: there is none, and none came within `LEASE_SECONDS`.
        """
        deadline = asyncio.get_running_loop().time() + LEASE_SECONDS
        while not (held := self._lease.held()):
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator owns no shard now; try again")
            await asyncio.sleep(0.05)
        return random.choice(held)  # noqa: S311 - spreads runs, guards nothing


def _check(flow: Resolved, document: Json) -> None:
    schema = flow.flow.input_schema
    violations = schema.violations(document.value) if schema is not None else ()
    if violations:
        raise InvalidArgument(
            Reason.INPUT_INVALID,
            f"the input does not fit the schema of flow {flow.name}: {violations[0].message}",
            violations=violations,
        )
