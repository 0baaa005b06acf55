"""The facts of a run, as values. Their stored form is `reflux.api.journal.v1`; the orchestrator translates.

An event says what happened *and what was decided because of it* (`AttemptFinished.state`, `retry_at`), so
that folding an old journal never decides again, nor differently. Times are UTC, by the database's clock.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from reflux.core.assignment import Assignment as Assignment  # noqa: PLC0414 - a part of facts, and named as one
from reflux.core.document import Json
from reflux.core.failure import Failure as Failure  # noqa: PLC0414 - the same
from reflux.core.faults import FaultPlan
from reflux.core.held import AttemptHeld as AttemptHeld  # noqa: PLC0414 - the same
from reflux.core.knowledge import Knowledge as Knowledge  # noqa: PLC0414 - the same
from reflux.core.knowledge import Question as Question  # noqa: PLC0414 - the same
from reflux.core.left import NOTHING_LEFT, Left
from reflux.core.names import FlowId, RunId, StepPath
from reflux.core.origin import OnlyStep, Origin

DEFAULT_PRIORITY = 5
"""Of a run whose flow names none."""


class StepState(StrEnum):
    """Where a step stands. The settled ones are `SETTLED`."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELED = "CANCELED"
    PARKED = "PARKED"


SETTLED = frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.CANCELED})


class RunPhase(StrEnum):
    """Where a run stands. The three before PARKED are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELING = "CANCELING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    PARKED = "PARKED"
    PAUSED = "PAUSED"


FINAL = frozenset({RunPhase.SUCCEEDED, RunPhase.FAILED, RunPhase.CANCELED})


class Outcome(StrEnum):
    """What is known of an attempt's outside effect."""

    DONE = "DONE"
    NOT_SENT = "NOT_SENT"
    NO_EFFECT = "NO_EFFECT"
    AMBIGUOUS = "AMBIGUOUS"


class SkipReason(StrEnum):
    """Why a step was not done."""

    WHEN = "when"
    BRANCH = "branch"
    JOIN = "join"
    DISABLED = "disabled"
    HAND = "hand"


class Choice(StrEnum):
    """What a person decides about a step. All but SKIP are about a PARKED one."""

    SKIP = "skip"
    """It is not done, and was not wanted: those that wait for it go on."""
    CONFIRM = "confirm"
    """Its effect did happen, and this is its output."""
    RETRY = "retry"
    """It is done again, as a new effect under another idempotency key."""
    FALL_BACK = "fall_back"
    """The same, by the version that is named."""
    FAIL = "fail"
    """It has failed for good."""


@dataclass(frozen=True, slots=True)
class RunCreated:
    """The run was accepted."""

    flow_id: FlowId
    flow_name: str
    flow_version: int
    input: Json
    actor: str
    time: datetime
    trigger: str = ""
    """Id of the trigger that started it; empty when somebody asked."""
    traceparent: str = ""
    """W3C traceparent of the request that started it; empty when it brought none."""
    priority: int = DEFAULT_PRIORITY
    """0 to 9: who is first among the runs of its flow."""
    queued: bool = False
    """Whether it had to wait for a limit of its flow: it begins with `RunAdmitted`."""
    parent_run: str = ""
    """The run that began it; empty when none did."""
    parent_step: str = ""
    """The step of that run; empty when the run as a whole did."""
    depth: int = 0
    """Runs above it."""
    failure_of: str = ""
    """The run whose failure it, or a run above it, was begun to hear of."""
    origin: Origin | None = None
    """None: it was just started."""
    pins: tuple[tuple[str, str], ...] = ()
    """Ids of steps, each with the version of its node that is called whatever the flow and the route say."""
    only_step: OnlyStep | None = None
    """None: the whole flow."""
    trigger_type: str = ""
    """Type of `trigger`; empty: webhook, where there is one."""
    scheduled_for: datetime | None = None
    """The moment that the schedule of `trigger` names; None: it has none."""
    faults: FaultPlan | None = None
    """Of a test run, perhaps without any; None: it is no test."""

    @property
    def attempt(self) -> int:
        """At the whole run, from 1."""
        return self.origin.attempt if self.origin is not None else 1


@dataclass(frozen=True, slots=True)
class RunAdmitted:
    """A run that was queued may begin."""

    time: datetime


