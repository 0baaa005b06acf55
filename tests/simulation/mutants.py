"""Bugs that engines of this kind had, planted one at a time: the simulator must find each.

A mutant changes what production code does, from outside and for as long as its block lasts; nothing of it
is in the product. `FIRST` says which seed finds it, so that the test need not look far; from any other seed
it is found as well, only later (`python -m tests.simulation --mutant zombie`).

What a simulated world cannot show is named in `ELSEWHERE`, with the test that guards it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from reflux.core import attempt, run, walker
from reflux.core import event as ev
from reflux.core.claim import Verdict
from reflux.core.word import Cancel
from reflux.orchestrator import caller, effect_servicer, intake, worker
from reflux.orchestrator.children import Children
from reflux.orchestrator.intake import Intake
from reflux.orchestrator.sending import Sender
from reflux.orchestrator.store import slots
from reflux.orchestrator.store.journal import Writer
from reflux.orchestrator.store.lane import Lane
from reflux.orchestrator.store.members import Membership
from reflux.orchestrator.words import hearing
from reflux.orchestrator.worker import Worker
from tests.simulation import bugs, virtual
from tests.simulation.limit_tables import LimitTables
from tests.simulation.signal_tables import SignalTables
from tests.simulation.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug."""

    about: str
    changes: Callable[[], list[Any]]
    """Patches, made anew each time."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The bug is there within the block."""
        with ExitStack() as stack:
            for change in self.changes():
                stack.enter_context(change)
            yield


def _no_fence() -> list[Any]:
    def held(self: Tables, p: Any) -> Any:
        return {at: (shard, self.shards[shard].token) for at, shard in enumerate(p["shards"], 1)}

    return [patch.object(Tables, "_held", held)]


def _adopts_live_work() -> list[Any]:
    real = Intake._poll

    async def poll(self: Intake) -> None:
        # As if the poll did not know what is in memory: it asks for everything, and believes what it reads.
        runs, self._worker.runs = self._worker.runs, {}
        try:
            await real(self)
        finally:
            self._worker.runs.update(
                {key: value for key, value in runs.items() if key not in self._worker.runs}
            )

    return [patch.object(Intake, "_poll", poll)]


def _strands_work() -> list[Any]:
    row = Worker._row

    def no_wake(self: Worker, active: Any) -> Any:
        made = row(self, active)
        return made if self._waits(active) else replace(made, wake_at=None)

    async def forgets(self: Intake, taken: Any) -> None:
        """As one that fails and is not repeated."""
        self._counted.add(taken.lease)

    return [patch.object(Worker, "_row", no_wake), patch.object(Intake, "_adopt", forgets)]


def _loses_timers() -> list[Any]:
    row = Worker._row
    return [patch.object(Worker, "_row", lambda self, active: replace(row(self, active), wake_at=None))]


def _forgets_words() -> list[Any]:
    real = intake.hear_all

    def deaf(worker: Worker, active: Any, rows: Any, now: Any) -> Any:
        if not active.state.flights:
            return real(worker, active, rows, now)
        worker.walk(active, (), [row.id for row in rows])
        return []

    return [patch.object(intake, "hear_all", deaf)]


def _counts_no_deaths() -> list[Any]:
    adopt = Tables.adopt_runs
    return [patch.object(Tables, "adopt_runs", lambda self, p: adopt(self, {**p, "died": False}))]


def _parks_the_cancelled() -> list[Any]:
    def parks(self: Intake, loaded: Any, lease: Any, failure: Any, *_: Any) -> Any:
        return self._park(loaded, lease, failure)

    return [patch.object(Intake, "_end", parks)]


def _counts_what_is_due() -> list[Any]:
    adopt = Tables.adopt_runs

    def due(self: Tables, p: Any) -> Any:
        inbox, self.inbox = self.inbox, {}
        try:
            return adopt(self, p)
        finally:
            self.inbox = inbox

    return [patch.object(Tables, "adopt_runs", due)]


def _forgets_children() -> list[Any]:
    def over(self: Children, key: Any, *_: Any) -> None:
        del self._tasks[key]

    return [patch.object(Children, "_over", over)]


def _own_clock() -> list[Any]:
    """The end of the lease by the member's own clock, some hours off."""

    def until(self: Membership) -> timedelta:
        hours = 3 * int(self._address[-1]) - 4
        return timedelta(seconds=self.lease_seconds, hours=hours)

    return [patch.object(Membership, "_lease", until)]


