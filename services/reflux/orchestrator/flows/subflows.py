"""What only a running system knows of the flows that a flow names: are they there, do they come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.errors import Defect, NotFound
from reflux.core.flow import FlowAction, Problem, ProblemCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core.flow import Flow, Subflow
    from reflux.orchestrator.flows.cache import FlowCache

MAX_LOOKED_AT: Final = 200
"""Flows that are followed for one plan; a cycle behind more than that is not found, and ends at its depth."""


async def subflow_problems(named: Sequence[Subflow], name: str, cache: FlowCache) -> list[Problem]:
    """Of the flow `name`: what it names and is not there, and what begins a run of it again.

    Raises:
        psycopg.Error: the database is away.
    """
    problems = []
    for each in named:
        problem = await _problem(each, name, cache)
        if problem is not None:
            problems.append(problem)
    return problems


async def _problem(named: Subflow, name: str, cache: FlowCache) -> Problem | None:
    by_failure = named.pointer.startswith("/spec/policies/")
    if named.flow == name:
        # A failure is told once: who hears of it tells nobody of his own.
        return None if by_failure else _cycle(named, [name])
    try:
        current = await cache.resolve(named.flow)
        flow = current.flow
        if named.version is not None:
            flow = await cache.get(current.flow_id, named.version)
    except NotFound as error:
        missing = (
            ProblemCode.UNKNOWN_FLOW if "FLOW_NOT_FOUND" in error.reason else ProblemCode.UNKNOWN_VERSION
        )
        return Problem(missing, named.pointer, error.message, "save it first, or name another one")
    except Defect as error:
        return Problem(ProblemCode.UNKNOWN_FLOW, named.pointer, error.message)
    way = None if by_failure else await _way_back(flow, name, cache)
    return None if way is None else _cycle(named, [named.flow, *way])


def _cycle(named: Subflow, way: list[str]) -> Problem:
    message = "this begins a run of this flow again: " + ", which begins ".join(way)
    return Problem(ProblemCode.FLOW_CYCLE, named.pointer, message, "use a loop, or split the flow")


async def _way_back(flow: Flow, name: str, cache: FlowCache) -> list[str] | None:
    """The flows from one to another, by what each would begin now."""
    ways: list[tuple[Flow, list[str]]] = [(flow, [])]
    seen: set[str] = set()
    while ways and len(seen) < MAX_LOOKED_AT:
        at, way = ways.pop()
        for action in (step.action for step in at.steps.values()):
            if not isinstance(action, FlowAction) or action.flow in seen:
                continue
            if action.flow == name:
                return [*way, name]
            seen.add(action.flow)
            try:
                following = await cache.resolve(action.flow)
            except (NotFound, Defect):
                continue  # the problem of that flow
            ways.append((following.flow, [*way, action.flow]))
    return None
