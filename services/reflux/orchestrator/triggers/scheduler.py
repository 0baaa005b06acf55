"""Starts the runs of schedules when they are due: one run per firing, whoever dies whenever.

    look: what is due in our shards, by the database's clock
    for each schedule, in a task of its own: plan (pure) → start the runs → move the schedule on

- **Not twice.** The handle of a start is the trigger and the moment that its rule names, so whoever starts
  the same firing again finds the run that it has. The run is started in the shard of the schedule and under
  its token, so who has lost the shard starts nothing.
- **Not never.** The schedule is moved on after its runs are durable. A crash in between is found by the next
  look, of the next owner.
- **Not late.** A firing that is passed over cannot begin any more, however late a start of it reaches the
  database: its handle is taken first, and only who has none yet is missed.
- **Not in vain.** With `overlap: cancel` the earlier runs are asked to cancel once the new one is durable,
  and before the schedule is moved on: who dies in between is followed by one who finds that run, and asks.
  Only a firing that a limit of concurrency refuses asks them first: they may be what it waits for.
- **In order.** The firings of one trigger are started one after the other; those of different triggers do
  not wait for each other. With `overlap: queue` the schedule stands at its oldest firing until the run of the
  one before has ended: what waits is the rule's moments from there to now, so a queue costs one row.
- **Not silently.** A firing that cannot start a run (its input cannot be made, or does not fit) is kept as
  the schedule's last error, and the next one goes on. One that a limit of its flow refuses is kept so too,
  and stays due. One that nobody can take at the moment just stays due.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.core.document import MAX_DOCUMENT_BYTES, Json
from reflux.core.errors import CallerError, Defect, Exhausted, InvalidArgument, NotFound, TryLater
from reflux.core.expression import ExpressionError
from reflux.core.failure import MAX_MESSAGE
from reflux.core.flow.durations import format_moment
from reflux.core.flow.scheduled import Scheduled
from reflux.core.reasons import Reason
from reflux.core.schedule import MAX_CATCHUP, Overlap
from reflux.core.word import Cancel, WordId
from reflux.orchestrator import metrics
from reflux.orchestrator.launcher import Cause, StartOnce
from reflux.orchestrator.store import inbox
from reflux.orchestrator.store.start import find_all_started, find_started
from reflux.orchestrator.triggers.schedules import NOBODY, FiringProblem, Settled
from reflux.orchestrator.words import stored
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from reflux.core.names import RunId
    from reflux.core.schedule import Firings
    from reflux.orchestrator.flows.cache import FlowCache, Resolved
    from reflux.orchestrator.launcher import Launcher
    from reflux.orchestrator.store.journal import ShardLease
    from reflux.orchestrator.store.lease import Lease
    from reflux.orchestrator.triggers.schedules import Due, Place, ScheduleStore
    from reflux.runtime.postgres import Pool

LOOK_SECONDS: Final = 0.5
"""Between two looks, at most: a new schedule may be due at once."""
CROWDED_SECONDS: Final = 0.05
"""Between two looks when more is due than one sees."""
PAGE: Final = 500
"""Schedules of one look."""
AT_ONCE: Final = 16
"""Schedules that are dealt with at the same time."""
POSTPONED: Final = timedelta(seconds=60)
"""Until a flow that cannot be read is looked at again."""
QUEUE_PAUSE: Final = timedelta(seconds=1)
"""Until it is looked again whether an earlier run has ended, or a limit of the flow refuses no more."""
_AWAY: Final = (psycopg.Error, OSError, TimeoutError)

log = logs.get_logger("scheduler")


@dataclass(frozen=True, slots=True)
class _Work:
    """A schedule in hand."""

    flow: Resolved
    trigger: Scheduled
    due: Due
    lease: ShardLease


class Scheduler:
    """Somebody must `run` it."""

    def __init__(
        self,
        *,
        store: ScheduleStore,
        flows: FlowCache,
        launcher: Launcher,
        lease: Lease,
        pool: Pool,
        heard: Callable[[Sequence[RunId]], None],
    ) -> None:
        """`heard` is told which runs a word was left for."""
        self._store = store
        self._flows = flows
        self._launcher = launcher
        self._lease = lease
        self._pool = pool
        self._heard = heard
        self._busy: set[Place] = set()
        """Schedules that are being dealt with, or wait because they could not be."""
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Look until cancelled, through every loss of the database."""
        async with asyncio.TaskGroup() as group:
            for _ in forever():
                try:
                    pause = await self._look(group)
                except _AWAY as error:
                    log.warning("schedules_not_read", error=str(error) or type(error).__name__)
                    pause = LOOK_SECONDS
                await asyncio.sleep(pause)

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Begin with what is due; how many seconds later to look again."""
        leases = {lease.shard: lease for lease in self._lease.held()}
        if not leases:
            return LOOK_SECONDS
        ahead = timedelta(seconds=LOOK_SECONDS)
        found = await self._store.due(list(leases.values()), ahead=ahead, limit=PAGE, in_hand=self._busy)
        pause = LOOK_SECONDS if len(found) < PAGE else CROWDED_SECONDS
        for due in found:
            if due.place in self._busy:  # since it was asked
                continue
            if due.fire_at > due.now:
                pause = min(pause, (due.fire_at - due.now).total_seconds())
            else:
                self._busy.add(due.place)
                group.create_task(self._deal(due, leases[due.shard]))
        return pause

    async def _deal(self, due: Due, lease: ShardLease) -> None:
        """One schedule that is due. Whatever happens, the others go on."""
        try:
            async with self._room:
                await self._fire(due, lease)
        except (*_AWAY, TryLater) as error:  # it stays due, and in hand: others are looked at meanwhile
            log.warning("schedule_waits", schedule=due.key, error=str(error) or type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)
        except Exception:
            log.exception("schedule_failed", schedule=due.key)
            await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._busy.discard(due.place)

    async def _fire(self, due: Due, lease: ShardLease) -> None:
        try:
            found = await self._find(due)
        except NotFound:
            return  # its row goes with it
        except Defect as error:
            problem = FiringProblem(due.scheduled_for, error.reason.value, error.message[:MAX_MESSAGE])
            later = Settled(due.scheduled_for, due.now + POSTPONED, problem=problem)
            await self._store.settle(due, lease, later)
            log.exception("schedule_unreadable", schedule=due.key)
            return
        if found is None:
            return  # the flow is another one by now; its row will say so
        flow, trigger = found
        if trigger.schedule.overlap is Overlap.QUEUE:
            await self._fire_queued(_Work(flow, trigger, due, lease))
            return
        plan = trigger.schedule.plan(due.scheduled_for, due.now, due.key)
        settled = Settled(
            plan.following,
            plan.following and trigger.schedule.fires_at(plan.following, due.key),
            missed=plan.missed,
        )
        work = _Work(flow, trigger, due, lease)
        if plan.missed:
            settled = await self._pass_over(work, plan, settled)
        for moment in plan.due:
            settled = await self._start(work, moment, settled)
            if settled.scheduled_for == moment:
                break
        if settled.last is not None and trigger.schedule.overlap is Overlap.CANCEL:
            await self._cancel_earlier(work, settled.last[0])
        if await self._store.settle(due, lease, settled):
            _count(due, plan.due, settled)

    async def _pass_over(self, work: _Work, plan: Firings, settled: Settled) -> Settled:
        """Lets no run begin for what is missed, but for what has begun and nobody could say so any more.

        Only the oldest ones may have been started: whoever starts a firing does so when its time has come.
        """
        due, schedule = work.due, work.trigger.schedule
        end = plan.due[0] if plan.due else plan.following
        oldest = (due.scheduled_for, *schedule.upcoming(due.scheduled_for, MAX_CATCHUP))
        passed = [moment for moment in oldest if end is None or moment < end]
        handles = [_once(due.key, moment) for moment in passed]
        await self._store.pass_over(work.lease, handles)
        known = await find_all_started(self._pool, handles[0].scope, [once.key for once in handles])
        begun = [
            (moment, known[once.key].run_id)
            for moment, once in zip(passed, handles, strict=True)
            if once.key in known and known[once.key].run_id != NOBODY
        ]
        if not begun:
            return settled
        moment, run_id = begun[-1]
        last = (moment, schedule.fires_at(moment, due.key), run_id)
        return replace(settled, last=last, fired=len(begun), missed=max(0, settled.missed - len(begun)))

    async def _fire_queued(self, work: _Work) -> None:
        """Start the run of the oldest firing, unless another one goes on; the next look sees to the rest."""
        trigger, due = work.trigger, work.due
        first = due.scheduled_for
        once = _once(due.key, first)
        # Who has died between start and move has left its run: it is no earlier one.
        if await find_started(self._pool, once.scope, once.key) is None:
            if await self._store.unfinished(due, work.lease, actor_of(trigger.id)):
                await self._store.settle(due, work.lease, Settled(first, due.now + QUEUE_PAUSE))
                return
            plan = trigger.schedule.plan(first, due.now, due.key)
            oldest = plan.due[0] if plan.due else plan.following
            if oldest != first:
                # More waited than may: those that are given up are counted before others begin.
                given_up = await self._pass_over(work, plan, _from(work, oldest, missed=plan.missed))
                if await self._store.settle(due, work.lease, given_up):
                    _count(due, (), given_up)
                return
        settled = await self._start(work, first, _from(work, trigger.schedule.next_after(first)))
        if await self._store.settle(due, work.lease, settled):
            _count(due, (first,), settled)

    async def _find(self, due: Due) -> tuple[Resolved, Scheduled] | None:
        """The flow and its trigger, if the row is of the flow's current version.

        Raises:
            NotFound, Defect, psycopg.Error.
        """
        flow = await self._flows.resolve(due.flow_id)
        if flow.version < due.flow_version:  # the table is ahead of what is remembered of the flow
            self._flows.forget(due.flow_id)
            flow = await self._flows.resolve(due.flow_id)
        trigger = flow.flow.trigger(due.trigger_id)
        if not isinstance(trigger, Scheduled) or trigger.described()["rule"] != due.rule:
            self._flows.forget(due.flow_id)
            return None
        return flow, replace(trigger, schedule=replace(trigger.schedule, given_up=due.given_up))

    async def _start(self, work: _Work, moment: datetime, before: Settled) -> Settled:
        """Start the run of one firing, and add what became of it to what became of those before.

        If a limit of the flow refuses it, the schedule stands at it, and says why.

        Raises:
            TryLater, psycopg.Error: it is not known whether there is a run; asking again finds out.
        """
        flow, trigger, due = work.flow, work.trigger, work.due
        fire_at = trigger.schedule.fires_at(moment, due.key)
        once = _once(due.key, moment)
        try:
            if trigger.schedule.overlap is Overlap.SKIP and await self._goes_on(work, once):
                return replace(before, skipped=before.skipped + 1)
            cause = Cause(trigger.id, trigger.type, moment)
            document = make_input(flow, trigger, moment, fire_at)
            launched = await self._launcher.launch(
                flow, document, once=once, actor=actor_of(trigger.id), cause=cause, lease=work.lease
            )
            run_id = launched.run_id
        except (CallerError, Defect) as error:
            # The flow may have changed since this firing was started before: that run is its run still.
            known = await find_started(self._pool, once.scope, once.key)
            if known is None:
                log.warning("firing_failed", schedule=due.key, scheduled_for=once.key, error=error.message)
                problem = FiringProblem(moment, error.reason.value, error.message[:MAX_MESSAGE])
                return replace(before, problem=problem, failed=before.failed + 1)
            run_id = known.run_id
        except Exhausted as error:
            if error.reason is Reason.NOT_ACCEPTING:
                raise
            if trigger.schedule.overlap is Overlap.CANCEL and error.reason is Reason.CONCURRENCY_LIMIT:
                await self._cancel_earlier(work, moment)  # its input is good, and they may have the slots
            problem = FiringProblem(moment, error.reason.value, error.message[:MAX_MESSAGE])
            return replace(before, scheduled_for=moment, fire_at=due.now + QUEUE_PAUSE, problem=problem)
        if run_id == NOBODY:  # it was passed over, by a version of the flow that had another `catchup`
            return replace(before, missed=before.missed + 1)
        return replace(before, last=(moment, fire_at, run_id), problem=None, fired=before.fired + 1)

    async def _goes_on(self, work: _Work, once: StartOnce) -> bool:
        """Whether an earlier run goes on; the one that this firing has itself is none."""
        if await find_started(self._pool, once.scope, once.key) is not None:
            return False
        return bool(await self._store.unfinished(work.due, work.lease, actor_of(work.trigger.id)))

    async def _cancel_earlier(self, work: _Work, newest: datetime) -> None:
        """Asks the runs of the trigger to cancel, but for that of the newest firing.

        Later ones there are none: who has lost the shard is told of no runs at all.
        """
        actor, once = actor_of(work.trigger.id), _once(work.due.key, newest)
        unfinished = await self._store.unfinished(work.due, work.lease, actor)
        # Asked after those, also where its start was refused: one that had been on its way may have begun it.
        known = unfinished and await find_started(self._pool, once.scope, once.key)
        earlier = [run_id for run_id in unfinished if not known or run_id != known.run_id]
        word = stored.encode(Cancel(WordId(""), actor, "a later firing of the trigger takes its place"))
        for run_id in earlier:
            await inbox.put(self._pool, run_id, *word)
        if earlier:
            self._heard(earlier)


def actor_of(trigger_id: str) -> str:
    """Who started a run that a trigger started by itself. The edge lets nobody call himself so."""
    return f"trigger:{trigger_id}"


def make_input(flow: Resolved, trigger: Scheduled, moment: datetime, fire_at: datetime) -> Json:
    """The input of a firing.

    Raises:
        InvalidArgument: EXPRESSION_FAILED, DOCUMENT_TOO_LARGE.
    """
    if trigger.input is None:
        return Json(b"{}")
    values = {"vars": flow.flow.vars, "schedule": trigger.root(moment, fire_at)}
    try:
        document = trigger.input.document(values)
    except ExpressionError as error:
        message = f"the input of trigger {trigger.id} cannot be made: {error.render()}"
        raise InvalidArgument(Reason.EXPRESSION_FAILED, message) from None
    if len(document.raw) > MAX_DOCUMENT_BYTES:
        message = (
            f"the input of trigger {trigger.id} has {len(document.raw)} bytes, at most {MAX_DOCUMENT_BYTES}"
        )
        raise InvalidArgument(Reason.DOCUMENT_TOO_LARGE, message)
    return document


def _from(work: _Work, moment: datetime | None, *, missed: int = 0) -> Settled:
    """A schedule that stands at this firing."""
    fire_at = moment and work.trigger.schedule.fires_at(moment, work.due.key)
    return Settled(moment, fire_at, missed=missed)


def _once(key: str, moment: datetime) -> StartOnce:
    """One run for one firing. Nothing else may differ between two starts of it: the digest is the name's."""
    name = format_moment(moment)
    return StartOnce(f"schedule:{key}", name, sha256(name.encode()).digest())


def _count(due: Due, moments: Sequence[datetime], settled: Settled) -> None:
    for outcome in ("fired", "skipped", "missed", "failed"):
        if count := getattr(settled, outcome):
            metrics.FIRINGS.at(outcome).add(count)
    if settled.last is not None and settled.last[0] in moments:
        metrics.FIRING_LATENESS.at().record((due.now - settled.last[1]).total_seconds())