def _storms() -> list[Any]:
    return [patch.object(attempt, "NOT_SENT_DELAY", timedelta())]


def _herd() -> list[Any]:
    real = Tables.adopt_runs

    def everything(self: Tables, p: Any) -> Any:
        kept = {run_id: row.wake_at for run_id, row in self.runs.items()}
        for row in self.runs.values():
            row.wake_at = None
        rows = real(self, p)
        for run_id, wake in kept.items():
            self.runs[run_id].wake_at = wake
        return rows

    return [patch.object(Tables, "adopt_runs", everything)]


def _decides_again() -> list[Any]:
    real = run._attempt_finished

    def later(state: Any, event: ev.AttemptFinished) -> None:
        """As if the pause before a retry were computed when an event is folded, by today's rule."""
        real(state, event)
        if event.step in state.due:
            state.due[event.step] += timedelta(milliseconds=len(state.steps) + id(event) % 7)

    return [patch.object(run, "_attempt_finished", later)]


def _joins_twice() -> list[Any]:
    real = Worker._submit

    def twice(self: Worker, active: Any, recorded: Any, words: Any, held: Any) -> Any:
        doubled = [
            event
            for one in recorded
            for event in (
                [one, one]
                if isinstance(one, ev.StepSettled) and active.state.steps[one.step].branches
                else [one]
            )
        ]
        return real(self, active, doubled, words, held)

    return [patch.object(Worker, "_submit", twice)]


def _partial_fan_out() -> list[Any]:
    real = Worker._submit

    def forgets(self: Worker, active: Any, recorded: Any, words: Any, held: Any) -> Any:
        kept = [
            event for event in recorded if not (isinstance(event, ev.StepEntered) and len(event.branches) > 1)
        ]
        return real(self, active, kept, words, held)

    return [patch.object(Worker, "_submit", forgets)]


def _cancels_the_finished() -> list[Any]:
    real = hearing.hear

    def hear(state: Any, word: Any, now: Any) -> Any:
        if isinstance(word, Cancel):
            return (ev.CancelRequested(word.actor, word.reason, now),)
        return real(state, word, now)

    return [patch.object(hearing, "hear", hear)]


def _starts_again() -> list[Any]:
    real = Tables.start_runs

    def begin(self: Tables, p: Any) -> Any:
        self.start_keys.clear()
        return real(self, p)

    return [patch.object(Tables, "start_runs", begin)]


def _holds_a_connection() -> list[Any]:
    real = Sender._alone

    async def alone(self: Sender, order: Any, landed: Any, slow: Any) -> None:
        pool = landed.func.__self__._host.intake._pool
        async with pool.connection():
            await real(self, order, landed, slow)

    return [patch.object(Sender, "_alone", alone)]


def _other_version() -> list[Any]:
    real = caller.assignment_of

    def chosen(order: Any, labels: Any) -> Any:
        made = real(order, labels)
        return replace(made, answered_by=made.chosen)

    return [patch.object(caller, "assignment_of", chosen)]


def _falls_back() -> list[Any]:
    real = effect_servicer.judge

    def anywhere(state: Any, claim: Any) -> Any:
        verdict, why = real(state, claim)
        return (Verdict.RECORD, "") if "bound to" in why else (verdict, why)

    return [
        patch.object(walker, "_claimed_version", lambda _: None),
        patch.object(effect_servicer, "judge", anywhere),
    ]


def _both_act() -> list[Any]:
    real = effect_servicer.judge

    def twice(state: Any, claim: Any) -> Any:
        verdict, why = real(state, claim)
        return (Verdict.GRANTED, "") if "another execution" in why else (verdict, why)

    return [patch.object(effect_servicer, "judge", twice)]


def _refuses_all() -> list[Any]:
    real = Lane._execute

    async def commit(self: Any, connection: Any, batch: Any) -> None:
        try:
            answers = await real(self, connection, [entry.item for entry in batch])
        except Exception as error:
            if type(error).__name__ == "_Broken":
                raise
            for entry in batch:
                self._refuse(entry, error)
            return
        for entry, answer in zip(batch, answers, strict=True):
            entry.settle(answer)

    return [patch.object(Lane, "_commit", commit)]


def _superseded_may_act() -> list[Any]:
    real = effect_servicer.judge

    def late(state: Any, claim: Any) -> Any:
        verdict, why = real(state, claim)
        return (Verdict.GRANTED, "") if "not in flight" in why else (verdict, why)

    return [patch.object(effect_servicer, "judge", late)]


