"""The run that a step had begun, as the one from which its next run goes on.

What a child does follows from what it is given. So the next one goes on from the former one only when it is
given the same: around its step stand the same items, and its input is equal. `run` and `flow` are left out of
that: they say who asks, and differ from one retry to the next.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from reflux.core.containers import items_of
from reflux.core.cut import split
from reflux.core.expression import ExpressionError
from reflux.core.flow.model import FlowAction, ForeachAction
from reflux.core.kept import items_digest
from reflux.core.origin import FormerChild
from reflux.core.state import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.core.document import JsonValue
    from reflux.core.flow.model import Flow
    from reflux.core.names import StepPath
    from reflux.core.state import RunState

_WHOEVER: Final[Mapping[str, JsonValue]] = {
    "run": {
        "id": "00000000-0000-7000-8000-000000000000",
        "started_at": "1970-01-01T00:00:00+00:00",
        "attempt": 1,
    },
    "flow": {"name": "whichever", "version": 1},
}
"""Stands for the run that asks."""


def given_digest(state: RunState, path: StepPath, action: FlowAction) -> bytes:
    """sha256 of what the child of a step is given; empty when its input cannot be evaluated."""
    return _digest(state, path, action, state.values_of(path))


class Formers:
    """The children of one origin, seen from the flow version with which to go on."""

    def __init__(self, origin: RunState, target: Flow) -> None:
        self._origin = origin
        self._target = target
        self._items: dict[StepPath, list[JsonValue]] = {}

    def waits(self, path: StepPath) -> bool:
        """Whether the step begins a run there, and waits for it."""
        step = self._target.steps.get(split(path)[1])
        return step is not None and isinstance(step.action, FlowAction) and not step.action.detached

    def of(self, path: StepPath) -> FormerChild | None:
        """The child that a step had begun; None where the next one is given something else, or is none."""
        run = self._origin.steps[path]
        here, there = run.step.action, self._target.steps[split(path)[1]].action
        if run.child is None or not run.child_began or not self.waits(path):
            return None
        assert isinstance(here, FlowAction), f"{path} has begun a run"
        assert isinstance(there, FlowAction), f"{path} waits for a run"
        given = given_digest(self._origin, path, here)
        if self._target is not self._origin.flow:
            values = {**self._origin.values_of(path), "vars": dict(self._target.vars)}
            if given != _digest(self._origin, path, there, values) or not self._same_items(path):
                return None
        return FormerChild(run.child, given) if given else None

    def _same_items(self, path: StepPath) -> bool:
        """Whether each `foreach` around it has the same item there in the other version."""
        frame = self._origin.steps[path].frame
        while frame is not None and frame.container != ROOT:
            run = self._origin.steps[frame.container]
            if isinstance(run.step.action, ForeachAction):
                items, index = self._items_of(frame.container), frame.index
                if len(items) <= index or items[index] != frame.values[run.step.action.name]:
                    return False
            frame = run.frame
        return True

    def _items_of(self, container: StepPath) -> list[JsonValue]:
        """What a `foreach` goes through in the other version; nothing where that cannot be evaluated."""
        if container not in self._items:
            action = self._target.steps[split(container)[1]].action
            assert isinstance(action, ForeachAction), "it stands in the same place in both versions"
            values = {**self._origin.values_of(container), "vars": dict(self._target.vars)}
            try:
                self._items[container] = items_of(action, values)
            except ExpressionError:
                self._items[container] = []
        return self._items[container]


def _digest(state: RunState, path: StepPath, action: FlowAction, values: Mapping[str, JsonValue]) -> bytes:
    try:
        document = action.with_.document({**values, **_WHOEVER})
    except ExpressionError:
        return b""
    return sha256(items_digest(state, path) + document.raw).digest()
