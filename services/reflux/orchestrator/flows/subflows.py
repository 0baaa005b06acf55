"""What only a running system knows of the flows that a flow names.

Are they there, do they come back, and do they take what they are given? Of an input only what is constant is
judged, as in `plan`. Who hears of a failure is always given the same shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.contract import refused
from reflux.core.errors import Defect, NotFound
from reflux.core.flow import FlowAction, Problem, ProblemCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.core.flow import CompileResult, Flow, Subflow
    from reflux.orchestrator.flows.cache import FlowCache

MAX_LOOKED_AT: Final = 200
"""Flows that are followed for one plan; a cycle behind more than that is not found, and ends at its depth."""


async def subflow_problems(result: CompileResult, name: str, cache: FlowCache) -> list[Problem]:
    """Of the flow `name`: what it names and is not there, does not take its input, or begins it again.

    Raises:
        psycopg.Error: the database is away.
    """
    return [
        problem for each in result.subflows for problem in await _problems(each, name, result.flow, cache)
    ]


async def _problems(named: Subflow, name: str, planned: Flow | None, cache: FlowCache) -> list[Problem]:
    by_failure = not named.at
    if named.flow == name and not by_failure:
        return [_cycle(named, [name])]
    if named.flow == name and named.version is None:
        # No cycle: a failure is told once, and who hears of it tells nobody of his own.
        return [] if planned is None else list(_misfits(named, planned))
    try:
        current = await cache.resolve(named.flow)
        flow = current.flow
        if named.version is not None:
            flow = await cache.get(current.flow_id, named.version)
    except NotFound as error:
        missing = (
            ProblemCode.UNKNOWN_FLOW if "FLOW_NOT_FOUND" in error.reason else ProblemCode.UNKNOWN_VERSION
        )
        return [Problem(missing, named.pointer, error.message, "save it first, or name another one")]
    except Defect as error:
        return [Problem(ProblemCode.UNKNOWN_FLOW, named.pointer, error.message)]
    way = None if by_failure else await _way_back(flow, name, cache)
    return [*_misfits(named, flow), *([] if way is None else [_cycle(named, [named.flow, *way])])]


def _misfits(named: Subflow, flow: Flow) -> Iterator[Problem]:
    """What of the input the flow does not take, whatever the templates in it give."""
    if flow.input_schema is None:
        return
    version = "" if named.version is None else f"@{named.version}"
    hint = f"the input of flow {named.flow}{version}"
    if not named.at:
        hint += " must have room for run_id, flow, error and input"
    for wrong in refused(flow.input_schema, named.given, named.at):
        where, message = wrong.pointer, wrong.message
        if not named.at:  # nobody has written it: the place is one of what is told
            message = f"it does not take what it is told of a failure: {where or 'the whole'}: {message}"
            where = named.pointer
        yield Problem(ProblemCode.INPUT_INVALID, where, message, hint)


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
