"""An effect of which nobody knows: what is asked about it, and what follows from the answers.

It was claimed and no answer came. What is done then, in this order and never back:

1. It is asked for again with the same key in the same scope (`reflux.core.attempt`), a few times, and only
   while the key surely holds.
2. The version that claimed it is asked what became of it: `verify`.
3. When its class is `compensatable`, it is asked to undo it: `cancel`. From then on it is never asked for
   again, for it would be there after having been undone.
4. A person decides: the step is PARKED, and what was asked and answered stands beside it.

A key holds as long as its provider keeps it, which the claim says; without a word, for six hours. A
provider that has forgotten a key takes the same request for a new one. So once it may have been forgotten,
nothing that acts is sent under it any more, neither the effect nor a cancel, and VOIDED is no proof any
more, because a request that was on its way all the time would be a new effect: what is left is `verify`,
and a person.

FOUND is the outcome of the step. VOIDED is proof that there is no effect and will be none under this key: the
next attempt is a new effect with a key of its own, and goes to the next provider. UNKNOWN proves nothing,
nor does a call that fails; a question has its own patience.

Each question is journaled before it is asked, so whoever takes the run over knows that it was, and asks it
again: both are idempotent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import SETTLED, Knowledge, Question, StepState
from reflux.core.flow.model import NodeAction
from reflux.core.frames import land, park, settle
from reflux.core.mapping import mapped
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.state import RunState, StepRun

ASKS: Final = 4
"""How often a question is answered before the next thing is done."""

UNHEARD: Final = timedelta(minutes=2)
"""How long it is asked when nobody answers: a node that is started again, or a provider that is down for a
moment, is no reason to call a person."""

ASK_DELAY: Final = timedelta(seconds=1)
"""Pause before it is asked again, doubled each time; and before it is asked first."""

MAX_ASK_DELAY: Final = timedelta(seconds=16)

KEY_HOLDS: Final = timedelta(hours=6)
"""How long a key is taken to be kept where its claim does not say."""

KEY_MARGIN: Final = 10
"""The last part, a tenth, of that time is not used: a request takes its time, and clocks differ."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a version can be asked, and who else can be asked."""

    verifiable: bool = False
    cancelable: bool = False
    successors: tuple[str, ...] = ()
    """Versions that may take a call over from it, the first first."""
    chain: tuple[str, ...] = ()
    """The same where its step walks a chain that the mesh does not know: that chain and nobody else."""


NONE: Final = Abilities()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a question."""

    knowledge: Knowledge
    detail: str
    output: Json | None = None
    answered: bool = True


def ask(run: StepRun, path: StepPath, question: Question, now: datetime) -> ev.EffectAsked:
    """The next time that a question is asked."""
    last = run.unresolved
    assert last is not None, f"nothing is unknown of step {path}"
    number = 1 + len(_asked(run, question))
    return ev.EffectAsked(path, last.attempt, question, number, _claimer(run), now)


def due_question(run: StepRun, now: datetime) -> Question | None:
    """What must be asked before anything else may be done for the step; None: nothing."""
    if run.unresolved is None:
        return None
    return Question.VERIFY if is_forgotten(run, now) else run.next_question


def is_forgotten(run: StepRun, at: datetime) -> bool:
    """Whether the key of the step's ambiguous effect may have been forgotten by its provider by then."""
    held = [
        claim.key_ttl or KEY_HOLDS
        for attempt, claim in run.claims.items()
        if attempt in _attempts(run) or (run.flight is not None and attempt == run.flight.started.attempt)
    ]
    holds = min(held, default=KEY_HOLDS)
    return at - first_sent(run) > holds - holds / KEY_MARGIN


def first_sent(run: StepRun) -> datetime:
    """When the first call with the key of an ambiguous effect was sent."""
    return next(each.start_time for each in run.finished if each.generation == run.generation)


def first_question(effect: EffectClass, abilities: Abilities) -> Question | None:
    """What is asked when the effect was asked for again in vain; None: nobody can be asked."""
    if abilities.verifiable:
        return Question.VERIFY
    return _cancel(effect, abilities)


