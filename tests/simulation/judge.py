"""The judge: compares what the engine recorded with what happened outside and with what clients were told.

It believes the ledger, the log of calls that left, and the clients' notes; of the engine it reads the journal
and asks whether that is the truth. Every rule is a promise of the platform (G1 to G7 and the effect classes);
a broken one is a sentence in `verdict`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from reflux.core import event as ev
from reflux.core.effect import EffectClass
from reflux.core.event import FINAL, SETTLED, Outcome, RunPhase, StepState
from reflux.core.flow.model import ApproveAction, NodeAction, SignalAction
from reflux.core.names import UNDO, FlowId
from reflux.core.reasons import Reason
from reflux.core.run import begin, evolve, fold
from reflux.orchestrator import codec
from tests.simulation.world import EPOCH

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from reflux.core.flow import Flow
    from reflux.core.state import RunState
    from tests.simulation.outside import Effect, Outside, Sent
    from tests.simulation.tables import Fact, Run, Tables

_GRAIN: Final = timedelta(milliseconds=1)
_LATE_CALM: Final = timedelta(seconds=2)
"""How late a timer may fire while nothing goes wrong."""
_UNHEARD: Final = 30.0
"""Seconds after which nothing that goes wrong here keeps a word from its run."""
MANY_CALLS: Final = 60
"""More calls of one step than any policy here allows."""


@dataclass(frozen=True, slots=True)
class Told:
    """What clients know."""

    runs: dict[str, set[str]]
    """Start-once key → ids of runs that were answered."""
    cancels: dict[str, float]
    """Runs whose cancel was accepted, and when that was heard."""
    words: dict[str, set[str]] = field(default_factory=dict)
    """Run → what else was said to it and accepted."""
    signals: dict[str, set[str]] = field(default_factory=dict)
    """Signal under a key that was accepted → runs that are said to have taken it."""


@dataclass(slots=True)
class Case:
    """One run, seen from all sides."""

    run_id: str
    row: Run
    facts: Sequence[Fact]
    events: Sequence[ev.Event]
    state: RunState
    sent: Sequence[Sent]
    effects: Sequence[Effect]
    canceled: float | None
    """When a client was told that its cancel is accepted."""
    words: Collection[str]
    """What else was said to it and accepted."""
    broken: bool
    """The database refused a row of it, so it may be parked for that."""
    calm: bool
    poison: bool
    """It kills whoever reads it."""


def verdict(
    tables: Tables,
    outside: Outside,
    told: Told,
    flows: Mapping[FlowId, Flow],
    *,
    broken: Collection[str],
    calm: bool,
    poison: bool,
    states: dict[str, RunState] | None = None,
) -> list[str]:
    """Every promise that was broken, in words; empty for a good world. `states` gets the folded journals."""
    problems = list(_writers(tables))
    problems += _starts(tables, told)
    problems += _children(tables)
    problems += _leases(tables) if calm else ()
    for run_id, row in tables.runs.items():
        facts = [fact for _, fact in sorted(tables.journal[run_id].items())]
        if [fact.seq for fact in facts] != list(range(1, len(facts) + 1)):
            problems.append(f"{run_id}: the journal has gaps: {[fact.seq for fact in facts]}")
            continue
        events = [codec.decode(fact.payload) for fact in facts]
        try:
            state = fold(run_id, flows[FlowId(row.flow_id)], events)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - whatever it is, the journal is of no use
            problems.append(f"{run_id}: the journal does not fold: {error!r}")
            continue
        if states is not None:
            states[run_id] = state
        case = Case(
            run_id,
            row,
            facts,
            events,
            state,
            [one for one in outside.sent if one.run_id == run_id],
            [one for one in outside.ledger if one.run_id == run_id],
            told.cancels.get(run_id),
            told.words.get(run_id, ()),
            run_id in broken,
            calm,
            poison,
        )
        problems += [f"{run_id[-6:]}: {problem}" for rule in _RULES for problem in rule(case)]
    return problems


def known(state: RunState) -> dict[str, Any]:
    """What a state says to people, to expressions and to the walker.

    Not the number of the newest attempt: a pure one that was given up is in no journal.
    """
    steps = {
        path: (
            run.state, run.output, run.failure, run.skip_reason, run.branches, run.finished, run.claims,
            run.used, run.generation, run.begun, run.answer,
        )
        for path, run in state.steps.items()
    }  # fmt: skip
    return {
        "phase": state.phase,
        "finished": state.finished,
        "values": state.values,
        "steps": steps,
        "waits": (state.ready, state.due, state.timers, state.deadlines, state.parked, state.closable),
        "words": (state.awaited, state.signals, state.heard, state.paused, state.cancel),
        "children": (state.unstarted, state.child_runs, state.recall, state.to_undo, state.undone),
        "stored": state.stored,
    }


def _writers(tables: Tables) -> Iterator[str]:
    """G3: under one token of a shard one process writes, and nobody goes back to an older token."""
    writers: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for run_id, row in tables.runs.items():
        last = 0
        for _, fact in sorted(tables.journal[run_id].items()):
            if not fact.writer:
                continue  # it was written before the run was there
            writers[row.shard, fact.token].add(fact.writer)
            if fact.token < last:
                yield f"{run_id}: event {fact.seq} was written under an older token than the one before"
            last = fact.token
    for lease, names in writers.items():
        if len(names) > 1:
            yield f"shard and token {lease} have several writers: {sorted(names)}"


def _starts(tables: Tables, told: Told) -> Iterator[str]:
    """G1, G6: a handle has one run, and it is there."""
    for key, answered in told.runs.items():
        if len(answered) > 1:
            yield f"start {key} was answered with several runs"
        for run_id in answered - set(tables.runs):
            yield f"run {run_id} was accepted and is lost"
    begun = [created_of(tables, run_id) for run_id in tables.runs]
    made = sum(not created.parent_run and not created.trigger for created in begun)
    if made > len(told.runs):
        yield f"{len(told.runs)} starts made {made} runs"


def _children(tables: Tables) -> Iterator[str]:
    """A run that was asked for by another one begins after that was durable, and once; none is lost."""
    asked: dict[str, datetime] = {}
    for run_id, facts in tables.journal.items():
        for _, fact in sorted(facts.items()):
            event = codec.decode(fact.payload)
            if isinstance(event, ev.ChildRequested):
                asked.setdefault(event.run_id, fact.recorded_at)
            elif isinstance(event, ev.ChildStarted) and event.run_id not in tables.runs:
                yield f"{run_id}: {event.step} has started a run that is not there"
    for run_id in tables.runs:
        parent = created_of(tables, run_id).parent_run
        if parent and asked.get(run_id, EPOCH + timedelta(days=1)) > tables.journal[run_id][1].recorded_at:
            yield f"{run_id} began before {parent} had asked for it"


def created_of(tables: Tables, run_id: str) -> ev.RunCreated:
    """How a run began."""
    event = codec.decode(tables.journal[run_id][1].payload)
    assert isinstance(event, ev.RunCreated)
    return event


def _leases(tables: Tables) -> Iterator[str]:
    """While nothing goes wrong nobody is declared dead, whatever the clocks of the machines show."""
    for member in tables.members.values():
        if member.state != "alive":
            yield f"{member.address} was declared dead although nothing went wrong"


def _ends(case: Case) -> Iterator[str]:
    """G1: every run reaches an end, or waits for a person with a reason, and its row says the same."""
    phase = case.state.phase
    waits = (case.state.child_runs or phase is RunPhase.QUEUED) and not case.state.cancel
    if phase not in FINAL and phase is not RunPhase.PARKED and not waits:
        yield f"it is stuck in {phase}, row {case.row.state}, wake {case.row.wake_at}"
    if case.row.state != phase:
        yield f"its row says {case.row.state}, its journal {phase}"
    if phase is RunPhase.PARKED and case.row.error[0] is None:
        yield "it is PARKED without a reason"
    if (
        case.state.quarantine is not None
        and case.state.quarantine.reason == Reason.RUN_BROKEN
        and not case.broken
    ):
        yield f"it was given up as broken: {case.state.quarantine.message}"
    if case.canceled is not None and phase not in FINAL:
        yield f"its cancel was accepted, and it is {phase}"
    for event in case.events[:-1]:
        if isinstance(event, ev.RunFinished):
            yield f"something came after its end: {type(case.events[-1]).__name__}"


def _outcomes(case: Case) -> Iterator[str]:
    """G2: a step has one outcome, and is not executed again once that is recorded."""
    settled: dict[str, tuple[int, Fact]] = {}
    for event, fact in zip(case.events, case.facts, strict=True):
        if isinstance(event, ev.AttemptStarted) and event.step in settled:
            yield f"attempt {event.attempt} of {event.step} starts after its outcome"
        if not isinstance(event, ev.AttemptFinished | ev.StepSettled) or event.state not in SETTLED:
            continue
        attempt = event.attempt if isinstance(event, ev.AttemptFinished) else 0
        if event.step in settled:
            yield f"{event.step} has two outcomes"
        settled[event.step] = (attempt, fact)
    calls: defaultdict[str, int] = defaultdict(int)
    for sent in case.sent:
        calls[sent.step] += 1
        if sent.step in settled:
            _, fact = settled[sent.step]
            # The journal's time is cut to whole microseconds.
            if sent.at > _seconds(fact.recorded_at) + 1e-6 and sent.token >= fact.token:
                yield f"{sent.step} was called by {sent.sender} after its outcome was recorded"
    for step, number in calls.items():
        if number > MANY_CALLS:
            yield f"{step} was called {number} times"


def _effects(case: Case) -> Iterator[str]:
    """G4: at most one effect of each step, in one scope, and the journal does not say otherwise."""
    done: defaultdict[str, list[Effect]] = defaultdict(list)
    for effect in case.effects:
        done[effect.step].append(effect)
    for path, run in case.state.steps.items():
        action, effects = run.step.action, done.get(path, [])
        if not isinstance(action, NodeAction) or action.node == "pure":
            continue
        if len(effects) > 1:
            what = [(effect.scope, effect.key[:6], effect.attempt) for effect in effects]
            yield f"{path} ({action.node}) acted {len(effects)} times: {what}"
        outcomes = {finished.outcome for finished in run.finished}
        if run.flight is not None and run.flight.claim is not None and case.state.quarantine:
            continue  # a quarantined run shows it as in flight
        if case.state.finished and path in case.state.finished.unresolved_effects:
            continue
        if case.poison and case.state.finished and case.state.finished.failure is not None:
            continue  # it ended without anybody's look at it, and says so
        if Outcome.DONE in outcomes and not effects:
            yield f"{path} is DONE and nothing happened"
        if not outcomes & {Outcome.DONE, Outcome.AMBIGUOUS} and effects:
            yield f"{path} acted, and its journal says that nothing happened"
        if (
            run.unresolved is not None
            and case.state.finished
            and path not in case.state.finished.unresolved_effects
        ):
            yield f"nobody is told that the effect of {path} is not known"


def _order(case: Case) -> Iterator[str]:
    """Nothing that may act is sent before its start, and everything before it, is durable."""
    started = {
        (event.step, event.attempt, fact.token): _seconds(fact.recorded_at)
        for event, fact in zip(case.events, case.facts, strict=True)
        if isinstance(event, ev.AttemptStarted)
    }
    for sent in case.sent:
        at = started.get((sent.step, sent.attempt, sent.token))
        if sent.node != "pure" and (at is None or sent.at < at - 1e-6):
            yield f"attempt {sent.attempt} of {sent.step} was sent before its start was recorded"


def _answers(case: Case) -> Iterator[str]:
    """G8: the version in the journal is the one that answered."""
    for event in case.events:
        if isinstance(event, ev.AttemptFinished) and event.output is not None:
            answered = event.output.value
            assert isinstance(answered, dict)
            if answered["by"] != event.assignment.answered_by:
                yield f"{event.step} was answered by {answered['by']}, not {event.assignment.answered_by}"


def _scopes(case: Case) -> Iterator[str]:
    """G4: an ambiguous effect never leaves its scope nor its key, and its failure is nobody's to catch."""
    claims: dict[str, str] = {}
    bound: dict[str, tuple[str, int]] = {}
    for event in case.events:
        if isinstance(event, ev.EffectClaimed):
            if event.step in bound and bound[event.step][0] != event.scope:
                yield f"{event.step} is ambiguous in {bound[event.step][0]} and was claimed for {event.scope}"
            claims[event.step] = event.scope
        elif isinstance(event, ev.AttemptFinished):
            if event.step in bound and event.generation != bound[event.step][1]:
                yield f"{event.step} is ambiguous and was asked for with another key"
            if event.outcome is Outcome.AMBIGUOUS:
                if event.assignment.effect is EffectClass.PURE:
                    yield f"{event.step} is pure and ambiguous"
                elif event.step in claims:
                    bound[event.step] = (claims[event.step], event.generation)
                if event.state not in (StepState.RETRYING, StepState.PARKED):
                    yield f"{event.step} is ambiguous and {event.state}"


