"""The flow language: documents in, a compiled `Flow` or every problem at once out.

Compiling is pure and total. `model` is what comes out and what the walker walks. What a document means,
where the language leaves a choice:

**Order.** A step without `needs` waits for the step before it in its list, and only for that one, with join
`all_done`: list order is order and nothing more, since a failure that counts has already ended the scope. A
step with `needs` waits for exactly the steps it names, of its own list, earlier or later in it, with join
`all_success`. `needs: []` waits for nothing. A step is looked at once all it waits for have settled.

**Containers** are steps with a state and an output of their own. A failure inside ends the list it is in
(unless `on_error: continue`), then fails the container, whose own `on_error` decides what follows; but:

- `parallel` with `join: any` or a number goes on while enough branches can still succeed, and is over as soon
  as enough have: the others are cancelled, and give null.
- `foreach` with `on_item_error: collect` goes on; the failed item's place in the output is `{"error": …}`.
- `try` gives the failure to the first `catch` whose `when` holds, and does `finally` after the body and its
  handler, whatever came of them. A failure in `finally` goes over every other. A cancel, its own
  `timeout` or one around it, and an effect that nobody knows are not caught, and `finally` does not come
  after them, nor go on when it has begun. What must be done after a timeout belongs to a `try` whose body
  holds the step that has it.
- `while` fails when its condition still holds after `max` iterations.

Nothing ends over an effect that nobody knows: a race is not won, and an item not collected, before a person
has said what became of it. `return` ends the run, so it is not allowed where something goes on beside it or
must come after it: in `parallel`, in `foreach`, in a `try` with `finally`.

**What a step gives.** `result` maps what its action gave (`self.output`), and others see that; of `foreach`
it gives the value of an iteration, of `while` that of the last one. A container's `result` may read the steps
of its branches. `spec.output` maps what a run gives that ends without `return`, from all that was there. What
cannot be mapped fails the step, or the run, and is not done again. `effect` declares a class that allows more
than the node's own, for the calls of this step alone.

**What failed.** `error` of a handler, `error` of a step and the `error` of a collected item say the same of
a failure: `code`, `reason`, `message`, whether it is `retryable`, the `step` in which it arose, the `outcome`
of that step's last attempt (`NOT_SENT`, `NO_EFFECT`, `AMBIGUOUS` or `DONE`; null without one),
and its `attempts`. The `error` of what undoes a step is the failure of the run: without the last two.

**Undoing.** `compensate` names the node that undoes a step. When the run ends FAILED or CANCELED, what was
done is undone, the last step first; a failure that is caught undoes nothing (`reflux.core.compensation`).

**Using outputs again.** `cache` of a pure node step gives an output that the same input, or the same `key`,
was answered with within `ttl`: of the same flow, step, node and versions. Nothing depends on it.

**Credentials.** `credentials` of a node step names with what its calls prove who they come from; the secret
itself is known where the node runs, and nowhere here (`stepcredentials`).

**Other flows.** A `flow` step begins a run of another flow and waits for its end, or with `wait: detached`
gives the id of that run; `policies.on_failure` names the flow that hears of a failure
(`reflux.core.children`).

**Reading other steps.** A step may be read only where it surely came before: it is waited for, directly or
through others, by the reader or by a container around the reader. A step whose `output` may be absent because
it, or a container around it that the reader is not inside, has `when`, is `disabled`, has a `join` that may
not hold where nothing failed, or is a branch of `if` or `switch`, of a `parallel` that can be won without it,
or of a `try`, must be read with `.?`, `??` or `has()`; not so by a step that is skipped with it. A failure
that was let pass is not such a reason: what reads that output fails and says so. A step of a loop happens
many times: outside the loop's `result` is read, inside only the same iteration; `while` asks its condition
about the iteration before. `state`, `attempts`, `error`, `version` and `cost` are always there; the last
three may be null. `cost` is in US dollars, of a container that of the steps in it; null means that no node
told (`reflux.core.cost`).

**Scope of the language.** What does not belong to it is refused with the nearest name that does
(UNKNOWN_KEY); nothing is ignored.

**Older spellings** are read, and rewritten in the spec that is saved (`spelling`).
"""

from reflux.core.flow.compiler import (
    DOCUMENT_KEYS,
    SERVER_KEYS,
    CompileResult,
    canonical,
    compile_flow,
    digest,
)
from reflux.core.flow.model import (
    Action,
    Container,
    FailAction,
    Flow,
    FlowAction,
    ForeachAction,
    IfAction,
    ItemError,
    Jitter,
    Join,
    Loop,
    NodeAction,
    OnError,
    ParallelAction,
    Retry,
    ReturnAction,
    Scope,
    ScopeId,
    SetAction,
    Step,
    Subflow,
    SwitchAction,
    Timeouts,
    TryAction,
    WaitAction,
    WhileAction,
    branches_of,
)
from reflux.core.flow.problems import Problem, ProblemCode, in_document_order, nearest
from reflux.core.flow.schema import Schema, SchemaProblem, written_out

__all__ = [
    "DOCUMENT_KEYS",
    "SERVER_KEYS",
    "Action",
    "CompileResult",
    "Container",
    "FailAction",
    "Flow",
    "FlowAction",
    "ForeachAction",
    "IfAction",
    "ItemError",
    "Jitter",
    "Join",
    "Loop",
    "NodeAction",
    "OnError",
    "ParallelAction",
    "Problem",
    "ProblemCode",
    "Retry",
    "ReturnAction",
    "Schema",
    "SchemaProblem",
    "Scope",
    "ScopeId",
    "SetAction",
    "Step",
    "Subflow",
    "SwitchAction",
    "Timeouts",
    "TryAction",
    "WaitAction",
    "WhileAction",
    "branches_of",
    "canonical",
    "compile_flow",
    "digest",
    "in_document_order",
    "nearest",
    "written_out",
]
