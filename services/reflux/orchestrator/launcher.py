"""Starts runs: durable first, then walked here."""

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Final

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.errors import Exhausted, InvalidArgument, Unavailable
from reflux.core.event import RunPhase
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.run import begin
from reflux.core.state import RunState
from reflux.orchestrator import codec, metrics
from reflux.orchestrator.flows.cache import Resolved
from reflux.orchestrator.store.errors import ShardLost, Undecided
from reflux.orchestrator.store.journal import RunUpdate, ShardLease
from reflux.orchestrator.store.lease import Lease
from reflux.orchestrator.store.start import Started, Starter, StartRequest
from reflux.orchestrator.worker import MAX_NEW_RUNS, ActiveRun, Worker
from reflux.runtime.clock import Clock
from reflux.runtime.ids import uuid7

LEASE_SECONDS: Final = 5.0
"""How long a start waits for this orchestrator to own a shard, right after it joined."""
MAX_TRIES: Final = 5
"""Of a start that finds its shard gone."""
TRY_SECONDS: Final = 0.05
"""Before the second try; each later one waits as much longer."""


@dataclass(frozen=True, slots=True)
class StartOnce:
    """A handle that starts one run, however often it comes, for 7 days."""

    scope: str
    """Within which `key` is unique."""
    key: str
    body_digest: bytes
    """sha256 of what must be equal each time."""


@dataclass(frozen=True, slots=True)
class Launched:
    """The run of a start, new or of an earlier start with the same handle."""

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
        self._lost: set[ShardLease] = set()
        """Leases that a start found lost, until the lease itself has heard of it."""

    async def launch(
        self,
        flow: Resolved,
        document: Json,
        *,
        once: StartOnce | None,
        actor: str,
        trigger: str = "",
        traceparent: str = "",
    ) -> Launched:
        """Begins a run of the flow's current version; it is durable when this returns.

        Args:
            flow: as resolved a moment ago.
            document: the run's input.
            once: the handle of the start; None starts a run each time.
            actor: who asks.
            trigger: id of the trigger that starts it; empty when somebody asks.
            traceparent: of the request, if it brought a valid one; the run's trace links to it.

        Raises:
            InvalidArgument: the input does not fit the flow's schema.
            AlreadyExists: the handle was used for something else.
            Exhausted, Unavailable: nothing was begun that will go on unseen; try again.
        """
        _check(flow, document)
        if self._worker.draining:
            raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator is stopping; try again")
        if self._worker.full(runs=MAX_NEW_RUNS):
            raise Exhausted(Reason.NOT_ACCEPTING, "this orchestrator has as many runs in hand as it can bear")
        # Who owns a shard has heard the database's time; before that the clock is the machine's own.
        lease = await self._shard()
        now = self._clock.now()
        run_id = RunId(uuid7(now))
        created = ev.RunCreated(
            flow.flow_id, flow.name, flow.version, document, actor, now, trigger, traceparent
        )
        request = StartRequest(
            lease=lease,
            run_id=run_id,
            flow_id=flow.flow_id,
            flow_name=flow.name,
            flow_version=flow.version,
            actor=actor,
            created_at=now,
            payload=codec.encode(created),
            scope=once.scope if once else "",
            request_id=once.key if once else None,
            body_digest=once.body_digest if once else b"",
        )
        # Until it is known what became of the start nobody here reads the run. One that was read, walked to
        # its end and gone from memory would begin once more when a late answer comes.
        self._worker.launching.add(run_id)
        try:
            started, lease = await self._start(request)
            metrics.started(created=started.created)
            if not started.created:
                return Launched(started.run_id, None)
            # After a takeover it is the new owner's.
            if lease in self._lease.held():
                shown = RunUpdate(RunPhase.RUNNING, wake_at=now, progressed=False)
                self._worker.add(ActiveRun(begin(run_id, flow.flow, created), lease, 2, shown))
        finally:
            self._worker.launching.discard(run_id)
        return Launched(run_id, begin(run_id, flow.flow, created))

    async def _start(self, request: StartRequest) -> tuple[Started, ShardLease]:
        """The run of a request, begun in the shard of the lease.

        While shards change hands a start may find that its own is gone. Nothing was begun then, so another
        shard takes it: a sender of webhooks that is told to come again may do so in minutes.

        Raises:
            RefluxError: what the starter raises; `ShardLost` and `Undecided` after `MAX_TRIES`.
        """
        for tried in range(1, MAX_TRIES + 1):
            try:
                return await self._starter.start(request), request.lease
            except (ShardLost, Undecided) as error:
                if isinstance(error, ShardLost):
                    self._lost.add(request.lease)
                if tried == MAX_TRIES:
                    raise
                await asyncio.sleep(TRY_SECONDS * tried)
                request = replace(request, lease=await self._shard())
        raise AssertionError("the last try returns or raises")

    async def _shard(self) -> ShardLease:
        """One of our shards, at random.

        Raises:
            Unavailable: there is none, and none came within `LEASE_SECONDS`.
        """
        deadline = asyncio.get_running_loop().time() + LEASE_SECONDS
        while not (held := self._believed()):
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator owns no shard now; try again")
            await asyncio.sleep(0.05)
        return random.choice(held)  # noqa: S311 - spreads runs, guards nothing

    def _believed(self) -> list[ShardLease]:
        held = self._lease.held()
        self._lost.intersection_update(held)
        return [lease for lease in held if lease not in self._lost]


def _check(flow: Resolved, document: Json) -> None:
    schema = flow.flow.input_schema
    violations = schema.violations(document.value) if schema is not None else ()
    if violations:
        raise InvalidArgument(
            Reason.INPUT_INVALID,
            f"the input does not fit the schema of flow {flow.name}: {violations[0].message}",
            violations=violations,
        )
