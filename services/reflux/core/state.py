"""What is known of a run: the state that `reflux.core.run` folds and the walker reads.

The state is a plain mutable value owned by whoever folds it, because copying a run of ten thousand steps for
each event would cost more than the run. `reflux.core.frames` says how its parts move.

    RunState
      ├─ steps    path → StepRun      one per step; steps of a loop's body come with each iteration
      ├─ frames   container → Frames  the lists of steps that were entered and are not over
      └─ ready, due, timers, …        what the walker has to look at

A **path** names a step within its run: `price`, or `lines[3]/price` in the fourth iteration of `lines`. What
stands before the step's own id is its *prefix*; all steps of one iteration share it, branches included, so a
path is the prefix and the id.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

from reflux.core import event as ev
from reflux.core.document import Json, JsonValue
from reflux.core.effect import EffectClass
from reflux.core.event import SETTLED, RunPhase, StepState
from reflux.core.expression import Room
from reflux.core.flow.model import Flow, ForeachAction, Step, WhileAction, branches_of
from reflux.core.left import NOTHING_LEFT, Left
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.times import Times

ROOT: Final = StepPath("")
"""The run itself, as the container of the top list."""

MAX_RUN_BYTES: Final = 64 << 20
"""Of a run's input and all its outputs as JSON: what one run may hold in memory."""

MAX_STEP_RUNS: Final = 100_000
"""Steps of one run, those of every iteration included."""

Spoken: TypeAlias = (
    ev.SignalReceived | ev.StepAnswered | ev.StepOverruled | ev.RunPaused | ev.RunResumed | ev.RunTerminated
)
"""What somebody said, under an id that its sender knows (`word`)."""


@dataclass(slots=True)
class Flight:
    """An attempt whose outcome is not known yet."""

    started: ev.AttemptStarted
    claim: ev.EffectClaimed | None = None


