"""One step of a flow alone: what it is given instead of the run that would be around it.

It is given either the whole input of its node, or a *context*: what its expressions would see (`input`,
`steps`, and inside of loops the item and `index`). A context is taken from a run, as the step saw it there,
or written by hand; of a run only what the step can read is taken, because it is stored with the new run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.document import MAX_DOCUMENT_BYTES, Json
from reflux.core.errors import InvalidArgument, Refused, Violation
from reflux.core.event import StepState
from reflux.core.expression import ExpressionError
from reflux.core.flow.model import ForeachAction, NodeAction, WhileAction
from reflux.core.flow.problems import nearest
from reflux.core.flow.reads import reads_of
from reflux.core.names import StepPath
from reflux.core.origin import OnlyStep
from reflux.core.place import step_not_found
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from reflux.core.document import JsonValue
    from reflux.core.flow.model import Flow, Step
    from reflux.core.state import RunState

_SEEN = {"state": StepState.SUCCEEDED.value, "attempts": 1, "error": None, "version": None}
"""What is seen of a step that the context says no more of than its output."""


def step_of(flow: Flow, name: str) -> Step:
    """A step by its id.

    Raises:
        NotFound: STEP_NOT_FOUND, with the nearest name.
    """
    step = flow.steps.get(StepPath(name))
    if step is None:
        raise step_not_found(name, flow.steps, f"flow {flow.name}")
    return step


def given_input(step: Step, value: Json) -> OnlyStep:
    """The step with this input for its node.

    Raises:
        InvalidArgument: it calls no node.
    """
    if not isinstance(step.action, NodeAction):
        message = f"step {step.path} calls no node: give it a context instead of an input"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation("/input", message)])
    return OnlyStep(step.path, None, value)


def given_context(flow: Flow, step: Step, context: JsonValue) -> OnlyStep:
    """The step with what its expressions are to see, written by hand.

    Raises:
        InvalidArgument: the context is no object, or says what the step cannot see.
        NotFound: it has a step that is not in the flow.
    """
    known = ("input", "steps", *_names_around(flow, step))
    if not isinstance(context, dict):
        raise InvalidArgument(Reason.ARGUMENT_INVALID, "context: an object such as {input, steps}")
    for name in context:
        if name not in known:
            message = f"step {step.path} sees nothing called {name[:100]!r} that could be given; "
            message += nearest(name, known)
            violation = Violation(f"/context/{name[:100]}", message)
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message.rstrip("; "), violations=[violation])
    steps = context.get("steps", {})
    if not isinstance(steps, dict) or not all(isinstance(each, dict) for each in steps.values()):
        message = 'context.steps: an object such as {"open": {"output": …}}'
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
    for name in steps:
        step_of(flow, name)
    seen = {name: {**_SEEN, **each} for name, each in steps.items()}  # type: ignore[dict-item]
    return OnlyStep(step.path, _bounded(Json.of({**context, "steps": seen})))  # type: ignore[dict-item]


def recorded(origin: RunState, flow: Flow, step: Step, path: StepPath) -> OnlyStep:
    """The step with what it saw in a run: of a node the input that follows from it, else what it reads.

    Raises:
        Refused: STEP_NEVER_RAN, the run never came to the list it stands in; it may have it from another run.
        InvalidArgument: EXPRESSION_FAILED, its input cannot be made; DOCUMENT_TOO_LARGE.
    """
    run = origin.steps[path]
    if run.frame is None:
        message = f"run {origin.id} never came to step {path}: give an input or a context"
        if run.kept is not None:  # with the container around it
            message = (
                f"run {origin.id} keeps step {path} from run {run.kept.run_id}: execute it from that run"
            )
        raise Refused(Reason.STEP_NEVER_RAN, message, metadata={"run_id": origin.id, "step": path})
    values = origin.values_of(path)
    if isinstance(step.action, NodeAction):
        try:
            return OnlyStep(step.path, None, _bounded(step.action.with_.document(values)))
        except ExpressionError as error:
            message = f"what run {origin.id} knew does not give step {path} its input: {error.render()}"
            raise InvalidArgument(Reason.EXPRESSION_FAILED, message) from None
    reads = reads_of(flow, step)
    steps = values["steps"]
    assert isinstance(steps, dict), "what is seen of steps is by their ids"
    kept: dict[str, JsonValue] = {
        name: values[name] for name in ("input", *_names_around(flow, step)) if name in values
    }
    kept["steps"] = {name: seen for name, seen in steps.items() if reads.steps is None or name in reads.steps}
    return OnlyStep(step.path, _bounded(Json.of(kept)))


def _names_around(flow: Flow, step: Step) -> list[str]:
    """What the containers around a step add to what it sees."""
    names = ["error"]
    parent = step.parent
    while parent is not None:
        action = flow.steps[parent].action
        if isinstance(action, ForeachAction):
            names.append(action.name)
        if isinstance(action, ForeachAction | WhileAction):
            names.append("index")
        parent = flow.steps[parent].parent
    return list(dict.fromkeys(names))


def _bounded(document: Json) -> Json:
    """The document, if it can be stored.

    Raises:
        InvalidArgument: DOCUMENT_TOO_LARGE.
    """
    if len(document.raw) > MAX_DOCUMENT_BYTES:
        message = f"what the step is given is {len(document.raw)} bytes; the limit is {MAX_DOCUMENT_BYTES}"
        raise InvalidArgument(Reason.DOCUMENT_TOO_LARGE, message)
    return document
