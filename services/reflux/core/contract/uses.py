"""What the steps of a flow give to nodes, and read of what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.flow.model import NodeAction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.core.document import JsonValue
    from reflux.core.flow.compiler import CompileResult
    from reflux.core.flow.model import Step
    from reflux.core.flow.outputreads import OutputRead


@dataclass(frozen=True, slots=True)
class NodeUse:
    """One step, or compensation, that calls a node."""

    step: str
    node: str
    routed: bool
    """The node's route says which version answers: the step names neither one nor shares of its own."""
    given: JsonValue
    """Its `with` as it is written, templates in it."""
    at: str
    """JSON pointer of `with`; of the step when it has none."""
    reads: tuple[OutputRead, ...]
    """Of what the node answers."""


def uses_of(result: CompileResult) -> tuple[NodeUse, ...]:
    """The uses of a compiled document, in its order; steps that are disabled call nobody."""
    return tuple(_use(step, result) for step in result.calls if not step.disabled)


def _use(step: Step, result: CompileResult) -> NodeUse:
    action = step.action
    assert isinstance(action, NodeAction), "calls are node steps"
    own_shares = step.route is not None and bool(step.route.versions)
    written = step.path in result.inputs
    return NodeUse(
        step.path,
        action.node,
        routed=action.version is None and not own_shares,
        given=result.inputs[step.path] if written else {},
        at=f"{step.pointer}/with" if written else step.pointer,
        reads=tuple(_reads(step, result)),
    )


def _reads(step: Step, result: CompileResult) -> Iterator[OutputRead]:
    for read in result.reads:
        if read.step == step.path and read.raw == (step.result is not None):
            yield read
