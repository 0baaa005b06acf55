"""The compiled form of a flow: what the walker walks.

`compile_flow` builds it; nothing here is ever half valid. Everything that the walker would have to look up
or work out is worked out once:

- A flow is a tree of **scopes**. The root scope holds the top list; every container step (`if`, `switch`,
  `parallel`, `try`) holds one scope per branch, in document order. A branch's number is its index in
  `branches_of(action)`, the number that the journal's `StepEntered` stores. A loop (`foreach`, `while`) holds
  one scope, its body, which is done once in each iteration.
- Steps are keyed by their ids, in document order, containers before what they contain. In a run a step has a
  path: its id, and before that the iterations around it (`reflux.core.state`).
- `Step.after` is the whole order: the steps of the *same* scope that must have settled first. Whether they
  were named by `needs` or come from the list order no longer matters, only `join` does.
- Every expression and template of a step is compiled. They see the roots `input`, `vars`, `steps`, `run`,
  `flow`, `trigger`, and only steps that surely come before.

What a container gives as its output stands in `reflux.core.containers`. The output of a run that meets no
`return` is what `spec.output` gives, or that of its last step.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NewType, TypeAlias, assert_never

from reflux.core.flow.limits import NO_LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.core.document import JsonValue
    from reflux.core.effect import EffectClass
    from reflux.core.expression import Expression, Template
    from reflux.core.flow.limits import Limits
    from reflux.core.flow.schema import Schema
    from reflux.core.flow.triggers import Trigger
    from reflux.core.names import StepPath

ScopeId = NewType("ScopeId", str)
"""`""` for the root, else `<container>/<branch number>`, e.g. `risk/0`."""


class Join(StrEnum):
    """What must be true of the steps waited for, once all of them have settled; else the step is SKIPPED.

    SKIPPED by its own `when`, by `disabled` or with its branch counts as success: the author meant it.
    SKIPPED by its join counts as failure, so that a failure travels down the graph.
    """

    ALL_SUCCESS = "all_success"  # none failed; the default with `needs`
    ALL_DONE = "all_done"  # nothing: order only; the default in list order
    ANY_SUCCESS = "any_success"  # at least one SUCCEEDED
    ONE_FAILED = "one_failed"  # at least one FAILED


class OnError(StrEnum):
    """What a step's failure does to the scope it is in."""

    FAIL = "fail"  # ends the scope, and so fails its container or the run
    CONTINUE = "continue"  # nothing: dependants run by their join


class Jitter(StrEnum):
    """How much of a delay is left to chance."""

    FULL = "full"  # anything between nothing and the delay
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed attempt is followed by another one.

    >>> Retry(attempts=4, delays=(timedelta(seconds=1),), jitter=Jitter.NONE).delay_before(4, 0.0)
    datetime.timedelta(seconds=4)
    """

    attempts: int = 1
    """Of all, the first included: 1 means no retry."""
    delays: tuple[timedelta, ...] = (timedelta(seconds=1),)
    """Before the second attempt, the third …; after the last one listed each is `factor` times the former."""
    factor: float = 2.0
    cap: timedelta = timedelta(seconds=30)
    """No delay is longer."""
    jitter: Jitter = Jitter.FULL
    on: frozenset[str] = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"})
    """gRPC canonical codes worth another attempt."""

    def delay_before(self, attempt: int, randomness: float) -> timedelta:
        """How long to wait before `attempt` (the first retry is 2); `randomness` is drawn from [0, 1).

        Raises:
            ValueError: the first attempt waits for nothing.
        """
        if attempt < 2:
            raise ValueError("only a retry waits")
        listed = self.delays[: attempt - 1][-1]
        repeats = max(0, attempt - 1 - len(self.delays))
        # Compared in floats: factor ** repeats may be far outside what a timedelta holds.
        seconds = min(listed.total_seconds() * self.factor**repeats, self.cap.total_seconds())
        return timedelta(seconds=seconds * (randomness if self.jitter is Jitter.FULL else 1.0))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one step. `None`: the node's own limit for an attempt, no limit for the total."""

    attempt: timedelta | None = None
    """One attempt; node steps only."""
    total: timedelta | None = None
    """From the start of the step to its settling: all attempts and delays, or all that a container holds."""


@dataclass(frozen=True, slots=True)
class Cache:
    """How long an output may be used again in place of a call."""

    ttl: timedelta
    key: Template | None
    """Gives what an output is found by; None: the input."""


@dataclass(frozen=True, slots=True)
class StepRoute:
    """How the calls of one step find their version, where it is not as the node's route says."""

    pin: str | None = None
    """The version that is called; it stands at the action too."""
    versions: tuple[tuple[str, int], ...] = ()
    """Versions and their basis points, by name; empty: those of the node's route."""
    sticky: Template | None = None
    """Gives the value whose calls stay with one version; None: what the node's route says."""
    fallback: tuple[str, ...] | None = None
    """Who is asked, in order, when the version that was chosen cannot; None: as the node's route says."""
    tries: int = 0
    """Of one attempt, at its version; 0: as the node's route says."""
    try_timeout: timedelta | None = None
    """Limit of each of them; None: as the node's route says."""

    @property
    def drawn(self) -> bool:
        """Whether the orchestrator chooses the version and pins it: the mesh knows nothing of this."""
        own = self.fallback is not None or self.tries or self.try_timeout is not None
        return bool(self.versions or own)


