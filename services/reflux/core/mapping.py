"""What others see of what a step, or a run, gave: `result` of a step, `output` of a flow.

The mapped value is what is journaled, counted and read; what it was made from is not kept. Whatever keeps it
from being made is a failure of the step whose effect, if it had one, is done.
"""

from collections.abc import Mapping
from typing import Final

from reflux.core import event as ev
from reflux.core.cost import dollars, total
from reflux.core.document import MAX_DOCUMENT_BYTES, Json, JsonValue
from reflux.core.expression import ExpressionError, Template
from reflux.core.flow.model import ForeachAction, WhileAction
from reflux.core.names import StepPath
from reflux.core.reasons import Reason
from reflux.core.state import MAX_RUN_BYTES, RunState, StepRun, no_room

_LOOPS: Final = ForeachAction | WhileAction


def mapped(
    state: RunState, path: StepPath, output: Json, version: str | None = None, cost_nanos: int | None = None
) -> Json | ev.Failure:
    """The output of a step whose action gave `output`, by this node version and at this cost; or why there is
    none.
    """
    run = state.steps[path]
    template = run.step.result
    if template is not None and not isinstance(run.step.action, _LOOPS):
        found = _made(
            template, {**state.values_of(path), "self": _self(run, output, version, cost_nanos)}, path
        )
        if isinstance(found, ev.Failure):
            return found
        output = found
    return output if state.stored + len(output.raw) <= MAX_RUN_BYTES else no_room(path)


def run_output(state: RunState) -> Json | ev.Failure | None:
    """What `spec.output` gives; None without one."""
    template = state.flow.output
    return None if template is None else _made(template, state.values, StepPath(""))


def _self(run: StepRun, output: Json, version: str | None, cost_nanos: int | None) -> dict[str, JsonValue]:
    called = version is not None
    return {
        "state": ev.StepState.SUCCEEDED.value,
        "attempts": len(run.finished) + called,
        "error": None,
        "version": version,
        "cost": dollars(total(run.cost_nanos, cost_nanos)),
        "output": output.value,
    }


def _made(template: Template, values: Mapping[str, JsonValue], path: StepPath) -> Json | ev.Failure:
    try:
        document = template.document(values)
    except ExpressionError as error:
        return ev.Failure("INVALID_ARGUMENT", Reason.EXPRESSION_FAILED, error.render(), step=path)
    size = len(document.raw)
    if size <= MAX_DOCUMENT_BYTES:
        return document
    what = f"the output of step {path}" if path else "the output of the run"
    message = f"{what} is {size} bytes; the limit is {MAX_DOCUMENT_BYTES}"
    return ev.Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=path)