def _ambiguous_is_failed() -> list[Any]:
    real = attempt._certain

    def certain(*arguments: Any) -> Any:
        result = real(*arguments)
        if result.outcome is ev.Outcome.AMBIGUOUS:
            return replace(result, outcome=ev.Outcome.NO_EFFECT)
        return result

    return [patch.object(attempt, "_certain", certain)]


def _sends_before_commit() -> list[Any]:
    real = Worker._submit

    def first(self: Worker, active: Any, recorded: Any, words: Any, held: Any) -> Any:
        for started, order in held:
            self._send(active, started, order)
        return real(self, active, recorded, words, ())

    return [patch.object(Worker, "_submit", first)]


def _unknown_is_lost() -> list[Any]:
    """`CommitUnknown` taken for "not written": the run is read again while the write may still come."""
    return [
        patch.object(worker, "CommitUnknown", type("Nothing", (Exception,), {})),
        patch.object(Writer, "_after_unknown", lambda self, submissions: None),
    ]


FIRST: Final = {
    "zombie": 133,
    "loses_timers": 121,
    "forgets_words": 29,
    "poison": 139,
    "poisonous_words": 964,
    "cancels_itself": 385,
    "forgets_children": 3212,
    "cannot_be_ended": 287,
    "clock_skew": 22,
    "retry_storm": 4,
    "herd": 701,
    "decides_again": 24,
    "joins_twice": 8,
    "partial_fan_out": 19,
    "cancels_the_finished": 29,
    "starts_again": 2,
    "other_version": 25,
    "both_act": 66,
    "one_bad_row": 62,
    "superseded_may_act": 70,
    "ambiguous_is_failed": 4,
    "unknown_is_lost": 28,
    "one_too_many": 128,
    "queues_for_ever": 128,
    "begins_too_soon": 225,
    "forgets_what_is_used_up": 224,
    "last_is_first": 352,
    "admits_the_ended": 385,
    "signal_taken_twice": 88,
    "signal_not_given_back": 88,
    "fires_twice": 27,
    "moves_on": 216,
    "done_again": 24,
    "keeps_nothing": 24,
    "lost_item_is_done": 24,
    "mixes_items_up": 24,
    "forgets_the_input": 409,
    "believes_the_damaged": 409,
    "begins_twice": 104,
}
"""Where each is found soonest; 0 for those not named."""