class Awaited(NamedTuple):
    """What a step waits for that somebody must say."""

    signal: str = ""
    """Name of the signal; empty: an answer to what it asks."""
    key: str = ""
    """Of the signal; empty without one."""


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a container, or one list in it, ends early, and how it will end."""

    state: RunPhase
    """SUCCEEDED after a return, or when enough branches of a parallel have; FAILED, or CANCELED."""
    output: Json | None = None
    failure: ev.Failure | None = None


@dataclass(slots=True, eq=False)
class Frame:
    """A list of steps that was entered: the top list, a branch, an iteration."""

    container: StepPath
    branch: int
    index: int
    """Of the iteration; 0 for branches."""
    prefix: str
    steps: tuple[StepPath, ...]
    values: dict[str, JsonValue]
    """What the expressions of its steps see."""
    open: int
    """Steps that have not settled."""
    closing: Closing | None = None
    """It ends early; None: it goes on, or ended well."""
    items_digest: bytes | None = None
    """Of the items around its steps (`reflux.core.kept`); None: nobody has asked for it."""


@dataclass(slots=True)
class Pieces:
    """Values that were worked out one by one for the next decision about a step; no part of the journal."""

    values: list[JsonValue] = field(default_factory=list)
    room: int = Room().left


@dataclass(slots=True)
class StepRun:
    """One step in one run, or in one iteration of it."""

    step: Step
    prefix: str = ""
    parent: StepPath = ROOT
    """The container around it."""
    frame: Frame | None = None
    """The list it stands in; None before that was entered."""
    state: StepState = StepState.PENDING
    attempt: int = 0
    """Number of the newest attempt; 0 before the first."""
    used: int = 0
    """Attempts that count against the step's retry policy."""
    generation: int = 0
    """Rises when the next attempt must carry another idempotency key."""
    pinned: str = ""
    """The version that a person chose for its next attempts."""
    asked: ev.StepEntered | None = None
    """Of an approval: what is asked."""
    answer: ev.StepAnswered | None = None
    """Of an approval: who answered, and what."""
    flight: Flight | None = None
    held: ev.AttemptHeld | None = None
    """Why its next attempt, or the one in flight, has not left yet; for whoever looks."""
    finished: list[ev.AttemptFinished] = field(default_factory=list)
    claims: dict[int, ev.EffectClaimed] = field(default_factory=dict)
    """By the number of the attempt, in order."""
    next_version: str = ""
    """Who is asked next, because those that were `tried` could not; empty: as the route says."""
    tried: tuple[str, ...] = ()
    """Versions that surely did nothing, one after the other, since the route was last asked."""
    next_question: ev.Question | None = None
    """What is asked next about its ambiguous effect; None: it is asked for again."""
    asking: ev.EffectAsked | None = None
    """A question whose answer is not known yet."""
    questions: list[ev.EffectAsked] = field(default_factory=list)
    """What was asked about its effects, in order."""
    answers: list[ev.EffectAnswered] = field(default_factory=list)
    """What was answered about its effects, in order."""
    branches: tuple[int, ...] | None = None
    """Indices of the branches that were entered; None before, and for steps without branches."""
    over: list[Frame] = field(default_factory=list)
    """Its lists that are over: iterations by number, all others in that order; kept while the step runs."""
    pieces: Pieces | None = None
    """What of its next decision is worked out."""
    items: Sequence[JsonValue] = ()
    """What a foreach goes through; kept while it runs."""
    begun: int = 0
    """Iterations of a loop."""
    output: Json | None = None
    failure: ev.Failure | None = None
    skip_reason: ev.SkipReason | None = None
    acted: bool = False
    """What it was to do is done, whether it SUCCEEDED or, because what it gave could not be kept, FAILED."""
    child: RunId | None = None
    """The run that it has begun, or is about to begin."""
    child_began: bool = False
    """That run is there."""
    undoes: StepPath | None = None
    """It is the compensation of that step."""
    kept: ev.OutcomeKept | None = None
    """The outcome of another run that stands here."""
    cost_nanos: int | None = None
    """What it and the steps in it have cost (`reflux.core.cost`); None: nobody told."""
    start_time: datetime | None = None
    renewed: datetime | None = None
    """When a person had it done again: its total time counts from then."""
    finish_time: datetime | None = None

    @property
    def unresolved(self) -> ev.AttemptFinished | None:
        """The last attempt, if nobody knows what became of its outside effect, and no person has decided."""
        last = self.finished[-1] if self.finished else None
        if last is None or last.outcome is not ev.Outcome.AMBIGUOUS or last.generation != self.generation:
            return None
        return last

    @property
    def ending(self) -> bool:
        """Whether the list it stands in ends early: nothing new may begin for it."""
        return self.frame is not None and self.frame.closing is not None

    @property
    def lands(self) -> bool:
        """Whether nothing is in flight for it: no attempt, and no question."""
        return self.flight is None and self.asking is None

    @property
    def flies_pure(self) -> bool:
        """Whether what is in flight can be given up without a trace."""
        return self.flight is not None and self.flight.started.assignment.effect is EffectClass.PURE