@dataclass(frozen=True, slots=True)
class OutcomeKept:
    """What became of a step in the origin stands in this run too; it is not done again.

    Nothing moves by it: once the walk reaches the step, a `StepSettled` says that the outcome was used.
    """

    step: StepPath
    state: StepState
    run_id: str
    """The run in which it happened."""
    output: Json | None = None
    failure: Failure | None = None
    skip_reason: SkipReason | None = None
    attempts: int = 0
    """As expressions see it; so is `version`."""
    version: str = ""
    items_digest: bytes = b""
    """Of the items of the iterations around it: it stands for these only. Empty outside of `foreach`."""
    cost_nanos: int | None = None
    """What it cost there (`reflux.core.cost`)."""
    owed: bool = False
    """The origin was to undo it, and surely or perhaps has not."""
    acted: bool | None = None
    """It, or in a loop a step of it, may have had an outside effect there; None: the journal is older."""
    failed_outcome: Outcome | None = None
    """Of the last attempt of the step in which its failure arose; None without one, and in older journals."""
    failed_attempts: int = 0
    """How many attempts that step had."""


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An attempt was sent, or is about to be when its class is not pure. A pure one writes it when slow."""

    step: StepPath
    attempt: int
    generation: int
    assignment: Assignment
    time: datetime
    input_digest: bytes = b""
    limit: timedelta | None = None
    """How long it may take, by its step or else by the versions it can meet; None in older journals."""


@dataclass(frozen=True, slots=True)
class EffectClaimed:
    """A node version got the right to act."""

    step: StepPath
    attempt: int
    execution_id: str
    scope: str
    node_version: str
    key_ttl: timedelta | None = None
    """How long the provider keeps the key, as the claimer says; None: it did not."""


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """The outcome of an attempt, and what follows from it."""

    step: StepPath
    attempt: int
    generation: int
    outcome: Outcome
    state: StepState
    assignment: Assignment
    start_time: datetime
    finish_time: datetime
    output: Json | None = None
    failure: Failure | None = None
    retry_at: datetime | None = None
    counted: bool = True
    """Whether it uses up one of the step's attempts; an orchestrator's death does not."""
    next_version: str = ""
    """When RETRYING: who is asked next, because this version could not; empty: as ever."""
    next_question: Question | None = None
    """When RETRYING an AMBIGUOUS effect: what is asked next; None: it is asked for again."""
    cost_nanos: int | None = None
    """What it cost, in billionths of a US dollar (`reflux.core.cost`); None: nobody told."""


@dataclass(frozen=True, slots=True)
class EffectAsked:
    """The version that claimed an effect of which nobody knows is asked about it."""

    step: StepPath
    attempt: int
    """The last attempt at the effect."""
    question: Question
    number: int
    """How often this has been asked of this effect, from 1."""
    node_version: str
    time: datetime


@dataclass(frozen=True, slots=True)
class EffectAnswered:
    """What is known of the effect then, and what follows. VOIDED makes the next attempt a new effect."""

    step: StepPath
    attempt: int
    question: Question
    number: int
    knowledge: Knowledge
    detail: str
    """In the words of who was asked, or why nobody answered."""
    state: StepState
    time: datetime
    output: Json | None = None
    failure: Failure | None = None
    retry_at: datetime | None = None
    next_version: str = ""
    next_question: Question | None = None
    answered: bool = True
    """Whether somebody did; else the call failed, or its orchestrator was lost."""
    acted: bool = False
    """As of `StepSettled`: the effect was found."""


@dataclass(frozen=True, slots=True)
class StepEntered:
    """A container began, with these of its branches; of a `try` and a `while`, each time one more begins."""

    step: StepPath
    branches: tuple[int, ...]
    time: datetime
    count: int = 0
    """Items of a foreach."""
    until: datetime | None = None
    """When a `wait` is over; of one for a signal, and of an approval: when it waits no longer."""
    key: str = ""
    """Of a wait for a signal: the correlation key; empty without one."""
    message: str = ""
    """Of an approval: what is asked."""
    who: tuple[str, ...] = ()
    """Of an approval: who is to answer, for people to see; nobody is refused by it."""


@dataclass(frozen=True, slots=True)
class StepSettled:
    """A step settled without calling a node, or its container did."""

    step: StepPath
    state: StepState
    time: datetime
    output: Json | None = None
    failure: Failure | None = None
    skip_reason: SkipReason | None = None
    kept: bool = False
    """The outcome is the one of its `OutcomeKept`; output and failure stand there."""
    signal: str = ""
    """Id of the signal that a wait took, which nobody else takes then."""
    left: Left = NOTHING_LEFT
    """By the run that the step had begun."""
    acted: bool = False
    """It FAILED although what it was to do is done: what it gave could not be kept."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody asked to cancel."""

    actor: str
    reason: str
    time: datetime
    recalled: bool = False
    """The parent goes on without the run: what waits for a person is not ended by that."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The total time of a container is over; of the run when `step` is empty."""

    step: StepPath
    time: datetime


