"""Runs that go on from others, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reflux.core.command import StartAttempt
from reflux.core.fork import ForkPlan, plan_fork, plan_retry
from reflux.core.names import StepPath
from reflux.core.run import evolve
from tests.support.walk import Answer, Walk

if TYPE_CHECKING:
    from reflux.core.flow import Flow

Answers = Mapping[str, Sequence[Answer]] | Callable[[StartAttempt], Answer] | None


def begun(plan: ForkPlan, flow: Flow, answers: Answers = None, given: Any = None) -> Walk:
    """A new run with what the plan keeps, before its first step."""
    walk = Walk(flow, answers if answers is not None else {}, given)
    for event in plan.kept:
        evolve(walk.state, event)
        walk.journal.append(event)
    return walk


def forked(
    origin: Walk, point: str, answers: Answers = None, *, flow: Flow | None = None, given: Any = None
) -> Walk:
    """The run that goes on from a step, walked to its end; its replay gives the same."""
    target = flow or origin.flow
    given = origin.input if given is None else given
    walk = begun(plan_fork(origin.state, target, StepPath(point)), target, answers, given).run()
    _same(walk)
    return walk


def retried(origin: Walk, answers: Answers = None, *, flow: Flow | None = None) -> Walk:
    """The run that does again what failed, walked to its end."""
    target = flow or origin.flow
    walk = begun(plan_retry(origin.state, target), target, answers, origin.input).run()
    _same(walk)
    return walk


def calls(walk: Walk) -> list[str]:
    """The steps whose node was called, in order."""
    return [command.step for command in walk.started]


def _same(walk: Walk) -> None:
    again = walk.replayed()
    assert {path: run.state for path, run in again.steps.items()} == {
        path: run.state for path, run in walk.state.steps.items()
    }
    assert again.stored == walk.state.stored
