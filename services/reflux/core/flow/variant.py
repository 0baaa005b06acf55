"""A flow version as one run walks it: with other node versions in some steps, or one step of it alone.

A run names the flow version it was made with, and stores how it differs; the flow it walks is worked out from
the two, and is always the same. Nothing is compiled or saved for it.

Of a step that stands alone everything inside comes along. What only has a meaning among other steps does not
count for it: its order, its join, its `when`, and that it is disabled. Nor does what the flow says of whole
runs: their input's schema and search key, their output, who hears of their failures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reflux.core.expression import Template
from reflux.core.flow.model import (
    ForeachAction,
    Join,
    NodeAction,
    Scope,
    ScopeId,
    WhileAction,
    branches_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reflux.core.document import JsonValue
    from reflux.core.flow.model import Flow, Step
    from reflux.core.names import StepPath
    from reflux.core.origin import OnlyStep

_ROOT = ScopeId("")


def variant(flow: Flow, pins: Sequence[tuple[str, str]], only: OnlyStep | None) -> Flow:
    """What a run of `flow` walks.

    Raises:
        ValueError: a step that is named is not in the flow, or calls no node where it must.
    """
    if pins:
        flow = replace(flow, steps={**flow.steps, **dict(_pinned(flow, pins))})
    return flow if only is None else _alone(flow, only)


def context_of(only: OnlyStep | None) -> dict[str, JsonValue]:
    """What the expressions of a step that stands alone see beside what every run has.

    Raises:
        ValueError: it is no object, or its `steps` are none.
    """
    if only is None or only.values is None:
        return {}
    values = only.values.value
    if not isinstance(values, dict) or not isinstance(values.get("steps", {}), dict):
        raise ValueError(f"the context of step {only.step} is no object, or its steps are none")  # noqa: TRY004 - a wrong journal
    return {**values, "steps": dict(values.get("steps", {}))}  # type: ignore[arg-type]


def inside(flow: Flow, step: Step) -> Iterator[Step]:
    """A step and everything in it, in document order."""
    yield step
    action = step.action
    scopes = (action.body,) if isinstance(action, ForeachAction | WhileAction) else branches_of(action)
    for scope in scopes:
        for name in scope.steps:
            yield from inside(flow, flow.steps[name])


def _pinned(flow: Flow, pins: Sequence[tuple[str, str]]) -> Iterator[tuple[StepPath, Step]]:
    steps = {str(path): step for path, step in flow.steps.items()}
    for name, version in pins:
        step = steps.get(name)
        if step is None or not isinstance(step.action, NodeAction):
            raise ValueError(f"flow {flow.name} has no step {name} that calls a node")
        yield step.path, replace(step, action=replace(step.action, version=version))


def _alone(flow: Flow, only: OnlyStep) -> Flow:
    step = flow.steps.get(only.step)
    if step is None:
        raise ValueError(f"flow {flow.name} has no step {only.step}")
    steps = {each.path: each for each in inside(flow, step)}
    action = step.action
    if only.given is not None:
        if not isinstance(action, NodeAction):
            raise ValueError(f"step {only.step} calls no node that could be given an input")
        # Data, not written by an author: a `{{` in it is nothing to evaluate.
        action = replace(action, with_=Template(only.given.value, None, ()))
    steps[only.step] = replace(
        step,
        action=action,
        scope=_ROOT,
        parent=None,
        branch=0,
        after=(),
        dependants=(),
        join=Join.ALL_DONE,
        when=None,
        disabled=False,
    )
    root = Scope(_ROOT, None, 0, (only.step,))
    known = {scope.id for each in steps.values() for scope in _scopes(each)}
    scopes = {_ROOT: root, **{name: flow.scopes[name] for name in flow.scopes if name in known}}
    return replace(
        flow,
        root=root,
        scopes=scopes,
        steps=steps,
        input_schema=None,
        search_key=None,
        output=None,
        on_failure=None,
    )


def _scopes(step: Step) -> tuple[Scope, ...]:
    action = step.action
    return (action.body,) if isinstance(action, ForeachAction | WhileAction) else branches_of(action)