def _times(case: Case) -> Iterator[str]:
    """G5: nothing fires before its time; without faults, at most 2 s after it."""
    until: dict[str, datetime] = {}
    retry: dict[tuple[str, int], tuple[float, float]] = {}
    for event, fact in zip(case.events, case.facts, strict=True):
        waits = isinstance(event, ev.StepEntered) and event.until is not None
        if waits and not isinstance(case.state.steps[event.step].step.action, SignalAction | ApproveAction):
            until[event.step] = event.until
        elif isinstance(event, ev.StepSettled) and event.state is StepState.SUCCEEDED and event.step in until:
            if fact.recorded_at < until[event.step] - _GRAIN:
                yield f"{event.step} waited until {fact.recorded_at}, not {until[event.step]}"
            if case.calm and fact.recorded_at > until[event.step] + _LATE_CALM:
                yield f"{event.step} waited until {fact.recorded_at}, long after {until[event.step]}"
        elif isinstance(event, ev.AttemptFinished) and event.retry_at is not None:
            times = _seconds(event.finish_time), _seconds(event.retry_at)
            retry[event.step, event.attempt + 1] = times
            # What a takeover supersedes was never asked, and is sent again at once, by one heir.
            superseded = event.failure is not None and event.failure.code == "ABORTED"
            alone = bool(event.assignment.batch_id)  # what failed in company goes alone, at once
            if not superseded and not alone and event.retry_at - event.finish_time < timedelta(seconds=0.099):
                if event.counted and case.state.steps[event.step].step.retry.attempts > 1:
                    continue  # the step's own jitter may be nothing
                if event.next_version:
                    continue  # the next version, which nobody has asked yet, has no reason to wait
                yield f"{event.step} is tried again without a pause"
        elif isinstance(event, ev.TimedOut) and not event.step:
            created = case.state.created.time
            assert case.state.flow.timeout is not None
            if fact.recorded_at < created + case.state.flow.timeout - _GRAIN:
                yield "the run timed out too early"
    for sent in case.sent:
        # What was sent before that was decided belongs to a memory whose facts the journal did not take.
        decided, at = retry.get((sent.step, sent.attempt), (0.0, 0.0))
        if decided - 0.001 <= sent.at < at - 0.001 and sent.token >= case.facts[-1].token:
            yield f"attempt {sent.attempt} of {sent.step} was sent {at - sent.at:.3f} s too early"


