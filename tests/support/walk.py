"""A whole orchestrator's part in a run, without I/O and in virtual time: what drives the walker in tests.

`Walk` asks `decide` until nothing follows, answers every attempt as it was scripted, and moves its clock to
whatever comes next: an answer, a timer. Everything is a function of its arguments.

It treats attempts as the worker does: a pure one is sent at once and journaled only if it takes longer than
`SLOW`, any other one is journaled first; an attempt whose total time is over is not sent.

    walk = Walk(flow_of({"id": "a", "node": "x"}), {"a": [failed("UNAVAILABLE"), done({"n": 1})]}).run()
    assert walk.trace == ["start a 1", …, "run SUCCEEDED"]

`trace` is everything that came out, one line for each command and event in order, so that comparing it whole
also states that nothing more came out. A step whose answers are scripted may start only as often as there
are answers; any other step is answered by `done()`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from reflux.core import children, resolving
from reflux.core import event as ev
from reflux.core.attempt import AttemptResult, recover, settle
from reflux.core.claim import Verdict, judge
from reflux.core.command import AskEffect, Piece, Record, StartAttempt, StartChild
from reflux.core.document import NULL, Json, JsonValue
from reflux.core.effect import EffectClass, lane_of
from reflux.core.event import Assignment, Outcome
from reflux.core.flow import Flow, compile_flow
from reflux.core.names import FlowId, RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.run import begin, evolve, fold, put
from reflux.core.walker import decide, next_wake
from reflux.core.word import Word, hear

if TYPE_CHECKING:
    from reflux.core.state import RunState

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When every walk begins."""
RUN: Final = RunId("0197a000-0000-7000-8000-000000000001")
SLOW: Final = timedelta(seconds=0.25)
"""A pure attempt in flight for longer is journaled late."""
MANY: Final = 50_000
"""Nothing that a test walks takes more turns: more is a walk without end."""


_Coming = ev.AttemptStarted | StartChild | ev.ChildRecalled
"""What the queue holds, each with its time: an attempt, a child that is asked for, one that is cancelled."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of one attempt."""

    outcome: Outcome
    output: JsonValue = None
    failure: ev.Failure | None = None
    after: float = 0.0
    """Seconds from its start."""
    counted: bool = True
    outage: bool = False
    """The version or its provider is ill."""
    chosen: str = ""
    """The version that the route chose, where none answered."""
    claimed_by: str = ""
    """The node version that claims the effect as soon as it is asked, e.g. `pay@2`; empty: none does."""
    scope: str = "account"
    key_ttl: timedelta | None = None
    """How long the claimer says that its provider keeps the key."""
    cost: int | None = None
    """Billionths of a dollar that the node tells."""


def done(
    output: JsonValue = None, *, after: float = 0.0, claimed_by: str = "", cost: int | None = None
) -> Answer:
    """The node answered."""
    output = output if output is not None else {}
    return Answer(Outcome.DONE, output, after=after, claimed_by=claimed_by, cost=cost)


def failed(
    code: str = "FAILED_PRECONDITION", *, after: float = 0.0, claimed_by: str = "", cost: int | None = None
) -> Answer:
    """The node says that it did nothing."""
    failure = ev.Failure(code, Reason.NODE_FAULT, "it says no")
    return Answer(Outcome.NO_EFFECT, failure=failure, after=after, claimed_by=claimed_by, cost=cost)


def ambiguous(claimed_by: str = "", *, code: str = "UNAVAILABLE", after: float = 0.0) -> Answer:
    """No word came back."""
    failure = ev.Failure(code, Reason.NODE_FAULT, "the line went dead")
    return Answer(Outcome.AMBIGUOUS, failure=failure, after=after, claimed_by=claimed_by)


def not_sent(*, after: float = 0.0) -> Answer:
    """The mesh took no call."""
    failure = ev.Failure("UNAVAILABLE", Reason.MESH_UNREACHABLE, "connection refused", retryable=True)
    return Answer(Outcome.NOT_SENT, failure=failure, after=after, counted=False)


def never(claimed_by: str = "") -> Answer:
    """Nothing comes back for as long as the test lasts."""
    return Answer(Outcome.AMBIGUOUS, after=math.inf, claimed_by=claimed_by)


def flow_of(*steps: Mapping[str, Any], **spec: JsonValue) -> Flow:
    """The compiled flow of these steps; `spec` holds what stands beside them, such as `vars`."""
    document: Any = {"name": "walked", "spec": {**spec, "steps": list(steps)}}
    result = compile_flow(document)
    assert result.flow is not None, "\n".join(map(str, result.problems))
    return result.flow


def node(step: str, **keys: Any) -> dict[str, Any]:
    """A step that calls a node."""
    return {"id": step, "node": "x", **keys}


