"""What follows from an attempt: done, tried again at a time, failed for good, or parked.

`settle` turns the result of an attempt into the event that says so. `recover` does the same for the attempts
that a dead orchestrator left behind. Both are functions of their arguments alone; even the jitter of a retry
is an argument.

The rules, by what is known of the outside effect:

- DONE: the step has SUCCEEDED; or FAILED, when what it gave cannot be kept, and then it is not done again.
- NO_EFFECT: the step's own `retry` decides; a repetition carries a new idempotency key.
- NOT_SENT and not counted (the mesh took no call, or a takeover superseded it): sent again, which costs the
  step nothing but patience. So is a pure attempt that failed in the company of others: at once, and alone.
- NO_EFFECT because the version or its provider is ill, and NOT_SENT, of a call that is not pure: the next
  version of the chain is asked at once, and each at most once; that uses up none of the step's attempts.
  A decline is no outage, and goes nowhere.
- A pure call that failed because its version did: the same, for a step whose own route makes a chain that the
  mesh does not know. For every other step the mesh has seen to it within the attempt.
- AMBIGUOUS: asked for again with the same key in the same scope when the class allows it, and in no other
  way, then asked about (`reflux.core.resolving`); else the step is PARKED. An attempt that never got there
  costs patience here too. Neither `retry` nor `on_error` ever sees it. It stays AMBIGUOUS until DONE, or
  until the version that claimed it has said what is certain: that a later attempt was not sent or refused
  says nothing of a request that may still arrive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import Outcome, StepState
from reflux.core.mapping import mapped
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.resolving import NONE, Abilities, first_question, next_in_chain, successor, version_of
from reflux.core.resolving import recover as recover_questions
from reflux.core.state import Flight, RunState, StepRun

RESOLVE_ATTEMPTS: Final = 5
"""Attempts at an idempotent effect that may end AMBIGUOUS, the first included, before a person is asked."""

VERIFIED_ATTEMPTS: Final = 3
"""The same where somebody can be asked what became of it."""

RESOLVE_DELAY: Final = timedelta(seconds=1)
"""Pause before the first of them; doubled each time."""

NOT_SENT_DELAY: Final = timedelta(milliseconds=200)
"""Pause before an attempt that never left us is sent again."""

NOT_SENT_PATIENCE: Final = timedelta(seconds=60)
"""How long a step waits for a mesh that takes no calls, when it has no total timeout."""

HANDED_ON: Final = frozenset(
    {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED"}
)
"""Codes of a version that failed at a pure call: those for which the mesh tries the next one itself."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What came back from one attempt."""

    outcome: Outcome
    assignment: ev.Assignment
    start_time: datetime
    finish_time: datetime
    output: Json | None = None
    failure: ev.Failure | None = None
    counted: bool = True
    outage: bool = False
    """The node says: the version or its provider is ill, not what the input names."""
    own: bool = False
    """It failed because of what its input names (a TargetFault): nobody's illness."""
    abilities: Abilities = NONE
    """Of the version whose outcome it is."""
    cost_nanos: int | None = None
    """What it cost, as the node told."""


@dataclass(frozen=True, slots=True)
class _Next:
    """Where the step stands after an attempt, and what is done next."""

    state: StepState
    at: datetime | None = None
    version: str = ""
    question: ev.Question | None = None


def settle(state: RunState, path: StepPath, result: AttemptResult, *, jitter: float) -> ev.AttemptFinished:
    """What follows from the result of the step's attempt in flight. `jitter` is 0 to 1."""
    run = state.steps[path]
    assert run.flight is not None, f"step {path} has no attempt in flight"
    started = run.flight.started
    result = _bounded(state, path, _certain(run, run.flight, result))
    to = _fall_over(run, result) or _follow_up(run, result, jitter)
    failure = result.failure
    if result.outcome is Outcome.AMBIGUOUS and failure is not None:
        failure = ev.Failure(
            failure.code, Reason.EFFECT_AMBIGUOUS, failure.message, retryable=False, step=path
        )
    return ev.AttemptFinished(
        step=path,
        attempt=started.attempt,
        generation=started.generation,
        outcome=result.outcome,
        state=to.state,
        assignment=result.assignment,
        start_time=result.start_time,
        finish_time=result.finish_time,
        output=result.output,
        failure=failure,
        retry_at=to.at,
        counted=result.counted and not to.version,
        next_version=to.version,
        next_question=to.question,
        cost_nanos=result.cost_nanos,
    )