def _cancels(case: Case) -> Iterator[str]:
    """G7: after the journal shows a cancel nothing new begins, but what undoes what was done."""
    cancel: Fact | None = None
    recalled = False
    for event, fact in zip(case.events, case.facts, strict=True):
        if isinstance(event, ev.CancelRequested):
            if cancel is not None and not recalled:
                yield "it was cancelled twice"
            cancel, recalled = cancel or fact, event.recalled
        elif isinstance(event, ev.EffectClaimed | ev.AttemptStarted) and event.step.endswith(UNDO):
            continue
        elif cancel is not None and isinstance(event, ev.EffectClaimed):
            yield f"{event.step} was granted its claim after the cancel"
        elif cancel is not None and isinstance(event, ev.AttemptStarted):
            # A slow pure attempt is journaled late: only what starts later counts.
            late = event.time > cancel.recorded_at
            yield from [f"attempt {event.attempt} of {event.step} starts after the cancel"] if late else ()
    if cancel is None:
        yield from _unheard_cancel(case)
        return
    for sent in case.sent:
        late = sent.at > _seconds(cancel.recorded_at) and sent.token >= cancel.token
        if late and not sent.step.endswith(UNDO):
            yield f"{sent.step} was called after the cancel was recorded"


def _unheard_cancel(case: Case) -> Iterator[str]:
    """Before the journal shows it a cancel is only asked for: its run may end before it is heard."""
    ended = case.facts[-1].recorded_at
    if any(kind == "cancel" and at < ended for kind, at in case.row.folded):
        yield "its cancel was heard, and forgotten"
    if case.canceled is not None and _seconds(ended) > case.canceled + _UNHEARD and not case.poison:
        yield "its cancel was accepted, and nobody heard it"


