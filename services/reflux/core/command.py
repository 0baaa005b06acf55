"""What the walker wants done. `Record` and `Piece` are pure bookkeeping; only the others touch the world."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from reflux.core.document import Json, JsonValue
from reflux.core.effect import EffectClass
from reflux.core.event import ChildRequested, EffectAsked, Event
from reflux.core.names import StepPath


@dataclass(frozen=True, slots=True)
class Record:
    """Fold this event and journal it."""

    event: Event


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Call the step's node once and hand the result to `attempt.settle`."""

    step: StepPath
    attempt: int
    generation: int
    node: str
    version: str | None
    """The version the call is pinned to; None when the node's route chooses."""
    input: Json
    attempt_timeout: timedelta | None
    """None: the node version's own default."""
    total_deadline: datetime | None
    """When the step's total time is over."""
    cache_key: Json | None = None
    """By what an earlier output is found, for `cache_ttl`; None: the call is made."""
    cache_ttl: timedelta = timedelta(0)
    versions: tuple[tuple[str, int], ...] = ()
    """Of the step itself: versions and their basis points; the draw chooses. Empty: the node's route."""
    sticky: Json | None = None
    """Of the step itself: calls with this value stay with one version. None: what the node's route says."""
    own_sticky: bool = False
    """The step says what is sticky: when that is nothing, the node's route is not asked."""
    effect: EffectClass | None = None
    """The class that the step declares for it; None: the weakest that the call can meet."""
    fallback: bool = False
    """It goes to `version` because another one could not."""
    drawn: bool = False
    """The mesh does not choose: among `versions`, or without them the targets of the node's route, we do."""
    tries: int = 0
    """Of the step itself: how often its version is tried; 0: as the node's route says."""
    try_timeout: timedelta | None = None
    """Of the step itself: the limit of each try."""
    credentials: tuple[tuple[str, str], ...] = ()
    """Names of credentials, each after that of its slot."""


@dataclass(frozen=True, slots=True)
class AskEffect:
    """Fold and journal the question; once durable, ask it and hand the answer to `resolving.answered`."""

    asked: EffectAsked
    node: str
    input: Json
    """Of the call whose effect is meant."""
    credentials: tuple[tuple[str, str], ...] = ()
    """Of that call."""


@dataclass(frozen=True, slots=True)
class StartChild:
    """Fold and journal the request; once it is durable, begin the run that it names with this input."""

    requested: ChildRequested
    input: Json


@dataclass(frozen=True, slots=True)
class Piece:
    """The value of one of many expressions that a decision takes: remember it (`run.put`), ask again.

    Each of them may take its 50 ms, so each is a decision, between which a walk may stop. None is journaled:
    they follow from what is, and whoever takes the run over works them out again.
    """

    step: StepPath
    value: JsonValue
    room: int
    """What the values of the step may still weigh together (`expression.Room`)."""


Command = Record | Piece | StartAttempt | StartChild | AskEffect