MUTANTS: Final = {
    "zombie": Mutant("writes under a token that is not the shard's any more", _no_fence),
    "adopts_live_work": Mutant("recovery takes on a run that is in memory", _adopts_live_work),
    "strands_work": Mutant("a run whose adoption failed is due to nobody", _strands_work),
    "stops_in_the_middle": Mutant(
        "a walk that took long does not go on",
        lambda: [patch.object(Worker, "_go_on", lambda self, run: None)],
    ),
    "loses_timers": Mutant("a run leaves memory without saying when it is due", _loses_timers),
    "loses_wakeups": Mutant(
        "nobody looks without being told", lambda: [patch.object(virtual, "POLL_SECONDS", 1e6)]
    ),
    "forgets_words": Mutant("a word that comes beside a step's end is deleted unheard", _forgets_words),
    "poison": Mutant("a run that kills its readers is adopted for ever", _counts_no_deaths),
    "poisonous_words": Mutant("a run that kills who reads it for a word is not counted", _counts_what_is_due),
    "forgets_children": Mutant(
        "a start under way hides that of a run that was read again", _forgets_children
    ),
    "cannot_be_ended": Mutant(
        "a run that cannot be written is parked although it was cancelled", _parks_the_cancelled
    ),
    "clock_skew": Mutant("leases end by the member's own clock", _own_clock),
    "retry_storm": Mutant("what was not sent is sent again at once", _storms),
    "herd": Mutant("a takeover reads every run, also those that only wait", _herd),
    "decides_again": Mutant("folding an old event decides anew", _decides_again),
    "joins_twice": Mutant("a container settles twice", _joins_twice),
    "partial_fan_out": Mutant("a fan-out is not journaled", _partial_fan_out),
    "cancels_the_finished": Mutant("a cancel is folded into a run that has ended", _cancels_the_finished),
    "starts_again": Mutant("the same start begins another run", _starts_again),
    "holds_a_connection": Mutant("a connection is held while a node is called", _holds_a_connection),
    "other_version": Mutant(
        "the journal names the chosen version, not the one that answered", _other_version
    ),
    "falls_back": Mutant("an ambiguous effect is asked for in another scope", _falls_back),
    "both_act": Mutant("two executions of one attempt are granted the claim", _both_act),
    "one_bad_row": Mutant("one bad row fails its whole batch", _refuses_all),
    "superseded_may_act": Mutant("an attempt that was superseded is granted its claim", _superseded_may_act),
    "ambiguous_is_failed": Mutant("no answer is taken for no effect", _ambiguous_is_failed),
    "sends_before_commit": Mutant("a call leaves before its start is journaled", _sends_before_commit),
    "unknown_is_lost": Mutant("a commit whose outcome is unknown is taken for none", _unknown_is_lost),
    "slots_leak": Mutant(
        "a run that ends keeps its slot", lambda: [patch.object(LimitTables, "release", lambda self, _: [])]
    ),
    "one_too_many": Mutant(
        "one run more than the limit gets a slot",
        lambda: [patch.object(LimitTables, "places", lambda self, limit: limit.slots - limit.held + 1)],
    ),
    "refuses_too_soon": Mutant(
        "a run is refused although a slot is free",
        lambda: [
            patch.object(LimitTables, "is_full", lambda self, one: one.held + one.queued + 1 >= one.slots)
        ],
    ),
    "queues_for_ever": Mutant(
        "a queued run hears of its slot, and does not begin",
        lambda: [patch.object(slots, "queued", bugs.never_admitted)],
    ),
    "begins_too_soon": Mutant("a run begins before the time that its rate gave it", bugs.begins_too_soon),
    "forgets_what_is_used_up": Mutant("a rate counts anew with each start", bugs.forgets_what_is_used_up),
    "last_is_first": Mutant("who came last, and is of least priority, gets the slot", bugs.last_is_first),
    "admits_the_ended": Mutant(
        "a queued run begins after its end",
        lambda: [patch.object(worker, "queues", lambda state: state.queued)],
    ),
    "signal_taken_twice": Mutant(
        "a signal that was given to a run is given to the next one too",
        lambda: [patch.object(SignalTables, "given", lambda self, signal, run_id: None)],
    ),
    "signal_not_given_back": Mutant(
        "a signal that a run does not take goes to nobody else",
        lambda: [patch.object(SignalTables, "_back", lambda self, run_id, signal: None)],
    ),
    "fires_twice": Mutant("a firing whose start is not known is started anew", bugs.fires_twice),
    "cancels_itself": Mutant("a firing cancels the run that it has begun", bugs.cancels_itself),
    "moves_on": Mutant("a schedule moves on although its run could not be started", bugs.moves_on),
    "done_again": Mutant(
        "a kept outcome is not used, and the step done again",
        lambda: [patch.object(walker, "kept_outcome", lambda state, now: None)],
    ),
    "keeps_nothing": Mutant("a fork begins before what it keeps is written", bugs.keeps_nothing),
    "lost_item_is_done": Mutant("an item that was not answered is taken for done", bugs.takes_for_done),
    "mixes_items_up": Mutant("a result is taken for that of another item", bugs.mixes_items_up),
    "forgets_the_input": Mutant("an output is used again for another input", bugs.forgets_the_input),
    "believes_the_damaged": Mutant("what the cache lost is used all the same", bugs.believes_the_damaged),
    "begins_twice": Mutant(
        "a run whose start is answered late begins once more",
        lambda: [
            patch.object(Worker, "launching", property(lambda self: set(), lambda self, _: None), create=True)
        ],
    ),
}

ELSEWHERE: Final = {
    "retry storms of the mesh": "mesh/test_the_lane_decides_what_is_tried_again.py",
    "a pool poisoned by a restart of the database": "store/runtime/test_postgres_sessions.py",
    "one dead target ejects a node": "mesh/test_a_target_fault_is_nobodys_illness.py",
    "an upgrade changes what an old journal means": "golden/test_golden_journals.py",
    "a run read again is still refused": "unit/orchestrator/test_a_run_read_again_is_written_again.py",
    "who waits for a run that ends as it stands is not told": "store/runs/test_broken_runs_can_be_ended.py",
    "an output too large to be kept": "store/runs/test_limits_are_told.py",
    "a firing whose run has begun is counted as missed": "store/runs/test_schedules_start_runs.py",
    "one run holds up all others": "store/runs/test_one_run_keeps_no_other_waiting.py",
}
"""Bug classes that are nobody's to see in a simulated world, and the test that sees them."""

__all__ = ["ELSEWHERE", "FIRST", "MUTANTS", "Mutant"]