def created(flow: Flow, value: JsonValue = None) -> ev.RunCreated:
    """The first event of a run of this flow."""
    return ev.RunCreated(FlowId("f"), flow.name, 1, Json.of(value if value is not None else {}), "me", START)


@dataclass(slots=True)
class Walk:
    """A run on its way. `answers` may also be a function of the command, for endless scripts."""

    flow: Flow
    answers: Mapping[str, Sequence[Answer]] | Callable[[StartAttempt], Answer] = field(default_factory=dict)
    input: JsonValue = None
    effects: Mapping[str, EffectClass] = field(default_factory=dict)
    """Classes of the steps' calls; `pure` for those not named."""
    jitter: float = 1.0
    now: datetime = START
    state: RunState = field(init=False)
    journal: list[ev.Event] = field(init=False)
    """What was stored."""
    started: list[StartAttempt] = field(default_factory=list)
    timed: list[tuple[float, str]] = field(default_factory=list)
    """Seconds since `START`, and a line of `trace`."""
    abilities: resolving.Abilities = resolving.NONE
    """Of every version that is called."""
    questions: list[resolving.Answer] = field(default_factory=list)
    """Answers to questions about effects, in order; once there are none left nobody answers."""
    runs: Mapping[str, Answer] = field(default_factory=dict)
    """What becomes of the child of a step: `not_sent()` cannot begin; `done()` for those not named."""
    asked: list[StartChild] = field(default_factory=list)
    _queue: list[tuple[datetime, int, _Coming, Answer | None]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        first = created(self.flow, self.input)
        self.state = begin(RUN, self.flow, first)
        self.journal = [first]

    @property
    def trace(self) -> list[str]:
        """Everything that came out, in order."""
        return [line for _, line in self.timed]

    def effect_of(self, step: StepPath) -> EffectClass:
        """The class of a step's calls, the same in every iteration."""
        return self.effects.get(step.rpartition("/")[2], EffectClass.PURE)

    def states(self, *steps: str) -> dict[str, str]:
        """Where steps stand; all of them if none is named."""
        return {step: self.state.steps[StepPath(step)].state.value for step in steps or self.state.steps}

    def output(self, step: str) -> JsonValue:
        """What a step gave."""
        document = self.state.steps[StepPath(step)].output
        assert document is not None, f"{step} has no output"
        return document.value

    @property
    def finished(self) -> ev.RunFinished:
        """How the run ended."""
        assert self.state.finished is not None, "\n".join(self.trace)
        return self.state.finished

    def run(self, until: float = math.inf) -> Self:
        """Goes on to the end, or until nothing can happen any more, or for so many seconds since `START`."""
        for _ in range(MANY):
            self._decide()
            at = self._next()
            if at is None or (at - START).total_seconds() > until:
                if until is not math.inf:
                    self.now = max(self.now, START + timedelta(seconds=until))
                return self
            self.now = max(self.now, at)
            if self._queue and self._queue[0][0] <= self.now:
                self._arrive()
        raise AssertionError("the walk does not end")

    def tell(self, *events: ev.Event) -> Self:
        """Records something that came from outside, then everything that follows at once."""
        for event in events:
            self._record(event)
        self._decide()
        return self

    def say(self, word: Word) -> Self:
        """Says something to the run, as its owner hears it; raises what refuses it."""
        return self.tell(*hear(self.state, word, self.now))

    def cancel(self) -> Self:
        """Somebody cancels the run."""
        return self.tell(ev.CancelRequested("me", "enough", self.now))

    def replayed(self) -> RunState:
        """The state that the journal alone gives."""
        return fold(RUN, self.flow, self.journal)

    def crashed(self, keep: int | None = None, *, after: float = 0.0) -> Self:
        """The run in the hands of another orchestrator, which has the first `keep` events to go by."""
        journal = self.journal[: len(self.journal) if keep is None else keep]
        heir = type(self)(self.flow, self._left(), self.input, self.effects, self.jitter, runs=self.runs)
        last = self.now if keep is None else max(_time_of(event) for event in journal)
        heir.abilities, heir.questions = self.abilities, self.questions
        heir.now = last + timedelta(seconds=after)
        heir.journal = journal
        heir.state = fold(RUN, self.flow, journal)
        if heir.state.finished is None:
            outcomes = [*recover(heir.state, heir.now)]
            heir._record(ev.RunRecovered("heir", 2, heir.now))
            for outcome in outcomes:
                heir._record(outcome)
            for path in [*heir.state.unstarted]:
                heir._push(heir.now, children.again(heir.state, path), None)
            for path, run_id in heir.state.child_runs.items():
                if path not in heir.state.unstarted:
                    asked = ev.ChildRequested(path, run_id, "", 0, detached=False, time=heir.now)
                    heir._push(heir.now, StartChild(asked, NULL), heir.runs.get(path) or done())
        return heir

    def _left(self) -> Mapping[str, Sequence[Answer]] | Callable[[StartAttempt], Answer]:
        """What of the script was not used up."""
        if not isinstance(self.answers, Mapping):
            return self.answers
        used = {step: sum(command.step == step for command in self.started) for step in self.answers}
        return {step: answers[used[step] :] for step, answers in self.answers.items()}

    def _decide(self) -> None:
        for _ in range(MANY):
            command = decide(self.state, self.now)
            if command is None:
                return
            if isinstance(command, Record):
                self._record(command.event)
            elif isinstance(command, AskEffect):
                self._record(command.asked)
                if self.questions:
                    answer = self.questions.pop(0)
                    path = command.asked.step
                    answered = resolving.answered(self.state, path, answer, self.abilities, self.now)
                    self._record(answered)
            elif isinstance(command, StartChild):
                self._ask(command)
            elif isinstance(command, Piece):
                put(self.state, command)
            else:
                self._start(command)
        raise AssertionError("the walker never comes to rest")

    def _next(self) -> datetime | None:
        wake = next_wake(self.state)
        assert wake is None or wake > self.now, "it wants to be woken for nothing"
        arrival = self._queue[0][0] if self._queue else None
        return min((at for at in (wake, arrival) if at is not None), default=None)

    def _record(self, event: ev.Event) -> None:
        evolve(self.state, event)
        self.journal.append(event)
        self._note(_line(event))
        if isinstance(event, ev.ChildRecalled):
            self._push(self.now, event, None)

    def _note(self, line: str) -> None:
        self.timed.append(((self.now - START).total_seconds(), line))

    def _start(self, command: StartAttempt) -> None:
        self.started.append(command)
        effect = self.effect_of(command.step)
        assignment = Assignment(effect, lane_of(effect))
        started = ev.AttemptStarted(command.step, command.attempt, command.generation, assignment, self.now)
        evolve(self.state, started)
        if effect is not EffectClass.PURE:
            self.journal.append(started)
        generation = f" generation {command.generation}" if command.generation else ""
        version = f" at {command.version}" if command.version else ""
        self._note(f"start {command.step} {command.attempt}{generation}{version}")
        if command.total_deadline is not None and command.total_deadline <= self.now:
            self._settle(started, _too_late(started, self.now))
            return
        answer = self._answer(command)
        if answer.claimed_by:
            self._claim(started, answer)
        if effect is EffectClass.PURE and answer.after > SLOW.total_seconds():
            self._push(self.now + SLOW, started, None)
        if answer.after < math.inf:
            self._push(self.now + timedelta(seconds=answer.after), started, answer)

    def _ask(self, command: StartChild) -> None:
        """A child is asked for: it begins at once, and ends as it was scripted, or when it is recalled."""
        self.asked.append(command)
        self._record(command.requested)
        self._push(self.now, command, None)

    def _child(self, command: StartChild) -> None:
        """It begins, unless nobody wants it any more or it cannot."""
        requested = command.requested
        path = requested.step
        answer = self._answer(command)
        if children.unwanted(self.state, path):
            events = children.refused(self.state, path, None, self.now)
        elif answer.outcome is Outcome.NOT_SENT:
            events = children.refused(self.state, path, answer.failure, self.now)
        else:
            events = children.started(
                self.state, path, flow_name=requested.flow, flow_version=1, now=self.now
            )
        for event in events:
            self._record(event)
        if answer.outcome is not Outcome.NOT_SENT and answer.after < math.inf:
            self._push(self.now + timedelta(seconds=answer.after), command, answer)

    def child_ends(self, step: str, phase: ev.RunPhase, answer: Answer) -> None:
        """The word of a child that it has finished."""
        path = StepPath(step)
        run_id = self.state.child_runs.get(path)
        if run_id is None:
            return
        output = Json.of(answer.output) if phase is ev.RunPhase.SUCCEEDED else None
        for event in children.finished(
            self.state, path, run_id, phase, self.now, output=output, failure=answer.failure
        ):
            self._record(event)

    def _answer(self, command: StartAttempt | StartChild) -> Answer:
        if isinstance(command, StartChild):
            script = self.runs.get(command.requested.step)
            return done() if script is None else script
        if not isinstance(self.answers, Mapping):
            return self.answers(command)
        script = self.answers.get(command.step)
        if script is None:
            return done()
        before = sum(other.step == command.step for other in self.started) - 1
        assert before < len(script), f"step {command.step} started once more than scripted"
        return script[before]

    def _claim(self, started: ev.AttemptStarted, answer: Answer) -> None:
        claim = ev.EffectClaimed(
            started.step,
            started.attempt,
            f"{started.step}-{started.attempt}",
            answer.scope,
            answer.claimed_by,
            answer.key_ttl,
        )
        verdict, why = judge(self.state, claim)
        assert verdict is Verdict.RECORD, why
        self._record(claim)

    def _push(self, at: datetime, started: _Coming, answer: Answer | None) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, started, answer))

    def _arrive(self) -> None:
        """One answer, or the late journaling of a slow pure attempt, if anybody still waits for it."""
        _, _, started, answer = heapq.heappop(self._queue)
        if isinstance(started, ev.ChildRecalled):
            self.child_ends(started.step, ev.RunPhase.CANCELED, ambiguous())
            return
        if isinstance(started, StartChild):
            if answer is None:
                self._child(started)
            else:
                phase = ev.RunPhase.SUCCEEDED if answer.outcome is Outcome.DONE else ev.RunPhase.FAILED
                self.child_ends(started.requested.step, phase, answer)
            return
        flight = self.state.steps[started.step].flight
        if flight is None or flight.started is not started:
            return
        if answer is None:
            self.journal.append(started)
            return
        _, _, version = answer.claimed_by.rpartition("@")
        result = AttemptResult(
            answer.outcome,
            Assignment(
                started.assignment.effect, started.assignment.lane, answered_by=version, chosen=answer.chosen
            ),
            started.time,
            self.now,
            output=Json.of(answer.output) if answer.outcome is Outcome.DONE else None,
            failure=answer.failure and replace(answer.failure, step=started.step),
            counted=answer.counted,
            outage=answer.outage,
            abilities=self.abilities,
            cost_nanos=answer.cost,
        )
        self._settle(started, result)

    def _settle(self, started: ev.AttemptStarted, result: AttemptResult) -> None:
        self._record(settle(self.state, started.step, result, jitter=self.jitter))


