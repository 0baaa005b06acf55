"""Starts runs: durable first, then walked here."""

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import psycopg

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.errors import CallerError, Exhausted, InvalidArgument, RefluxError, Unavailable
from reflux.core.event import RunPhase
from reflux.core.faults import FaultPlan
from reflux.core.flow.limits import NO_CLAIM, Claim
from reflux.core.flow.searchkey import key_of
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.state import RunState
from reflux.orchestrator import codec, metrics
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.flows.cache import Resolved
from reflux.orchestrator.flows.inputs import check_input, claim
from reflux.orchestrator.operations.derived import Derived, first_state, row_of
from reflux.orchestrator.store.errors import CommitUnknown, ShardLost, Undecided
from reflux.orchestrator.store.journal import RunUpdate, ShardLease
from reflux.orchestrator.store.lease import Lease
from reflux.orchestrator.store.start import Started, Starter, StartRequest, find_started
from reflux.orchestrator.worker import Worker
from reflux.runtime import logs
from reflux.runtime.clock import Clock
from reflux.runtime.ids import uuid7
from reflux.runtime.postgres import Pool

LEASE_SECONDS: Final = 5.0
"""How long a start waits for this orchestrator to own a shard, right after it joined."""
MAX_TRIES: Final = 5
"""Of a start that finds its shard gone."""
TRY_SECONDS: Final = 0.05
"""Before the second try; each later one waits as much longer."""

log = logs.get_logger("launcher")


@dataclass(frozen=True, slots=True)
class StartOnce:
    """A handle that starts one run, however often it comes, for 7 days."""

    scope: str
    """Within which `key` is unique."""
    key: str
    body_digest: bytes
    """sha256 of what must be equal each time."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What starts a run when nobody just asked for it."""

    trigger: str = ""
    """Id of the trigger; empty when somebody asks."""
    type: str = ""
    """Of the trigger; empty for a webhook."""
    scheduled_for: datetime | None = None
    """The moment that the trigger's schedule names."""


NO_TRIGGER: Final = Cause()


@dataclass(frozen=True, slots=True)
class Launched:
    """The run of a start, new or of an earlier start with the same handle."""

    run_id: RunId
    first: RunState | None
    """Its state at the beginning when it is new; what is walked is another one."""