@dataclass(slots=True)
class RunState:
    """Everything the walker knows of a run. Made by `run.begin`, changed by `evolve` and `put` there."""

    id: RunId
    flow: Flow
    created: ev.RunCreated
    values: dict[str, JsonValue]
    """What expressions of the top list see: input, vars, steps, run, flow."""
    steps: dict[StepPath, StepRun] = field(default_factory=dict)
    shown: dict[str, dict[str, JsonValue]] = field(default_factory=dict)
    """By prefix: what `steps` is to expressions there."""
    pending: dict[StepPath, int] = field(default_factory=dict)
    """How many of the steps it waits for have not settled."""
    ready: dict[StepPath, None] = field(default_factory=dict)
    due: Times = field(default_factory=Times)
    """Steps that wait for the time of their next attempt."""
    timers: Times = field(default_factory=Times)
    """Steps whose whole work is to wait until then, or at most until then for what is `awaited`."""
    awaited: dict[StepPath, Awaited] = field(default_factory=dict)
    """Steps that wait for a word, the longest waiting first."""
    signals: dict[str, ev.SignalReceived] = field(default_factory=dict)
    """Those that no wait has taken yet, by id, in the order they came."""
    heard: dict[str, StepPath] = field(default_factory=dict)
    """Ids of the words that were heard, and the step that took it, if one did."""
    said: dict[str, bytes] = field(default_factory=dict)
    """By the same ids: the digest of what was said (`said_digest`)."""
    frames: dict[StepPath, list[Frame]] = field(default_factory=dict)
    closable: dict[StepPath, None] = field(default_factory=dict)
    """Containers none of whose lists goes on: what follows must be decided."""
    closing: dict[StepPath, Closing] = field(default_factory=dict)
    deadlines: Times = field(default_factory=Times)
    """When the total time of a container in progress, or of the run, is over."""
    stopped: dict[StepPath, datetime] = field(default_factory=dict)
    """Which of those clocks stand, and since when: `reflux.core.clocks`."""
    kept: dict[StepPath, ev.OutcomeKept] = field(default_factory=dict)
    """Outcomes of the origin that the walk has not reached."""
    parked: dict[StepPath, None] = field(default_factory=dict)
    parked_in: set[StepPath] = field(default_factory=set)
    """Containers, the run among them, with a PARKED step inside: no timeout fires over it."""
    promised: int = 0
    """Steps that loops in progress will still bring."""
    flights: int = 0
    stored: int = 0
    """Bytes of the input and of all outputs."""
    cost_nanos: int | None = None
    """What its own attempts have cost; None: nobody told."""
    queued: bool = False
    """It waits for a limit of its flow: nothing of it may begin."""
    quarantine: ev.Failure | None = None
    cancel: ev.CancelRequested | None = None
    unstarted: dict[StepPath, ev.ChildRequested] = field(default_factory=dict)
    """Children that were asked for and may not have begun; under the run itself: who hears of its failure."""
    child_runs: dict[StepPath, RunId] = field(default_factory=dict)
    """Steps that wait for a child, and which."""
    recall: dict[StepPath, None] = field(default_factory=dict)
    """Steps whose child must be cancelled."""
    error_flow: ev.ChildRequested | None = None
    """The run that hears of the failure of this one."""
    error_flow_refused: ev.Failure | None = None
    """Why there is none."""
    to_undo: list[StepPath] = field(default_factory=list)
    """Steps to be undone if the run ends badly, in the order of completion."""
    undone: list[StepPath] = field(default_factory=list)
    """Steps whose compensation has begun, in that order."""
    owed: list[StepPath] = field(default_factory=list)
    """Steps that were kept, and that the origin should have undone."""
    below: Left = NOTHING_LEFT
    """What the runs have left that this one had begun."""
    compensation: ev.CompensationStarted | None = None
    """The run is undoing, or has undone, what it did."""
    paused: ev.RunPaused | None = None
    finished: ev.RunFinished | None = None

    @property
    def phase(self) -> RunPhase:
        """Where the run stands, as people see it."""
        if self.finished:
            return self.finished.state
        if self.canceled:
            return RunPhase.CANCELING
        moves = self.ready or self.due or self.timers or self.flights or self.awaited or self.child_runs
        moves = moves or self.closes
        if self.quarantine:
            return RunPhase.PARKED
        if self.paused and not self.cancel:
            return RunPhase.PAUSED
        if self.parked and not moves:
            return RunPhase.PARKED
        if self.cancel:
            return RunPhase.CANCELING
        return RunPhase.QUEUED if self.queued else RunPhase.RUNNING

    @property
    def closes(self) -> bool:
        """Whether a container is to end; where the run itself ends early, none does any more."""
        return bool(self.closable) and ROOT not in self.closing

    @property
    def canceled(self) -> bool:
        """Whether its cancel ends it over whatever waits for a person; that of a recall does not."""
        return self.cancel is not None and not self.cancel.recalled

    @property
    def unresolved_effects(self) -> tuple[StepPath, ...]:
        """Steps whose outside effect is not known."""
        if self.finished:
            return self.finished.unresolved_effects
        return (*self.parked, *self.below.unresolved)

    @property
    def room(self) -> int:
        """Steps that further loops may bring."""
        return MAX_STEP_RUNS - len(self.steps) - self.promised

    def values_of(self, path: StepPath) -> dict[str, JsonValue]:
        """What the expressions of a step see."""
        frame = self.steps[path].frame
        return self.values if frame is None else frame.values

    def children(self, path: StepPath) -> Iterator[StepPath]:
        """The steps directly in the lists of a container that were entered."""
        if path == ROOT:
            yield from self.flow.root.steps
            return
        run = self.steps[path]
        action = run.step.action
        if isinstance(action, ForeachAction | WhileAction):
            for index in range(run.begun):
                yield from _paths(f"{path}[{index}]/", action.body.steps)
        else:
            scopes = branches_of(action)
            for number in run.branches or ():
                yield from _paths(run.prefix, scopes[number].steps)

    def around(self, path: StepPath) -> Iterator[StepPath]:
        """The containers around a step, the innermost first, the run itself last."""
        while path != ROOT:
            path = self.steps[path].parent
            yield path

    def waits_for(self, path: StepPath) -> list[StepPath]:
        """The steps that must settle before this one is looked at, and have not.

        Of one that was skipped before its turn: what it had waited for itself.
        """
        missing: dict[StepPath, None] = {}
        asked, seen = [path], {path}
        while asked:
            run = self.steps[asked.pop()]
            for each in _paths(run.prefix, run.step.after):
                if self.steps[each].state not in SETTLED:
                    missing[each] = None
                elif self.pending.get(each) and each not in seen:
                    seen.add(each)
                    asked.append(each)
        return list(missing)