def _too_late(started: ev.AttemptStarted, now: datetime) -> AttemptResult:
    failure = ev.Failure("DEADLINE_EXCEEDED", Reason.TIMEOUT, "the total time is over", step=started.step)
    return AttemptResult(Outcome.NOT_SENT, started.assignment, now, now, failure=failure)


def _time_of(event: ev.Event) -> datetime:
    match event:
        case ev.AttemptFinished():
            return event.finish_time
        case ev.EffectClaimed() | ev.OutcomeKept():
            return START
        case _:
            return event.time


def _line(event: ev.Event) -> str:
    match event:
        case ev.AttemptFinished():
            again = ""
            if event.retry_at is not None:
                again = f" +{(event.retry_at - event.finish_time).total_seconds():g}s"
            return f"{event.step} {event.outcome} {event.state}{again}"
        case ev.StepEntered():
            return f"enter {event.step} {list(event.branches)}"
        case ev.StepSettled():
            why = event.skip_reason or (event.failure.reason if event.failure else "")
            return f"{event.step} {event.state} {why}".rstrip()
        case ev.EffectAsked():
            return f"{event.step} {event.question} {event.number} of {event.node_version}"
        case ev.EffectAnswered():
            again = ""
            if event.retry_at is not None:
                again = f" +{(event.retry_at - event.time).total_seconds():g}s"
            return f"{event.step} {event.knowledge} {event.state}{again}"
        case ev.EffectClaimed():
            return f"{event.step} claimed by {event.node_version}"
        case ev.CancelRequested():
            return "cancel"
        case ev.TimedOut():
            return f"timeout {event.step}".rstrip()
        case ev.ChildRequested():
            return f"ask for {event.flow} {event.step}".rstrip()
        case ev.ChildStarted():
            refused = f" {event.failure.reason}" if event.failure else ""
            return f"began {event.flow_name} {event.step}".rstrip() + refused
        case ev.ChildRecalled():
            return f"recall {event.step}"
        case ev.CompensationStarted():
            return f"undo {event.count}"
        case ev.RunRecovered():
            return "recovered"
        case ev.RunParked():
            return f"quarantine {event.failure.reason}"
        case ev.RunFinished():
            return " ".join(["run", event.state, *event.unresolved_effects])
        case ev.SignalReceived():
            return f"signal {event.word} {event.name} {event.key}".rstrip()
        case ev.StepAnswered():
            return f"{event.step} {'approved' if event.approved else 'rejected'} by {event.actor}"
        case ev.StepOverruled():
            return f"{event.step} {event.choice} {event.version}".rstrip()
        case ev.RunPaused() | ev.RunResumed() | ev.RunTerminated():
            return type(event).__name__.removeprefix("Run").lower()
        case _:
            return type(event).__name__