class Launcher:
    """Starts runs in shards of this orchestrator."""

    def __init__(self, *, lease: Lease, starter: Starter, worker: Worker, clock: Clock, pool: Pool) -> None:
        """`pool`: where it is looked whether a start that is refused now has begun before."""
        self._clock = clock
        self._pool = pool
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
        cause: Cause = NO_TRIGGER,
        traceparent: str = "",
        derived: Derived | None = None,
        lease: ShardLease | None = None,
        faults: FaultPlan | None = None,
    ) -> Launched:
        """Begins a run of the flow's current version; it is durable when this returns.

        Args:
            flow: as resolved a moment ago.
            document: the run's input.
            once: the handle of the start; None starts a run each time.
            actor: who asks.
            cause: the trigger that starts it, if any.
            traceparent: of the request, if it brought a valid one; the run's trace links to it.
            derived: where the run comes from, and what it takes over; None: it is just started.
            faults: of a test run; None: it is no test.
            lease: of the one shard in which it may begin; None: any of ours.

        Raises:
            InvalidArgument: the input does not fit the flow's schema, or gives no key that the flow asks for,
                and did not before either.
            AlreadyExists: the handle was used for something else.
            Exhausted: a limit of the flow refuses the run (CONCURRENCY_LIMIT, RATE_LIMIT); try again.
            Exhausted, Unavailable: nothing was begun that will go on unseen; try again.
            psycopg.Error: what a derived run takes over could not be written.
        """
        try:
            asked = check_start(flow, document, derived)
        except InvalidArgument as error:
            return await self.launched_before(once, error)
        self._check_room(flow)
        bound = lease is not None
        # Who owns a shard has heard the database's time; before that the clock is the machine's own.
        lease = lease or await self._shard()
        now = self._clock.now()
        run_id = RunId(uuid7(now))
        created = ev.RunCreated(
            flow.flow_id,
            flow.name,
            flow.version,
            document,
            actor,
            now,
            cause.trigger,
            traceparent,
            trigger_type=cause.type,
            scheduled_for=cause.scheduled_for,
            priority=asked.priority,
            faults=faults,
        )
        if derived is not None:
            created = derived.created(created)
        request = _request(flow, created, run_id, once, lease=lease, claim=asked)
        if derived is not None:
            await derived.write(run_id)
        # Until it is known what became of the start nobody here reads the run. One that was read, walked to
        # its end and gone from memory would begin once more when a late answer comes.
        self._worker.launching.add(run_id)
        try:
            return await self._begin(flow, created, request, derived, bound=bound)
        finally:
            self._worker.launching.discard(run_id)

    async def launched_before(self, once: StartOnce | None, error: CallerError) -> Launched:
        """The run that this very start has begun: it stays the caller's, whatever the flow asks for by now.

        Raises:
            CallerError: `error`, which spoke against the start; it has begun none.
            psycopg.Error: the database is away.
        """
        known = None if once is None else await find_started(self._pool, once.scope, once.key)
        if known is None or once is None or known.body_digest != once.body_digest:
            raise error
        return Launched(known.run_id, None)

    async def _begin(
        self,
        flow: Resolved,
        created: ev.RunCreated,
        request: StartRequest,
        derived: Derived | None,
        *,
        bound: bool,
    ) -> Launched:
        """Has a run begun, and walked here if its shard is still ours."""
        run_id = request.run_id
        try:
            started, begun_in = await self._start(request, bound=bound)
        except RefluxError as error:
            if derived is not None and not isinstance(error, CommitUnknown):
                await _forget(derived, run_id)
            raise
        metrics.started(created=started.created)
        if not started.created:
            if derived is not None:
                await _forget(derived, run_id)
            return Launched(started.run_id, None)
        if started.queued:  # it costs no memory: who admits it leaves a word
            waiting = replace(created, queued=True)
            return Launched(run_id, first_state(run_id, flow.flow, waiting, derived))
        if begun_in in self._lease.held():  # after a takeover it is the new owner's
            shown = RunUpdate(RunPhase.RUNNING, wake_at=created.time, progressed=False)
            state = first_state(run_id, flow.flow, created, derived)
            kept = len(derived.kept) if derived is not None else 0
            self._worker.add(ActiveRun(state, begun_in, 2 + kept, shown))
        return Launched(run_id, first_state(run_id, flow.flow, created, derived))

    def _check_room(self, flow: Resolved) -> None:
        """Whether a run of the flow can be taken on.

        Raises:
            Exhausted, Unavailable: not now.
        """
        if self._worker.draining:
            raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator is stopping; try again")
        if self._worker.full_for(flow.flow_id):
            raise Exhausted(Reason.NOT_ACCEPTING, "this orchestrator has as many runs in hand as it can bear")

    async def _start(self, request: StartRequest, *, bound: bool) -> tuple[Started, ShardLease]:
        """The run of a request, begun in the shard of the lease.

        While shards change hands a start may find that its own is gone. Nothing was begun then, so another
        shard takes it: a sender of webhooks that is told to come again may do so in minutes. One that is
        `bound` to its shard is not tried elsewhere.

        Raises:
            RefluxError: what the starter raises; `ShardLost` and `Undecided` after `MAX_TRIES`.
        """
        for tried in range(1, MAX_TRIES + 1):
            try:
                return await self._starter.start(request), request.lease
            except (ShardLost, Undecided) as error:
                if isinstance(error, ShardLost):
                    self._lost.add(request.lease)
                if tried == MAX_TRIES or bound:
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


def check_start(flow: Resolved, document: Json, derived: Derived | None) -> Claim:
    """What a run with this input asks for before it may begin.

    Raises:
        InvalidArgument: the input does not fit the flow's schema, or gives no key that the flow asks for, or
            that the run is to be searched by.
    """
    if derived is not None and derived.only_step is not None:
        # A step alone has not the input of a whole run, and is none of those that are limited.
        return NO_CLAIM
    check_input(flow, document)
    key_of(flow.flow, document)
    return claim(flow, document)


async def _forget(derived: Derived, run_id: RunId) -> None:
    """Takes back what a run was to take over that was not begun; if that fails it goes with its partition."""
    try:
        await derived.forget(run_id)
    except (psycopg.Error, OSError, TimeoutError) as error:
        log.warning("outcomes_not_dropped", run_id=run_id, error=str(error))


def _request(
    flow: Resolved,
    created: ev.RunCreated,
    run_id: RunId,
    once: StartOnce | None,
    *,
    lease: ShardLease,
    claim: Claim,
) -> StartRequest:
    """The start as the store takes it.

    Raises:
        InvalidArgument: the run's search key cannot be made.
    """
    return StartRequest(
        lease=lease,
        run_id=run_id,
        flow_id=flow.flow_id,
        flow_name=flow.name,
        flow_version=flow.version,
        actor=created.actor,
        created_at=created.time,
        payload=codec.encode(created),
        scope=once.scope if once else "",
        request_id=once.key if once else None,
        body_digest=once.body_digest if once else b"",
        claim=claim,
        queued_tail=codec.QUEUED_TAIL,
        **row_of(flow.flow, created),
    )