@dataclass(frozen=True, slots=True)
class ChildRequested:
    """A run is to be begun: for a step, or, when `step` is empty, to hear that this one has failed."""

    step: StepPath
    run_id: RunId
    """The child's; made from what asks for it."""
    flow: str
    version: int
    """0: the one that is current when it begins."""
    detached: bool
    """Nobody waits for it."""
    time: datetime


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The run is durable; with a failure, which only the empty `step` has: it could not be begun."""

    step: StepPath
    run_id: RunId
    flow_name: str
    flow_version: int
    time: datetime
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ChildRecalled:
    """The child that a step waits for is cancelled, by a word written with this event."""

    step: StepPath
    run_id: RunId
    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class CompensationStarted:
    """The run ends badly, and undoes what it did: so many steps, the last one first."""

    count: int
    failure: Failure
    """Why; the `error` of compensations."""
    time: datetime


@dataclass(frozen=True, slots=True)
class RunRecovered:
    """Another orchestrator, or the same one anew, took the run over."""

    owner: str
    fencing_token: int
    time: datetime


@dataclass(frozen=True, slots=True)
class RunParked:
    """The run cannot go on without a person, whatever its steps say."""

    failure: Failure
    time: datetime


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run reached its end."""

    state: RunPhase
    time: datetime
    output: Json | None = None
    failure: Failure | None = None
    unresolved_effects: tuple[StepPath, ...] = ()
    uncompensated: tuple[StepPath, ...] = ()
    """Steps that should have been undone, and surely or perhaps are not."""


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """Somebody sent a signal. It is kept until a wait takes it (`StepSettled.signal`)."""

    word: str
    """Its id, which the sender knows: the same one again changes nothing."""
    name: str
    key: str
    """Waits of this key alone take it; empty: any wait for the name does."""
    payload: Json
    actor: str
    time: datetime


@dataclass(frozen=True, slots=True)
class StepAnswered:
    """Somebody approved or rejected what a step asks. `StepSettled` follows."""

    word: str
    step: StepPath
    approved: bool
    form: Json | None
    """Fits the form of the step; None when nothing was filled in."""
    actor: str
    comment: str
    time: datetime


@dataclass(frozen=True, slots=True)
class RunPaused:
    """Somebody paused the run: no step and no attempt begins until it is resumed."""

    word: str
    actor: str
    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class RunResumed:
    """Somebody let a paused run go on, or gave one in quarantine another chance."""

    word: str
    actor: str
    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class StepOverruled:
    """Somebody decided about a step. Unless it is done again, `StepSettled` follows."""

    word: str
    step: StepPath
    choice: Choice
    actor: str
    reason: str
    time: datetime
    version: str = ""
    """Of FALL_BACK: the version that is asked next."""


@dataclass(frozen=True, slots=True)
class RunTerminated:
    """Somebody ended the run at once. `RunFinished` follows."""

    word: str
    actor: str
    reason: str
    time: datetime


Event = (
    RunCreated
    | RunAdmitted
    | OutcomeKept
    | AttemptStarted
    | AttemptHeld
    | EffectClaimed
    | AttemptFinished
    | EffectAsked
    | EffectAnswered
    | StepEntered
    | StepSettled
    | CancelRequested
    | TimedOut
    | CompensationStarted
    | ChildRequested
    | ChildStarted
    | ChildRecalled
    | RunRecovered
    | RunParked
    | RunFinished
    | SignalReceived
    | StepAnswered
    | RunPaused
    | RunResumed
    | StepOverruled
    | RunTerminated
)