def answered(
    state: RunState, path: StepPath, answer: Answer, abilities: Abilities, now: datetime
) -> ev.EffectAnswered:
    """What follows from the answer to the question that the step has asked."""
    run = state.steps[path]
    asked, last = run.asking, run.unresolved
    assert asked is not None, f"step {path} has asked nothing"
    assert last is not None, f"nothing is unknown of step {path}"
    to, at, version, question = StepState.PARKED, None, "", None
    output, failure, acted = answer.output, None, False
    if answer.knowledge is Knowledge.FOUND and output is not None:
        given = mapped(state, path, output, last.assignment.answered_by)
        failure = given if isinstance(given, ev.Failure) else None
        output = None if isinstance(given, ev.Failure) else given
        to = StepState.SUCCEEDED if failure is None else StepState.FAILED
        acted = failure is not None
    elif answer.knowledge is Knowledge.VOIDED and not (is_forgotten(run, now) and not run.ending):
        to, at, version = _after_void(run, last, abilities, now)
        if to is StepState.FAILED:
            message = f"{asked.node_version} did not answer, and its effect is void: {answer.detail}"
            failure = ev.Failure("UNAVAILABLE", Reason.NODE_FAULT, message, retryable=True, step=path)
    elif not run.ending and answer.knowledge is not Knowledge.VOIDED:
        able = replace(abilities, cancelable=False) if is_forgotten(run, now) else abilities
        question, at = _next(run, last.assignment.effect, answer, able, now)
        to = StepState.RETRYING if question is not None else StepState.PARKED
    return ev.EffectAnswered(
        step=path,
        attempt=asked.attempt,
        question=asked.question,
        number=asked.number,
        knowledge=answer.knowledge,
        detail=answer.detail,
        state=to,
        time=now,
        output=output,
        failure=failure,
        retry_at=at,
        next_version=version,
        next_question=question,
        answered=answer.answered,
        acted=acted,
    )


def recover(state: RunState, now: datetime) -> Iterator[ev.EffectAnswered]:
    """Questions that a former owner left open: nobody has heard the answer, so they are asked again."""
    lost = Answer(Knowledge.UNKNOWN, "its orchestrator was lost before the answer", answered=False)
    for path, run in state.steps.items():
        if run.asking is not None and run.unresolved is not None:
            question = run.asking.question
            again = Abilities(verifiable=question is Question.VERIFY, cancelable=True)
            yield answered(state, path, lost, again, now)


def successor(run: StepRun, failed: str, abilities: Abilities) -> str:
    """Who is asked instead of a version that surely did nothing; empty when all were.

    Never for a step that names its version and no fallback, nor for one that a person has given to a version.
    """
    action, route = run.step.action, run.step.route
    chained = route is not None and route.fallback is not None
    if run.pinned or not isinstance(action, NodeAction) or (action.version is not None and not chained):
        return ""
    others = abilities.chain if chained else abilities.successors
    if not chained and route is not None and route.versions:
        own = [version for version, _ in route.versions]
        others = tuple(sorted(own, key=lambda each: others.index(each) if each in others else len(others)))
    return _untried(run, failed, others)


def next_in_chain(run: StepRun, failed: str, abilities: Abilities) -> str:
    """Who is asked instead of a version that failed at a pure call; empty: nobody, or the mesh sees to it.

    The mesh does for every step but one that is `drawn`: that one is pinned, and here its chain is walked.
    """
    route = run.step.route
    if run.pinned or route is None or not route.drawn:
        return ""
    return _untried(run, failed, abilities.chain)


def _untried(run: StepRun, failed: str, others: Iterable[str]) -> str:
    gone = {failed, *run.tried}
    return next((version for version in others if version not in gone), "")


def version_of(assignment: ev.Assignment) -> str:
    """Whose failure it is: who answered, else who was meant."""
    return assignment.answered_by or assignment.chosen


def follow(run: StepRun, event: ev.AttemptFinished) -> None:
    """Folds what an attempt's outcome says of the next one."""
    run.next_question = event.next_question
    run.next_version = event.next_version
    if event.next_version:
        run.tried = (*run.tried, version_of(event.assignment))
    elif event.outcome is not ev.Outcome.AMBIGUOUS:
        run.tried = ()


