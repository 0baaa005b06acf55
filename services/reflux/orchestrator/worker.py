"""The worker: the loop around the walker, for the runs this orchestrator holds.

It folds what happened, asks the walker until nothing follows, writes it in one submission, and sends what may
be sent. `walk` does all of that without waiting for anything, so a run is never seen half advanced. Only one
that takes longer than `MAX_TURN` goes on in its next turn (`turns`), as if it had been read again in between.

When a call may be sent:

- A pure one at once: if its predecessors' commit fails, the run is read again and the call repeated, and
  nobody can tell.
- Any other one after the commit of its `AttemptStarted`, and with it of everything before.

What is in memory is a guess until it is committed. So whenever a commit fails, the run is dropped, never
repaired: `ShardLost` drops the shard's runs (their new owner has them), `CommitUnknown` drops everything and
joins anew, a refused row parks the run.

A run that waits for longer than `EVICT_AFTER` leaves memory; `runs.wake_at`, written with the state that
waits, brings it back, and so does a word to it: one that waits for nothing else has `FOREVER` there. While a
run is in memory its `wake_at` lies in the past, so one that was dropped, for whatever reason, is found by the
next look at what is due: there is nothing to remember about it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from traceback import format_exception
from typing import Final, Protocol

from reflux.core import event as ev
from reflux.core.attempt import AttemptResult, settle
from reflux.core.command import AskEffect, Piece, Record, StartAttempt, StartChild
from reflux.core.effect import EffectClass
from reflux.core.errors import Exhausted
from reflux.core.event import FINAL, Outcome, RunPhase
from reflux.core.names import RunId
from reflux.core.run import evolve, put
from reflux.core.walker import decide, next_wake
from reflux.orchestrator import codec, metrics
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.cached_caller import Caller
from reflux.orchestrator.caller import Order
from reflux.orchestrator.children import Children, concerns, tells
from reflux.orchestrator.dispatch import given_up, prepare
from reflux.orchestrator.fairness import Shares
from reflux.orchestrator.faulting import under_faults
from reflux.orchestrator.journaling import binds, is_progress, tied
from reflux.orchestrator.landing import Landings
from reflux.orchestrator.mesh_view import MeshView
from reflux.orchestrator.resolver import Resolver, abilities_after
from reflux.orchestrator.resting import acts, queues, rests, row_of
from reflux.orchestrator.retry_budget import RetryBudgets, repeats, sent_again
from reflux.orchestrator.sending import Sender
from reflux.orchestrator.store.errors import CommitUnknown, RowRefused, ShardLost, Stopped
from reflux.orchestrator.store.journal import Recorded, RunUpdate, ShardLease, Submission, Tell, Writer
from reflux.orchestrator.store.portions import portions
from reflux.orchestrator.tracing import Tracer
from reflux.orchestrator.turns import Turns
from reflux.orchestrator.words.waits import WaitRow, keyed
from reflux.orchestrator.words.waits import changed as changed_waits
from reflux.runtime import logs
from reflux.runtime.clock import Clock

DRAIN_SECONDS: Final = 5.0

MAX_RUNS: Final = 10_000
"""Runs in memory at once; what is due waits."""

MAX_NEW_RUNS: Final = 8_000
"""Above so many no run is started here: the rest of the room is for runs that have been accepted."""

MAX_BYTES: Final = 512 << 20
"""Of inputs and outputs in memory; above it nothing more is taken on."""

MAX_TURN: Final = timedelta(milliseconds=20)
"""Of one walk: who has more to do than that goes on when others, and the heartbeat, have had their turn."""

log = logs.get_logger("worker")


class Host(Protocol):
    """Who must know what happens to runs. Nothing here may wait."""

    def changed(self, run_id: RunId, last_seq: int) -> None:
        """The journal of a run has grown to this event."""

    def unknown(self) -> None:
        """What is written is not known: every run was dropped, and the lease must begin anew."""

    def waits(self) -> None:
        """A run durably waits for a signal under a key."""

    def broken(self, run_id: RunId, lease: ShardLease, problem: str, seq: int) -> None:
        """A run could not record the event `seq`, and was dropped: it must be read again, or parked."""


class Worker:
    """Advances the runs that were given to it by `add` until they settle, wait for long, or are lost.

    `run` must be running; the `host` is told what happens.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        caller: Caller,
        mesh: MeshView,
        clock: Clock,
        host: Host,
        tracer: Tracer | None = None,
        children: Children | None = None,
    ) -> None:
        self.runs: dict[RunId, ActiveRun] = {}
        self.launching: set[RunId] = set()
        """Runs that are being started here, and will be added by whoever starts them."""
        self._writer = writer
        self._caller = caller
        self._mesh = mesh
        self._clock = clock
        self._host = host
        self._tracer = tracer
        self._sender: Sender | None = None
        self._resolver: Resolver | None = None
        self._landings: Landings[ActiveRun] = Landings(self.walk)
        self._turns: Turns[ActiveRun] = Turns(self._go_on, clock)
        self._children = children
        self._bytes = 0
        self._shares = Shares()
        self.draining = False
        """Nothing new is begun: no run, no step."""

    def full(self, *, runs: int = MAX_RUNS) -> bool:
        """Whether no more runs should be taken on."""
        return len(self.runs) >= runs or self._bytes >= MAX_BYTES

    def full_for(self, flow_id: str) -> bool:
        """Whether no run of this flow should be started here."""
        return self.full(runs=MAX_NEW_RUNS) or self._shares.used_up(flow_id, MAX_NEW_RUNS - len(self.runs))

    async def run(self) -> None:
        """Owns the calls in flight until it is cancelled; then they are cancelled with it."""
        async with asyncio.TaskGroup() as group:
            self._sender = Sender(
                tasks=group,
                caller=self._caller,
                clock=self._clock,
                room=self._writer.room,
                budgets=RetryBudgets(self._mesh),
                traced=self._tracer.wants if self._tracer is not None else lambda _: False,
            )
            self._resolver = Resolver(
                tasks=group,
                channel=self._caller.channel,
                mesh=self._mesh,
                clock=self._clock,
                tracer=self._tracer,
            )
            with (
                metrics.RUNS_LOADED.watched(lambda: {(): len(self.runs)}),
                metrics.RUNS_BYTES.watched(lambda: {(): self._bytes}),
                metrics.ATTEMPTS_IN_FLIGHT.watched(
                    lambda: {(): sum(len(run.calls) for run in self.runs.values())}
                ),
            ):
                await asyncio.get_running_loop().create_future()

    def add(self, run: ActiveRun, events: Sequence[ev.Event] = (), words: Sequence[int] = ()) -> None:
        """Takes a run on and advances it."""
        self.runs[run.id] = run
        self._shares.add(run.turn.flow)
        if self._children is not None:
            self._children.begin(run, tuple(run.state.unstarted))
        self.walk(run, events, words)

    def walk(
        self, run: ActiveRun, events: Iterable[ev.Event] = (), words: Sequence[int] = ()
    ) -> asyncio.Future[Recorded] | None:
        """Folds `events`, does everything that follows, and writes it with the `words` it answers.

        Returns:
            The commit of all of it; None when there was nothing to write, or the run had to be dropped.
        """
        if self.runs.get(run.id) is not run:
            return None
        try:
            recorded, held, asks = self._advance(run, events)
            run.held += len(held)
            if len(run.calls) + run.held > run.state.flights:
                for path in [path for path in run.calls if run.state.steps[path].lands]:
                    run.calls.pop(path).cancel()
            future = self._submit(run, recorded, words, held)
            if asks and future is not None and self._resolver is not None:
                future.add_done_callback(partial(self._resolver.ask, run, asks, self.walk))
            self._weigh(run)
            self._arm(run)
        except (Exhausted, Stopped):
            # What was not written has not happened: the run is read again when there is room.
            log.warning("run_deferred", run_id=run.id)
            self.drop(run)
            return None
        except Exception as error:  # noqa: BLE001 - one run must not stop the others
            self._break(run, error)
            return None
        return future

    def _break(self, run: ActiveRun, error: Exception) -> None:
        """Gives a run up that cannot be advanced, and says so."""
        log.error("run_broken", run_id=run.id, error="".join(format_exception(error)))
        self.drop(run)
        self._host.broken(run.id, run.lease, f"{type(error).__name__}: {error}", run.next_seq)

    def drop(self, run: ActiveRun) -> None:
        """Forgets a run; what it has in flight is abandoned."""
        if self.runs.get(run.id) is run:
            del self.runs[run.id]
            self._bytes -= run.weight
            self._shares.drop(run.turn.flow)
        if run.timer is not None:
            run.timer.cancel()
        for call in run.calls.values():
            call.cancel()
        run.calls.clear()
        run.left.set()

    def drop_shards(self, shards: Iterable[int]) -> None:
        """Forgets every run of these shards."""
        lost = set(shards)
        for run in [run for run in self.runs.values() if run.lease.shard in lost]:
            self.drop(run)

    def drop_all(self) -> None:
        """Forgets everything."""
        for run in list(self.runs.values()):
            self.drop(run)

    async def drain(self) -> None:
        """Begins nothing more, and waits for effects in flight and for commits, at most `DRAIN_SECONDS`.

        Pure attempts are given up at once: whoever takes the run over repeats them.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        while loop.time() < deadline:
            if not any(run.commits or acts(run.state) for run in self.runs.values()):
                return
            await asyncio.sleep(0.02)

    def busy_shards(self) -> set[int]:
        """Shards not to be given away now: an effect may be under way in them, or a commit."""
        return {run.lease.shard for run in self.runs.values() if run.commits or acts(run.state)}

    # The walk, in order.

    def _advance(
        self, run: ActiveRun, events: Iterable[ev.Event]
    ) -> tuple[list[ev.Event], list[tuple[ev.AttemptStarted, Order]], list[AskEffect]]:
        """Everything that follows from `events`: what to write, and what waits for the commit."""
        state = run.state
        recorded: list[ev.Event] = []
        held: list[tuple[ev.AttemptStarted, Order]] = []
        asks: list[AskEffect] = []
        for event in events:  # one that is made while this goes on is made of the state as it is then
            evolve(state, event)
            recorded.append(event)
        run.taken_over = run.taken_over or any(isinstance(event, ev.RunRecovered) for event in recorded)
        if run.goes_on or self._turns.is_over:
            self._turns.later(run)
            return recorded, held, asks
        now = self._clock.now()
        while not self.draining and (command := decide(state, now)) is not None:
            match command:
                case Record(event=event) | StartChild(requested=event) | AskEffect(asked=event):
                    evolve(state, event)
                    recorded.append(event)
                    if isinstance(command, AskEffect):
                        asks.append(command)
                case Piece():
                    put(state, command)
                case StartAttempt():
                    self._begin(run, command, now, recorded, held)
            if self._clock.now() - now > MAX_TURN and not (recorded and binds(recorded[-1])):
                self._turns.later(run)
                break
        else:
            run.taken_over = False
        self._turns.spend(now)
        return recorded, held, asks

    def _begin(
        self,
        run: ActiveRun,
        command: StartAttempt,
        now: datetime,
        recorded: list[ev.Event],
        held: list[tuple[ev.AttemptStarted, Order]],
    ) -> None:
        """Begins an attempt: a pure one is sent, any other one waits for its commit."""
        state = run.state
        started, order, failure = prepare(
            self._mesh,
            run.id,
            run.lease.token,
            command,
            now,
            turn=run.turn,
            repeats=repeats(state, command.step),
            again=sent_again(state, command.step, taken_over=run.taken_over),
        )
        order = under_faults(state, order)
        evolve(state, started)
        if failure is not None:
            result = AttemptResult(Outcome.NOT_SENT, started.assignment, now, now, failure=failure)
            finished = settle(state, command.step, result, jitter=0.0)
            evolve(state, finished)
            recorded.append(finished)
        elif started.assignment.effect is EffectClass.PURE:
            self._send(run, started, order)
        else:
            recorded.append(started)
            held.append((started, order))

    def _submit(
        self,
        run: ActiveRun,
        recorded: Sequence[ev.Event],
        words: Sequence[int],
        held: Sequence[tuple[ev.AttemptStarted, Order]],
    ) -> asyncio.Future[Recorded] | None:
        """Writes `recorded` in order; the last portion carries what the row says, and the words."""
        row = self._row(run)
        progressed = run.unproven and any(is_progress(event) for event in recorded)
        changed = row != run.shown or progressed
        waits = changed_waits(run.indexed, run.state)
        if not (recorded or words or changed or waits):
            return None
        update = replace(row, progressed=progressed) if changed else None
        *first, last = portions([codec.encode(event) for event in recorded], tied(recorded))
        done = 0
        for portion in first:
            events = recorded[done : (done := done + len(portion))]
            self._write(run, portion, None, (), (), tells=tells(run.state, events))
        said = tells(run.state, recorded[done:])
        future = self._write(run, last, update, words, held, waits=waits, tells=said)
        if waits:
            run.indexed = keyed(run.state)
            future.add_done_callback(lambda _: self._host.waits())
        if self._children is not None and concerns(recorded):
            future.add_done_callback(partial(self._children.committed, run, recorded))
        future.add_done_callback(partial(metrics.committed, run.state, recorded))
        if row.state is RunPhase.PARKED and run.shown.state is not RunPhase.PARKED:
            future.add_done_callback(partial(metrics.settled, RunPhase.PARKED))
        if self._tracer is not None and recorded and self._tracer.wants(run.id):
            future.add_done_callback(partial(self._tracer.committed, run.state, recorded))
        run.shown = row
        run.unproven = run.unproven and not progressed
        return future

    def _write(
        self,
        run: ActiveRun,
        payloads: Sequence[bytes],
        update: RunUpdate | None,
        words: Sequence[int],
        held: Sequence[tuple[ev.AttemptStarted, Order]],
        *,
        waits: Sequence[WaitRow] = (),
        tells: Sequence[Tell],
    ) -> asyncio.Future[Recorded]:
        first_seq = run.next_seq
        submission = Submission(run.lease, run.id, first_seq, payloads, update, words, tells, waits)
        future = self._writer.submit(submission)
        run.next_seq += len(payloads)
        run.commits += 1
        run.newest = future
        future.add_done_callback(partial(self._committed, run, held, first_seq, run.next_seq - 1))
        return future

    def _weigh(self, run: ActiveRun) -> None:
        if self.runs.get(run.id) is run:
            self._bytes += run.state.stored - run.weight
            run.weight = run.state.stored

    def _row(self, run: ActiveRun) -> RunUpdate:
        row = row_of(run.state, run.shown, self._clock.now(), begins_at=run.begins_at)
        # Who drains hands over, and who stops in the middle may die there: it must be found at once.
        due = (self.draining or run.goes_on) and row.wake_at is not None and not run.state.queued
        return replace(row, wake_at=run.state.created.time) if due else row

    def _waits(self, run: ActiveRun) -> bool:
        stays = self.draining or run.goes_on
        return not stays and rests(run.state, self._clock.now(), begins_at=run.begins_at)

    def _committed(
        self,
        run: ActiveRun,
        held: Sequence[tuple[ev.AttemptStarted, Order]],
        first_seq: int,
        last_seq: int,
        future: asyncio.Future[Recorded],
    ) -> None:
        run.commits -= 1
        run.held -= len(held)
        error = None if future.cancelled() else future.exception()
        if error is not None or future.cancelled():
            self._not_committed(run, first_seq, error)
            return
        for started, order in held:
            step = run.state.steps[order.step]
            if self.draining or self.runs.get(run.id) is not run:
                continue
            if step.flight is None or step.flight.started is not started:
                continue
            if step.ending:  # nobody was told that it starts, and its claim would be refused
                result = given_up(order, self._clock.now())
                self.walk(run, [settle(run.state, order.step, result, jitter=0.0)])
            else:
                self._send(run, started, order)
        self._host.changed(run.id, last_seq)
        if run.commits:
            return
        run.settled = run.state.phase in FINAL or run.state.phase is RunPhase.PARKED
        if run.settled or self._waits(run):
            self.drop(run)

    def _not_committed(self, run: ActiveRun, first_seq: int, error: BaseException | None) -> None:
        if self.runs.get(run.id) is not run:
            return  # news of a former life: whoever has the run now read it after that
        match error:
            case ShardLost():
                for one in [one for one in self.runs.values() if one.lease == run.lease]:
                    self.drop(one)
            case CommitUnknown():
                self.drop_all()
                self._host.unknown()
            case RowRefused():
                self.drop(run)
                self._host.broken(run.id, run.lease, str(error), first_seq)
            case _:
                self.drop(run)

    def _arm(self, run: ActiveRun) -> None:
        """Walks the run again when its next timer is due, if it is still here then."""
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        wake = run.begins_at if queues(run.state) else next_wake(run.state)
        if wake is None or self.draining or run.goes_on:
            return
        seconds = max(0.0, (wake - self._clock.now()).total_seconds())
        run.timer = asyncio.get_running_loop().call_later(seconds + 0.001, self._on_timer, run)

    def _on_timer(self, run: ActiveRun) -> None:
        if self.runs.get(run.id) is run:
            now = self._clock.now()
            metrics.walked_again(next_wake(run.state), now)
            admitted = queues(run.state) and run.begins_at is not None and run.begins_at <= now
            self.walk(run, [ev.RunAdmitted(now)] if admitted else ())

    def _go_on(self, run: ActiveRun) -> None:
        self.walk(run)

    # Calls in flight.

    def _send(self, run: ActiveRun, started: ev.AttemptStarted, order: Order) -> None:
        assert self._sender is not None, "the worker is not running"
        pure = started.assignment.effect is EffectClass.PURE
        slow = partial(self._journal, run, started) if pure else None
        run.calls[order.step] = self._sender.send(
            order, partial(self._landed, run, started), slow, partial(self._show, run, started)
        )

    def _landed(self, run: ActiveRun, started: ev.AttemptStarted, result: AttemptResult | Exception) -> None:
        """An attempt has its outcome, unless it is history."""
        flight = run.state.steps[started.step].flight
        if self.runs.get(run.id) is not run or flight is None or flight.started is not started:
            return
        run.calls.pop(started.step, None)
        if isinstance(result, Exception):
            self._break(run, result)
            return
        if result.outcome is not Outcome.DONE:  # then it may matter what else its version can do
            step = run.state.steps[started.step]
            abilities = abilities_after(self._mesh, step, result.assignment, flight.claim)
            result = replace(result, abilities=abilities)
        self._landings.add(run, started, result)

    def _show(self, run: ActiveRun, started: ev.AttemptStarted, why: str, until: datetime | None) -> None:
        """Journals what an attempt waits for, so that everybody sees it."""
        self._journal(run, ev.AttemptHeld(started.step, started.attempt, why, until, self._clock.now()))

    def _journal(self, run: ActiveRun, event: ev.Event) -> None:
        """Journals what memory knows: that a pure attempt takes long, or why an attempt does not leave."""
        if self.runs.get(run.id) is run:
            try:
                self._submit(run, [event], (), ())
            except (Exhausted, Stopped):
                self.drop(run)