@dataclass(frozen=True, slots=True)
class Scope:
    """A list of steps that settles as one: the top list, or a branch of a container."""

    id: ScopeId
    container: StepPath | None
    """The step it is a branch of; None for the root."""
    branch: int
    """Its number among the container's branches; 0 for the root."""
    steps: tuple[StepPath, ...]
    """In list order. May be empty in a branch, never in the root."""

    @property
    def last(self) -> StepPath | None:
        """The step whose output is the scope's."""
        return self.steps[-1] if self.steps else None


@dataclass(frozen=True, slots=True)
class NodeAction:
    """Call a node."""

    node: str
    version: str | None
    """Pinned by `node@version`; None: the node's route chooses."""
    with_: Template
    """Gives the whole input; the node of a step without `with` receives `{}`."""


@dataclass(frozen=True, slots=True)
class IfAction:
    """Take the first branch when the condition (a bool) holds, else the second."""

    condition: Expression
    branches: tuple[Scope, Scope]


@dataclass(frozen=True, slots=True)
class SwitchAction:
    """Take the branch of the first condition that holds; none when none does."""

    conditions: tuple[Expression | None, ...]
    """One per branch; None is `else`, always the last."""
    branches: tuple[Scope, ...]


@dataclass(frozen=True, slots=True)
class ParallelAction:
    """Take all branches at once, until enough of them have succeeded; the others are then cancelled."""

    names: tuple[str, ...]
    """One per branch, in document order: the keys of the output."""
    branches: tuple[Scope, ...]
    needed: int
    """Branches that must succeed: all of them, 1 for `any`, or n."""


class ItemError(StrEnum):
    """What a failed iteration does to its foreach."""

    FAIL = "fail"  # fails it, and cancels the other iterations
    COLLECT = "collect"  # nothing: its place in the output holds the error


@dataclass(frozen=True, slots=True)
class ForeachAction:
    """Do the body once for each item of a list, so many at a time, in the list's order."""

    items: Template
    """Gives the list, from what is seen around the step."""
    name: str
    """What the body calls the item."""
    parallel: int
    """Iterations at once, at least 1."""
    on_item_error: ItemError
    result: Template | None
    """Gives an iteration's value in the output; None: the output of the body's last step."""
    body: Scope
    outside: frozenset[str] = frozenset()
    """Ids of the steps around it that an iteration reads: all that it is given of them."""


@dataclass(frozen=True, slots=True)
class WhileAction:
    """Do the body again and again while the condition (a bool) holds."""

    condition: Expression
    """Asked before each iteration; sees the steps of the former one, and `index`."""
    max: int
    """Iterations; when the condition still holds after them the step has FAILED."""
    result: Template | None
    """Gives the output, seen by the last iteration; None: the output of its last step."""
    body: Scope
    outside: frozenset[str] = frozenset()
    """As of a foreach."""


@dataclass(frozen=True, slots=True)
class TryAction:
    """Do the body; when it fails, the first handler whose condition holds; and in any case the last list.

    Branch 0 is the body, then come the handlers, then `finally`. A cancel, its own total time
    or one around it, and an effect that nobody knows are not caught, and `finally` does not come after them.
    """

    body: Scope
    conditions: tuple[Expression | None, ...]
    """One per handler; None holds always. They see `error`."""
    handlers: tuple[Scope, ...]
    last: Scope | None


@dataclass(frozen=True, slots=True)
class WaitAction:
    """Wait for a length of time, or until a point in time; one of the two is given."""

    duration: Template | None
    """Gives a text such as `10m`, or seconds."""
    until: Template | None
    """Gives a text as RFC 3339 has it."""


class OnTimeout(StrEnum):
    """What becomes of a step that has waited for too long for somebody."""

    FAIL = "fail"
    CONTINUE = "continue"  # a wait for a signal: it has SUCCEEDED, with the output null
    APPROVE = "approve"  # an approval: as if somebody had
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class SignalAction:
    """Wait for a signal; its payload is the output."""

    name: str
    key: Template | None
    """Gives a text: a signal that is sent to the key reaches this run without naming it."""
    timeout: timedelta | None
    """None: it waits for ever."""
    on_timeout: OnTimeout
    """FAIL or CONTINUE."""


@dataclass(frozen=True, slots=True)
class ApproveAction:
    """Ask a person; the output says what was answered, by whom and when."""

    form: Schema
    """Of what is filled in."""
    message: Template | None
    """Gives what is asked: a text, or a value that is shown as JSON."""
    who: Template | None
    """Gives a list of texts: who is to answer, for people to see."""
    timeout: timedelta | None
    on_timeout: OnTimeout
    """FAIL, APPROVE or REJECT."""