def fold(state: RunState, event: ev.EffectAsked | ev.EffectAnswered) -> None:
    """Folds a question, or its answer."""
    run = state.steps[event.step]
    if run.state in SETTLED or run.state is StepState.PARKED:
        land(state, run)
        return
    if isinstance(event, ev.EffectAsked):
        state.due.pop(event.step, None)
        land(state, run)
        run.asking = event
        run.questions.append(event)
        state.flights += 1
        return
    _fold_answer(state, run, event)


def _fold_answer(state: RunState, run: StepRun, event: ev.EffectAnswered) -> None:
    land(state, run)
    last = run.unresolved
    run.answers.append(event)
    run.next_question = event.next_question
    if event.state is StepState.PARKED:
        park(state, event.step, run, event.time)
        return
    if event.state in SETTLED:
        run.failure = event.failure
        run.acted = event.acted
        settle(state, event.step, event.state, event.time, event.output)
        return
    if event.knowledge is Knowledge.VOIDED:
        run.generation += 1
        run.next_version = event.next_version
        run.tried = (*run.tried, version_of(last.assignment)) if last and event.next_version else ()
    run.state = StepState.RETRYING
    state.due[event.step] = event.retry_at or event.time


def _after_void(
    run: StepRun, last: ev.AttemptFinished, abilities: Abilities, now: datetime
) -> tuple[StepState, datetime | None, str]:
    if run.ending:
        return StepState.CANCELED, None, ""
    version = successor(run, version_of(last.assignment), abilities)
    if version:
        return StepState.RETRYING, now, version
    if run.used < run.step.retry.attempts:
        return StepState.RETRYING, now + ASK_DELAY, ""
    return StepState.FAILED, None, ""


def _next(
    run: StepRun,
    effect: EffectClass,
    answer: Answer,
    abilities: Abilities,
    now: datetime,
) -> tuple[Question | None, datetime | None]:
    """What is asked after a question that nobody could answer, and when."""
    # FOUND in answer to a cancel, without an output: it cannot be undone, so a person must see to it.
    if answer.knowledge is Knowledge.FOUND:
        return None, None
    asked = run.asking
    assert asked is not None, "nothing was asked"
    if _worth_asking(run, asked, answer, abilities, now):
        return asked.question, now + min(ASK_DELAY * 2 ** (asked.number - 1), MAX_ASK_DELAY)
    if asked.question is Question.VERIFY and (question := _cancel(effect, abilities)) is not None:
        return question, now + ASK_DELAY
    return None, None


def _worth_asking(
    run: StepRun, asked: ev.EffectAsked, answer: Answer, abilities: Abilities, now: datetime
) -> bool:
    """Whether the same question is asked once more."""
    heard = sum(each.answered for each in _asked(run, asked.question))
    if answer.answered:
        return heard + 1 < ASKS
    attempts = _attempts(run)
    since = next(
        each.time for each in run.questions if each.question is asked.question and each.attempt in attempts
    )
    return _able(asked.question, abilities) and heard < ASKS and now - since < UNHEARD


def _able(question: Question, abilities: Abilities) -> bool:
    return abilities.verifiable if question is Question.VERIFY else abilities.cancelable


def _cancel(effect: EffectClass, abilities: Abilities) -> Question | None:
    wanted = effect is EffectClass.COMPENSATABLE and abilities.cancelable
    return Question.CANCEL if wanted else None


def _asked(run: StepRun, question: Question) -> list[ev.EffectAnswered]:
    """The answers to a question about the effect that is unknown now."""
    attempts = _attempts(run)
    return [each for each in run.answers if each.question is question and each.attempt in attempts]


def _attempts(run: StepRun) -> set[int]:
    """At the effect that is unknown now."""
    return {each.attempt for each in run.finished if each.generation == run.generation}


def _claimer(run: StepRun) -> str:
    claim = next(reversed(run.claims.values()), None)
    return claim.node_version if claim is not None else ""