def _paths(prefix: str, ids: tuple[StepPath, ...]) -> tuple[StepPath, ...]:
    return tuple(StepPath(prefix + each) for each in ids) if prefix else ids


def no_room(path: StepPath) -> ev.Failure:
    """The run's outputs are together more than a run may hold."""
    message = f"the outputs of this run are more than {MAX_RUN_BYTES >> 20} MiB together with that of {path}"
    return ev.Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=path)


def error_of(state: RunState, failure: ev.Failure) -> dict[str, JsonValue]:
    """A failure as expressions see it, wherever it is shown: what it is, and the attempts of its step.

    `outcome` is that of its last attempt; null, and no `attempts`, where there is none: no node was called,
    or the step is in a run below this one.
    """
    outcome, attempts = attempts_of(state, failure)
    said = outcome.value if outcome is not None else None
    return {**caught(failure), "outcome": said, "attempts": attempts}


def attempts_of(state: RunState, failure: ev.Failure) -> tuple[ev.Outcome | None, int]:
    """What became of the last attempt of the step in which a failure arose, and how many it had.

    Of a step that was kept, or left behind with the loop around it, the outcome that was kept says so.
    """
    path = failure.step
    while path and path not in state.steps:
        path = path.rpartition("/")[0].rpartition("[")[0]
    run = state.steps.get(StepPath(path))
    if run is None or (path != failure.step and run.kept is None):
        return None, 0
    if run.finished or run.kept is None:
        return run.finished[-1].outcome if run.finished else None, len(run.finished)
    return run.kept.failed_outcome, run.kept.failed_attempts or run.kept.attempts


def said_digest(spoken: Spoken) -> bytes:
    """What makes two words of one id the same word: all that was said, whoever says it again, and when."""
    said: tuple[object, ...]
    match spoken:
        case ev.SignalReceived():
            said = (spoken.name, spoken.key, spoken.payload.raw)
        case ev.StepAnswered():
            form = None if spoken.form is None else spoken.form.raw
            said = (spoken.step, spoken.approved, form, spoken.comment)
        case ev.StepOverruled():
            said = (spoken.step, spoken.choice.value, spoken.version, spoken.reason)
        case _:
            said = (spoken.reason,)
    return blake2b(repr((type(spoken).__name__, *said)).encode(), digest_size=16).digest()


def caught(failure: ev.Failure) -> dict[str, JsonValue]:
    """The failure of a run, as what undoes a step and the flow that hears of it see it."""
    return {
        "code": failure.code,
        "reason": str(failure.reason),
        "message": failure.message,
        "retryable": failure.retryable,
        "step": failure.step,
    }