def recover(state: RunState, now: datetime) -> Iterator[ev.AttemptFinished | ev.EffectAnswered]:
    """Outcomes of the attempts and questions that a former owner left in flight.

    Unclaimed ones are superseded by the commit of these very events: whoever still holds one is refused its
    claim, so nothing was and nothing will be done by it. Claimed ones are ambiguous.
    """
    yield from recover_questions(state, now)
    for path, run in state.steps.items():
        if run.flight is None:
            continue
        started = run.flight.started
        if run.flight.claim is None:
            message = "its orchestrator was lost before the effect was claimed"
            failure = ev.Failure("ABORTED", Reason.SUPERSEDED, message, retryable=True, step=path)
            outcome = Outcome.NOT_SENT
        else:
            claimer = run.flight.claim.node_version
            message = f"{claimer} claimed the effect, and its orchestrator was lost before the answer"
            failure = ev.Failure("UNKNOWN", Reason.EFFECT_AMBIGUOUS, message, step=path)
            outcome = Outcome.AMBIGUOUS
        result = AttemptResult(outcome, started.assignment, started.time, now, failure=failure, counted=False)
        yield settle(state, path, result, jitter=0.0)


def _certain(run: StepRun, flight: Flight, result: AttemptResult) -> AttemptResult:
    """The result with what claims tell of the outside effect.

    Without a claim nothing can have happened: the commit of this outcome refuses every later claim. With one,
    the claimer's scope is the only one that may be asked again, so it is kept as the version that answered.
    An effect that was ambiguous before stays so.
    """
    former = run.unresolved
    if former is not None and result.outcome is not Outcome.DONE:
        assignment = replace(result.assignment, answered_by=former.assignment.answered_by)
        return replace(result, outcome=Outcome.AMBIGUOUS, assignment=assignment)
    if result.outcome is not Outcome.AMBIGUOUS:
        return result
    if result.assignment.effect is EffectClass.PURE:
        return replace(result, outcome=Outcome.NO_EFFECT)
    if flight.claim is None:
        return replace(result, outcome=Outcome.NOT_SENT)
    _, _, version = flight.claim.node_version.rpartition("@")
    return replace(result, assignment=replace(result.assignment, answered_by=version))


def _bounded(state: RunState, path: StepPath, result: AttemptResult) -> AttemptResult:
    """The result with the output as the step maps it, or without one that the run cannot keep."""
    if result.output is None:
        return result
    given = mapped(state, path, result.output, result.assignment.answered_by, result.cost_nanos)
    if isinstance(given, ev.Failure):
        return replace(result, output=None, failure=given)
    return replace(result, output=given)


def _fall_over(run: StepRun, result: AttemptResult) -> _Next | None:
    """The next version at once, when this one surely did nothing and is not to be asked now."""
    pure = result.assignment.effect is EffectClass.PURE
    failed = version_of(result.assignment)
    if run.ending or not failed or not _gave_nothing(result, pure=pure):
        return None
    if result.failure is not None and result.failure.reason == Reason.SUPERSEDED:
        return None
    to = next_in_chain if pure else successor
    version = to(run, failed, result.abilities)
    deadline = total_deadline(run)
    if not version or (deadline is not None and result.finish_time >= deadline):
        return None
    return _Next(StepState.RETRYING, result.finish_time, version)


def _gave_nothing(result: AttemptResult, *, pure: bool) -> bool:
    """Whether the version is to blame, and another one may do what it did not."""
    if result.outcome is Outcome.NOT_SENT:
        return True
    if result.outcome is not Outcome.NO_EFFECT:
        return False
    if pure:
        return result.failure is not None and result.failure.code in HANDED_ON and not result.own
    return result.outage


