"""`transform.execute@1.0.0`: a function body in JavaScript, pure by construction."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import grpc
from pydantic import Field, JsonValue

from reflux.core.errors import InvalidArgument
from reflux.nodes.transform_execute.sandbox import Problem, Sandbox, SandboxBroken, SandboxBusy
from reflux.runtime import documents
from reflux.sdk import Context, EffectClass, Full, Model, NodeFault, Reason, TargetFault, node

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from reflux.runtime.settings import Settings

MAX_TIMEOUT_MS: Final = 10_000

_KINDS: Final = {
    "failed": (grpc.StatusCode.FAILED_PRECONDITION, Reason.SCRIPT_FAILED),
    "output": (grpc.StatusCode.OUT_OF_RANGE, Reason.OUTPUT_TOO_LARGE),
    "time": (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.SCRIPT_LIMIT),
}
_OTHER_LIMIT: Final = (grpc.StatusCode.FAILED_PRECONDITION, Reason.SCRIPT_LIMIT)


class Input(Model):
    """A script and what it works on."""

    code: str = Field(
        min_length=1,
        max_length=65_536,
        description="Body of a JavaScript function of `input`: `return input.items.length`. `await` works.",
    )
    input: JsonValue = Field(default=None, description="Any JSON value; the script's `input`.")
    timeout_ms: int = Field(
        default=1000, ge=1, le=MAX_TIMEOUT_MS, description="Milliseconds the script may run."
    )


class Output(Model):
    """What the script returned and wrote."""

    result: JsonValue = Field(description="What it returned; null when it returned nothing.")
    logs: list[str] = Field(description="What it wrote with `console`, at most 200 lines.")


def open_sandbox(_settings: Settings) -> AbstractAsyncContextManager[Sandbox]:
    """The pool this process keeps warm."""
    return Sandbox()


@node(
    "transform.execute",
    "1.0.0",
    effect=EffectClass.PURE,
    attempt_timeout=timedelta(seconds=30),
    max_concurrency=64,
    batchable=True,
    resources=open_sandbox,
)
async def execute(given: Input, ctx: Context[Sandbox]) -> Output:
    """Runs JavaScript on JSON, in a sandbox without network, files or modules.

    `code` is the body of a function: `return input.items.map(i => i.price * 2)`. A script that throws fails
    with SCRIPT_FAILED and its line; one that uses up its time, 64 MiB of memory or its stack with
    SCRIPT_LIMIT.
    """
    seconds = given.timeout_ms / 1000
    try:
        reply = await ctx.resources.run(given.code, given.input, seconds=seconds, budget=ctx.budget)
    except SandboxBusy as error:
        # Not a deadline that passes: that would count as an illness, and one flow's scripts eject the node.
        raise Full(str(error)) from error
    except SandboxBroken as error:
        raise NodeFault(grpc.StatusCode.UNAVAILABLE, str(error)) from error
    if reply.problem is not None:
        raise _fault(reply.problem, reply.logs)
    try:
        result = documents.parse_json((reply.result or "null").encode(), what="the result")
    except InvalidArgument as error:
        raise _fault(Problem("failed", error.message), reply.logs) from None
    return Output(result=result, logs=reply.logs)


def _fault(problem: Problem, logs: list[str]) -> TargetFault:
    """The script is what the input names: its failure is nobody else's."""
    metadata = {"kind": problem.kind}
    place = ""
    if problem.line is not None and problem.column is not None:
        metadata |= {"line": str(problem.line), "column": str(problem.column)}
        place = f" (line {problem.line}, column {problem.column})"
    if logs:
        metadata["last_log"] = logs[-1]
    code, reason = _KINDS.get(problem.kind, _OTHER_LIMIT)
    return TargetFault(code, problem.message + place, reason=reason, metadata=metadata)