def _words(case: Case) -> Iterator[str]:
    """What was accepted is in the journal, once; and while a run is paused nothing begins."""
    heard: set[str] = set()
    paused: Fact | None = None
    for event, fact in zip(case.events, case.facts, strict=True):
        if (word := getattr(event, "word", "")) in heard:
            yield f"{word} was heard twice"
        heard.add(word) if word else None
        if isinstance(event, ev.RunPaused):
            paused = fact
        elif paused is not None and isinstance(event, ev.RunResumed | ev.CancelRequested | ev.RunFinished):
            paused = None
        elif paused is not None and isinstance(event, ev.AttemptStarted) and event.time > paused.recorded_at:
            yield f"attempt {event.attempt} of {event.step} starts while the run is paused"
    for word in set(case.words) - heard:
        yield f"{word} was accepted, and forgotten"


def _recoveries(case: Case) -> Iterator[str]:
    """A takeover wakes nobody who only waits, and what waits is not counted as recovered."""
    if not any(isinstance(event, ev.RunRecovered) for event in case.events):
        return
    created = case.events[0]
    assert isinstance(created, ev.RunCreated)
    state = begin(case.state.id, case.state.flow, created)
    for event in case.events[1:]:
        waits = state.due or state.timers or state.awaited or state.child_runs
        if isinstance(event, ev.RunRecovered) and waits and not (state.flights or state.unstarted):
            yield "it was recovered although it only waited"
        evolve(state, event)


_RULES: Final = (_ends, _order, _outcomes, _effects, _answers, _scopes, _times, _cancels, _words, _recoveries)


def _seconds(time: datetime) -> float:
    return (time - EPOCH).total_seconds()
