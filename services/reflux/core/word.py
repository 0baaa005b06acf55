"""What somebody says to a run in progress, and what follows from it.

A **word** is a value with an id that its sender knows. `hear` judges it by the run's state alone and answers
with the events that follow, or refuses it with a typed error. Whoever owns the run records those events;
whoever has sent the word asks the same function and learns the same answer:

- The same id again gives no events and no refusal, whatever has happened since (`RunState.heard`); but a word
  with the id of another one is refused, because its sender would believe that it has arrived.
- What a run is told again and means the same changes nothing: a cancel of a cancelled run.
- A run that has finished refuses everything but that; of an answer it says, then too, who was first.

Rules by word:

    Cancel      ends the run once what is in flight is known
    Terminate   ends it now: what is in flight and may have acted is listed as unresolved
    Signal      is kept until a wait takes it; refused when none can any more, or `MAX_SIGNALS` are kept
    Answer      the first one counts; a form must fit
    Pause       nothing begins until `Resume`; no clock stops, so what comes due meanwhile is done after it.
                Refused in quarantine, where nothing begins anyway
    Resume      also gives a run in quarantine another chance
    Overrule    a person decides about a step that waits, or is PARKED
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType, TypeAlias, assert_never

from reflux.core import event as ev
from reflux.core.compensation import uncompensated
from reflux.core.containers import gave
from reflux.core.document import NULL, Json
from reflux.core.errors import AlreadyExists, Exhausted, InvalidArgument, Refused
from reflux.core.event import SETTLED, Choice, RunPhase, SkipReason, StepState
from reflux.core.flow.model import ApproveAction, ForeachAction, NodeAction, SignalAction, WhileAction
from reflux.core.names import StepPath
from reflux.core.place import step_not_found
from reflux.core.reasons import Reason
from reflux.core.state import MAX_RUN_BYTES, ROOT, RunState, Spoken, StepRun, said_digest
from reflux.core.waits import answered, fits

WordId = NewType("WordId", str)

MAX_SIGNALS: Final = 100
"""Signals that one run keeps for waits to come."""
MAX_PAYLOAD_BYTES: Final = 64 << 10
"""Of a signal, and of what is filled into a form."""
MAX_ID: Final = 100
"""Characters of a word's id."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End, and see to what is in flight."""

    id: WordId
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recall:
    """End, but for what waits for a person: the parent goes on without this run."""

    id: WordId
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """End at once."""

    id: WordId
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Begin nothing more for now."""

    id: WordId
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on."""

    id: WordId
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Something has happened outside."""

    id: WordId
    actor: str
    name: str
    key: str
    """Empty when it is sent to the run itself."""
    payload: Json


@dataclass(frozen=True, slots=True)
class Answer:
    """Yes or no to what a step asks."""

    id: WordId
    actor: str
    step: StepPath
    approved: bool
    form: Json | None
    comment: str


@dataclass(frozen=True, slots=True)
class Overrule:
    """A person decides what becomes of a step."""

    id: WordId
    actor: str
    step: StepPath
    choice: Choice
    reason: str
    output: Json | None = None
    """Of CONFIRM; None: null."""
    version: str = ""
    """Of FALL_BACK."""


Told: TypeAlias = Terminate | Pause | Resume | Signal | Answer | Overrule
"""What a run hears once under its id."""
Word: TypeAlias = Cancel | Recall | Told


def hear(state: RunState, word: Word, now: datetime) -> tuple[ev.Event, ...]:
    """What follows from a word; nothing when it was heard before.

    Raises:
        Refused, NotFound, InvalidArgument, Exhausted, AlreadyExists: it changes nothing, and why.
    """
    if isinstance(word, Cancel | Recall):
        recalled = isinstance(word, Recall)
        if state.finished or state.canceled or (state.cancel and recalled):
            return ()
        return (ev.CancelRequested(word.actor, word.reason, now, recalled=recalled),)
    if word.id in state.heard:
        _check_same(state, word, now)
        return ()
    if isinstance(word, Answer):
        _check_first(state, word.step)
    if state.finished is not None:
        how = state.finished.state.value
        raise Refused(Reason.RUN_FINISHED, f"the run has finished: it is {how}", metadata={"run_state": how})
    match word:
        case Terminate():
            unknown = tuple(unresolved(state))
            left = uncompensated(state)
            ended = ev.RunFinished(RunPhase.CANCELED, now, unresolved_effects=unknown, uncompensated=left)
            return _spoken(word, now), ended
        case Pause():
            return _pause(state, word, now)
        case Resume():
            if not (state.paused or state.quarantine):
                raise Refused(Reason.RUN_NOT_PAUSED, f"the run is not paused: it is {state.phase.value}")
            return (_spoken(word, now),)
        case Signal():
            return _signal(state, word, now)
        case Answer():
            return _answer(state, word, now)
        case Overrule():
            return _overrule(state, word, now)
        case _:
            assert_never(word)


def waits_for_signals(state: RunState) -> list[str]:
    """The names of the signals that steps of the flow wait for, at any time."""
    actions = (step.action for step in state.flow.steps.values())
    return sorted({action.name for action in actions if isinstance(action, SignalAction)})


def unresolved(state: RunState) -> Iterable[StepPath]:
    """Steps of whose effect nobody will hear: parked, claimed and in flight, about to be asked again, or
    waiting for a run that they have begun. With what those have left that have ended.
    """
    yield from state.below.unresolved
    for path, run in state.steps.items():
        claimed = run.flight is not None and run.flight.claim is not None
        asked_again = run.state not in SETTLED and run.unresolved is not None
        asked = state.unstarted.get(path)
        waits = path in state.child_runs and not (asked is not None and asked.detached)
        if path in state.parked or claimed or asked_again or waits:
            yield path


def _pause(state: RunState, word: Pause, now: datetime) -> tuple[ev.Event, ...]:
    if _in_quarantine(state):  # it would be kept, and stop the run after somebody has resumed it
        message = "the run is in quarantine: nothing of it begins until somebody resumes it"
        raise Refused(Reason.QUARANTINED, message)
    if state.paused is not None:
        by = state.paused.actor
        raise Refused(Reason.RUN_PAUSED, f"{by} has paused the run already", metadata={"actor": by})
    if state.cancel is not None:
        how = state.phase.value
        message = f"the run begins nothing more: it is {how}"
        raise Refused(Reason.RUN_FINISHED, message, metadata={"run_state": how})
    return (_spoken(word, now),)


def check_ears(state: RunState, word: Word) -> None:
    """Whether the run can take a signal at all; asked by its sender, before the word is anywhere.

    Nothing reads a run in quarantine but what ends it or lets it go on. Other words are kept for that moment
    (but for a pause, see `_pause`): a step may be skipped first. A sender of signals would ask again and
    again, and each would be kept.

    Raises:
        Refused: QUARANTINED, the run must be resumed first.
    """
    if not isinstance(word, Signal) or word.id in state.heard or state.finished is not None:
        return
    if _in_quarantine(state):
        message = (
            "the run is in quarantine and takes no signals; send it again once somebody has resumed the run"
        )
        raise Refused(Reason.QUARANTINED, message)


def _in_quarantine(state: RunState) -> bool:
    return state.quarantine is not None and state.quarantine.reason == Reason.QUARANTINED


def _spoken(word: Told, now: datetime) -> Spoken:
    """The event that says what was said; what follows from it stands in others."""
    match word:
        case Signal():
            return _received(word, now)
        case Answer():
            return _given(word, now)
        case Pause():
            return ev.RunPaused(word.id, word.actor, word.reason, now)
        case Resume():
            return ev.RunResumed(word.id, word.actor, word.reason, now)
        case Terminate():
            return ev.RunTerminated(word.id, word.actor, word.reason, now)
        case Overrule():
            return ev.StepOverruled(
                word.id, word.step, word.choice, word.actor, word.reason, now, version=word.version
            )
        case _:
            assert_never(word)


def _received(word: Signal, now: datetime) -> ev.SignalReceived:
    return ev.SignalReceived(word.id, word.name, word.key, word.payload, word.actor, now)


def _given(word: Answer, now: datetime) -> ev.StepAnswered:
    return ev.StepAnswered(word.id, word.step, word.approved, word.form, word.actor, word.comment, now)


def _check_same(state: RunState, word: Told, now: datetime) -> None:
    """Whether a word whose id was heard is that one again; of signals under a key `signals` has judged it.

    Raises:
        AlreadyExists: REQUEST_ID_REUSED, the id stands for something else.
    """
    if isinstance(word, Signal) and word.key:
        return
    if state.said[word.id] == said_digest(_spoken(word, now)) and _confirms_the_same(state, word):
        return
    if isinstance(word, Signal):
        raise other_signal(word.id)
    message = (
        f"request_id {word.id!r} was used to say something else to this run; what is new has an id of its own"
    )
    raise AlreadyExists(Reason.REQUEST_ID_REUSED, message, metadata={"request_id": word.id})


def _confirms_the_same(state: RunState, word: Told) -> bool:
    """Whether the output of a CONFIRM is the one that its step has; one that `result` mapped is unknown."""
    if not isinstance(word, Overrule) or word.choice is not Choice.CONFIRM:
        return True
    run = state.steps[word.step]
    return run.step.result is not None or run.output is None or run.output.raw == _output(word).raw


def other_signal(signal_id: str) -> AlreadyExists:
    """What a sender is told whose signal_id stands for something else."""
    message = f"signal_id {signal_id!r} was used with another payload; what is new has an id of its own"
    return AlreadyExists(Reason.REQUEST_ID_REUSED, message, metadata={"signal_id": signal_id})


def _signal(state: RunState, word: Signal, now: datetime) -> tuple[ev.Event, ...]:
    known = waits_for_signals(state)
    if word.name not in known:
        there = f"they wait for {', '.join(known)}" if known else "none waits for any"
        message = f"no step of this flow waits for a signal {word.name[:100]!r}; {there}"
        raise Refused(Reason.SIGNAL_UNKNOWN, message, metadata={"signals": ",".join(known)[:500]})
    if state.closing.get(ROOT) is not None or not _may_wait(state, word.name):
        message = f"the steps that wait for the signal {word.name} are over"
        raise Refused(Reason.SIGNAL_TOO_LATE, message)
    received = _received(word, now)
    wanted = state.paused is None and any(fits(received, awaited) for awaited in state.awaited.values())
    if len(state.signals) >= MAX_SIGNALS and not wanted:
        message = f"the run keeps {len(state.signals)} signals that no step has taken yet, and no more"
        raise Exhausted(Reason.SIGNALS_FULL, message)
    if state.stored + len(word.payload.raw) > MAX_RUN_BYTES:
        message = f"the run holds as much as it may: {MAX_RUN_BYTES >> 20} MiB"
        raise Exhausted(Reason.SIGNALS_FULL, message)
    return (received,)


def _may_wait(state: RunState, name: str) -> bool:
    """Whether a step may still take a signal of this name: it or a loop around it has not settled."""
    for path, step in state.flow.steps.items():
        if not (isinstance(step.action, SignalAction) and step.action.name == name):
            continue
        outermost, parent = path, step.parent
        while parent is not None:
            around = state.flow.steps[parent]
            if isinstance(around.action, ForeachAction | WhileAction):
                outermost = parent
            parent = around.parent
        if state.steps[outermost].state not in SETTLED:
            return True
    return False


def _step(state: RunState, path: StepPath) -> StepRun:
    run = state.steps.get(path)
    if run is None:
        raise step_not_found(path, state.steps, f"run {state.id}")
    return run


def _check_first(state: RunState, path: StepPath) -> None:
    """Whether nobody has answered the step yet.

    Raises:
        Refused: APPROVAL_ANSWERED, with who was first.
    """
    run = state.steps.get(path)
    if run is None or run.answer is None:
        return
    first = run.answer
    did = "approved" if first.approved else "rejected"
    metadata = {"actor": first.actor, "approved": str(first.approved).lower(), "at": first.time.isoformat()}
    message = f"{first.actor} has {did} step {path} already"
    raise Refused(Reason.APPROVAL_ANSWERED, message, metadata=metadata)


def _answer(state: RunState, word: Answer, now: datetime) -> tuple[ev.Event, ...]:
    run = _step(state, word.step)
    action = run.step.action
    if not isinstance(action, ApproveAction):
        raise Refused(Reason.STEP_NOT_WAITING, f"step {word.step} asks nothing")
    if word.step not in state.awaited:
        raise _not_waiting(word.step, run, "it asks nothing now")
    if word.form is not None or word.approved:
        form = word.form if word.form is not None else Json(b"{}")
        if violations := action.form.violations(form.value, at="/form"):
            message = f"what was filled in does not fit the form of step {word.step}"
            raise InvalidArgument(Reason.FORM_INVALID, message, violations=violations)
    answer = _given(word, now)
    return answer, answered(state, answer)


def _not_waiting(path: StepPath, run: StepRun, why: str) -> Refused:
    message = f"step {path} is {run.state.value}: {why}"
    return Refused(Reason.STEP_NOT_WAITING, message, metadata={"step_state": run.state.value})


def _overrule(state: RunState, word: Overrule, now: datetime) -> tuple[ev.Event, ...]:
    path, run = word.step, _step(state, word.step)
    overruled = _spoken(word, now)
    if word.choice is Choice.SKIP:
        _check_skip(state, path, run)
        return overruled, ev.StepSettled(path, StepState.SKIPPED, now, skip_reason=SkipReason.HAND)
    if run.state is not StepState.PARKED:
        raise _not_waiting(path, run, "only a PARKED step waits for this decision")
    match word.choice:
        case Choice.CONFIRM:
            settled = gave(state, path, _output(word), now)
            if settled.failure is not None:
                raise InvalidArgument(Reason(settled.failure.reason), settled.failure.message)
            return overruled, settled
        case Choice.FAIL:
            message = word.reason or f"{word.actor} decided so"
            failure = ev.Failure("ABORTED", Reason.FAILED_BY_HAND, message, step=path)
            return overruled, ev.StepSettled(path, StepState.FAILED, now, failure=failure)
        case Choice.RETRY | Choice.FALL_BACK:
            if run.ending or state.cancel is not None:
                raise _not_waiting(
                    path, run, "what is around it has failed, so nothing begins there any more"
                )
            return (overruled,)


def _output(word: Overrule) -> Json:
    return word.output or NULL


def _check_skip(state: RunState, path: StepPath, run: StepRun) -> None:
    """Only what is not being done can be skipped."""
    if run.frame is None and run.state not in SETTLED:
        raise _not_waiting(path, run, "what is around it has not begun")
    waits = run.state in (StepState.PENDING, StepState.RETRYING, StepState.PARKED)
    if not (waits or path in state.timers or path in state.awaited):
        if run.child is not None and run.state not in SETTLED:
            raise _not_waiting(path, run, f"it waits for run {run.child}; cancel that run, or this one")
        busy = run.flight is not None or isinstance(run.step.action, NodeAction)
        why = "its attempt is in flight" if busy and run.state not in SETTLED else "it can be skipped no more"
        raise _not_waiting(path, run, why)