@dataclass(frozen=True, slots=True)
class FlowAction:
    """Begin a run of another flow, and wait for its end unless it is detached."""

    flow: str
    version: int | None
    """Pinned by `name@version`; None: the version that is current when the step's time comes."""
    with_: Template
    """Gives the input."""
    detached: bool


@dataclass(frozen=True, slots=True)
class Subflow:
    """A place where a flow names another one."""

    flow: str
    version: int | None
    pointer: str
    given: JsonValue
    """The input as it is written, templates in it."""
    at: str = ""
    """JSON pointer of the input in the document; of the step without one, empty where nobody writes it."""


@dataclass(frozen=True, slots=True)
class SetAction:
    """Give the step an output: an object."""

    value: Template


@dataclass(frozen=True, slots=True)
class ReturnAction:
    """End the run SUCCEEDED with this output. Never inside `parallel`."""

    value: Template


@dataclass(frozen=True, slots=True)
class FailAction:
    """Fail the step, with reason FAIL_STEP and a message for people."""

    message: Template
    """Gives a text, or a value that is shown as JSON."""
    code: str
    """gRPC canonical code; ABORTED when the flow names none."""


Loop: TypeAlias = ForeachAction | WhileAction
Container: TypeAlias = IfAction | SwitchAction | ParallelAction | TryAction | Loop
Asking: TypeAlias = SignalAction | ApproveAction
Called: TypeAlias = NodeAction | FlowAction
Action: TypeAlias = Called | Container | SetAction | WaitAction | Asking | ReturnAction | FailAction


def branches_of(action: Action) -> tuple[Scope, ...]:
    """The scopes inside a container, by branch number; none for a loop, whose body is no branch."""
    match action:
        case NodeAction():  # first, because it is most of them
            return ()
        case IfAction() | SwitchAction() | ParallelAction():
            return action.branches
        case TryAction():
            return (action.body, *action.handlers, *((action.last,) if action.last else ()))
        case ForeachAction() | WhileAction():
            return ()
        case FlowAction() | SetAction() | WaitAction() | ReturnAction() | FailAction():
            return ()
        case SignalAction() | ApproveAction():
            return ()
        case _:
            assert_never(action)


@dataclass(frozen=True, slots=True)
class Step:
    """A unit of a flow."""

    path: StepPath
    pointer: str
    """JSON pointer of the step in the document, e.g. `/spec/steps/0`."""
    name: str | None
    """For people; never used to find the step."""
    action: Action
    scope: ScopeId
    """The scope it stands in."""
    parent: StepPath | None
    """The container around it; None in the root."""
    branch: int
    """The container's branch it stands in; 0 in the root."""
    after: tuple[StepPath, ...]
    """Steps of the same scope that must have settled before this one is looked at."""
    dependants: tuple[StepPath, ...]
    """Steps of the same scope whose `after` names this one, in document order."""
    join: Join
    when: Expression | None
    """Gives a bool, evaluated when the join holds; false: SKIPPED."""
    retry: Retry
    timeout: Timeouts
    on_error: OnError
    disabled: bool
    """SKIPPED as soon as it is looked at; neither join nor `when` is asked."""
    result: Template | None = None
    """Maps what the action gave, with `self`; None: that itself is the output. A loop has its own."""
    effect: EffectClass | None = None
    """The class that its calls are made with; None: what the node says."""
    cache: Cache | None = None
    """Of a pure call; None: it is made each time."""
    route: StepRoute | None = None
    """How its calls find a version; None: as the node's route says."""
    credentials: tuple[tuple[str, str], ...] = ()
    """Names of the credentials of its calls, each after that of its slot; "" is the node's default slot."""
    compensation: Step | None = None
    """Calls the node that undoes it; its expressions see `self` and `error` beside what the step sees."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A compiled flow. Made by `compile_flow` only, immutable, shared by all runs of its version."""

    name: str
    digest: str
    """sha256 of the canonical spec, hexadecimal."""
    vars: Mapping[str, JsonValue]
    input_schema: Schema | None
    timeout: timedelta | None
    """Of a whole run."""
    root: Scope
    scopes: Mapping[ScopeId, Scope]
    """Every scope, the root included, in document order."""
    steps: Mapping[StepPath, Step]
    """Every step, in document order, a container before what it contains."""
    triggers: tuple[Trigger, ...]
    """What starts runs of it by itself."""
    limits: Limits = NO_LIMITS
    """When its runs may begin."""
    output: Template | None = None
    """Gives the output of a run that ends without `return`; None: that of the last step."""
    on_failure: Subflow | None = None
    """The flow that hears of a run of this one that ended FAILED."""
    search_key: Template | None = None
    """Gives what a run is found by, from its input; None: nothing."""

    def trigger(self, trigger_id: str) -> Trigger | None:
        """The trigger with this id, or None."""
        return next((trigger for trigger in self.triggers if trigger.id == trigger_id), None)
