"""The flow language: documents in, a compiled `Flow` or every problem at once out.

Compiling is pure and total. `model` is what comes out and what the walker walks. What a document means,
where the language leaves a choice:

**Order.** A step without `needs` waits for the step before it in its list, and only for that one, with join
`all_done`: list order is order and nothing more, since a failure that counts has already ended the scope. A
step with `needs` waits for exactly the steps it names, of its own list, earlier or later in it, with join
`all_success`. `needs: []` waits for nothing. A step is looked at once all it waits for have settled.

**Containers.** `if`, `switch` and `parallel` are steps with a state and an output of their own. A failure
inside ends the scope it is in (unless `on_error: continue`), then fails the container, whose own `on_error`
decides what follows.

**Reading other steps.** A step may be read only where it surely came before: it is waited for, directly or
through others, by the reader or by a container around the reader. A step whose `output` may be absent because
it, or a container around it that the reader is not inside, has `when`, is `disabled`, or is a branch of `if`
or `switch`, must be read with `.?`, `??` or `has()`. A failure that was let pass is not such a reason: what
reads that output fails and says so. `state`, `attempts`, `error` and `version` are always there; the last two
may be null.

**Scope of the language.** What belongs to the language and is not built yet is refused by name
(NOT_SUPPORTED_YET); what does not belong to it is refused with the nearest name that does (UNKNOWN_KEY).
Nothing is ignored.

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
    IfAction,
    Jitter,
    Join,
    NodeAction,
    OnError,
    ParallelAction,
    Retry,
    ReturnAction,
    Scope,
    ScopeId,
    SetAction,
    Step,
    SwitchAction,
    Timeouts,
    branches_of,
)
from reflux.core.flow.problems import Problem, ProblemCode, in_document_order, nearest
from reflux.core.flow.schema import Schema, SchemaProblem

__all__ = [
    "DOCUMENT_KEYS",
    "SERVER_KEYS",
    "Action",
    "CompileResult",
    "Container",
    "FailAction",
    "Flow",
    "IfAction",
    "Jitter",
    "Join",
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
    "SwitchAction",
    "Timeouts",
    "branches_of",
    "canonical",
    "compile_flow",
    "digest",
    "in_document_order",
    "nearest",
]