def _follow_up(run: StepRun, result: AttemptResult, jitter: float) -> _Next:
    """Where the step stands after the attempt, and when it is tried again."""
    if result.outcome is Outcome.DONE:
        return _Next(StepState.SUCCEEDED if result.failure is None else StepState.FAILED)
    if result.outcome is Outcome.AMBIGUOUS:
        return _resolve(run, result, jitter, ended=run.ending)
    if run.ending:
        return _Next(StepState.CANCELED)
    return _Next(*_try_again(run, result, jitter))


def _try_again(run: StepRun, result: AttemptResult, jitter: float) -> tuple[StepState, datetime | None]:
    if not result.counted:
        return _send_again(run, result, jitter)
    retry = run.step.retry
    failure = result.failure
    used = run.used + result.counted
    if failure is None or failure.code not in retry.on or used >= retry.attempts:
        return StepState.FAILED, None
    at = result.finish_time + retry.delay_before(used + 1, jitter)
    return _unless_too_late(total_deadline(run), at)


def _resolve(run: StepRun, result: AttemptResult, jitter: float, *, ended: bool) -> _Next:
    """An ambiguous effect may be asked for again with the same key in the same scope, and in no other way."""
    effect = (run.unresolved or result).assignment.effect
    repeatable = effect in (EffectClass.IDEMPOTENT, EffectClass.COMPENSATABLE)
    if ended or not repeatable:
        return _Next(StepState.PARKED)
    first = first_question(effect, result.abilities)
    asking = _Next(StepState.PARKED)
    if first is not None:
        asking = _Next(StepState.RETRYING, result.finish_time + RESOLVE_DELAY, question=first)
    if not (result.counted or (run.flight is not None and run.flight.claim is not None)):
        # Nobody was asked: while its version comes back, that costs patience and no attempt.
        to, at = _send_again(run, result, jitter)
        return _Next(to, at) if to is StepState.RETRYING else asking
    asked = 1 + sum(
        attempt.outcome is Outcome.AMBIGUOUS and (attempt.counted or attempt.attempt in run.claims)
        for attempt in run.finished
        if attempt.generation == run.generation
    )
    if asked >= (RESOLVE_ATTEMPTS if first is None else VERIFIED_ATTEMPTS):
        return asking
    return _Next(StepState.RETRYING, result.finish_time + RESOLVE_DELAY * 2 ** (asked - 1))


def _send_again(run: StepRun, result: AttemptResult, jitter: float) -> tuple[StepState, datetime | None]:
    """An attempt that never left us costs nothing but patience."""
    if result.failure is not None and result.failure.reason == Reason.SUPERSEDED:
        return StepState.RETRYING, result.finish_time
    if result.assignment.batch_id:
        # What failed in company is asked again alone: only then is a failure its own.
        return _unless_too_late(total_deadline(run), result.finish_time)
    in_a_row, since = 1, result.start_time
    for attempt in reversed(run.finished):
        if attempt.counted or attempt.generation != run.generation:  # before a person began it anew
            break
        in_a_row, since = in_a_row + 1, attempt.start_time
    deadline = total_deadline(run) or since + NOT_SENT_PATIENCE
    # Half of it is left to chance: what was refused together does not come back together.
    delay = NOT_SENT_DELAY * min(2 ** (in_a_row - 1), 16) * (0.5 + jitter / 2)
    return _unless_too_late(deadline, result.finish_time + delay)


def _unless_too_late(deadline: datetime | None, at: datetime) -> tuple[StepState, datetime | None]:
    if deadline is not None and at >= deadline:
        return StepState.FAILED, None
    return StepState.RETRYING, at


def total_deadline(run: StepRun) -> datetime | None:
    """When the step's total time is over; None before its first attempt and for steps without one."""
    total, since = run.step.timeout.total, run.renewed or run.start_time
    return since + total if total is not None and since is not None else None
