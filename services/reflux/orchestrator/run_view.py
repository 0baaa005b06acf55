"""A run as people see it: the documents of `reflux.api.run.v1`, folded from its journal.

Inputs and outputs go into the answer byte for byte as they were journaled. Every step and run that has not
settled says why it waits, and until when if anybody knows.
"""

import asyncio
import dataclasses
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice
from typing import Any, Final

import orjson

from reflux.core import event as ev
from reflux.core.cost import dollars
from reflux.core.document import NULL, Json
from reflux.core.errors import InvalidArgument
from reflux.core.event import Assignment, RunPhase, StepState
from reflux.core.expression import ExpressionError
from reflux.core.faults import FaultPlan
from reflux.core.flow.model import (
    Action,
    ApproveAction,
    FailAction,
    FlowAction,
    ForeachAction,
    IfAction,
    NodeAction,
    ParallelAction,
    ReturnAction,
    SetAction,
    SignalAction,
    SwitchAction,
    TryAction,
    WaitAction,
    WhileAction,
)
from reflux.core.flow.searchkey import key_of
from reflux.core.names import RunId, StepPath
from reflux.core.state import Flight, RunState, StepRun
from reflux.core.word import unresolved
from reflux.orchestrator import codec, provenance, why_waiting
from reflux.orchestrator.caller import ABORTED
from reflux.orchestrator.evidence import evidence
from reflux.orchestrator.faulting import met_by
from reflux.orchestrator.operations.seen import seen_as
from reflux.orchestrator.words import view as words

STEPS_PAGE: Final = 1_000
"""Steps in one answer."""
SHOWN_BYTES: Final = 2 << 20
"""Of inputs and outputs in one answer about steps."""
SLICE_SECONDS: Final = 0.005
"""For so long a page of steps is made without letting others go on."""

_ACTIONS: Final[dict[type[Action], str]] = {
    NodeAction: "node",
    IfAction: "if",
    SwitchAction: "switch",
    ForeachAction: "foreach",
    WhileAction: "while",
    ParallelAction: "parallel",
    TryAction: "try",
    WaitAction: "wait",
    SignalAction: "wait",
    ApproveAction: "approve",
    SetAction: "set",
    ReturnAction: "return",
    FailAction: "fail",
    FlowAction: "flow",
}


def run_document(
    state: RunState,
    *,
    phase: RunPhase | None = None,
    queue: dict[str, Any] | None = None,
    parked: Collection[RunId] = (),
) -> bytes:
    """A Run. `phase`, `queue` (`waiting` and `queue` of a queued run) and `parked` (runs of its steps that
    wait for a person) say more than the journal does.
    """
    created, finished = state.created, state.finished
    output = finished.output if finished else None
    return _dump(
        {
            "id": state.id,
            "flow_id": created.flow_id,
            "flow_name": created.flow_name,
            "flow_version": created.flow_version,
            "state": (phase or state.phase).value,
            "input": orjson.Fragment(created.input.raw),
            "output": orjson.Fragment(output.raw) if output else None,
            "error": _error(_run_failure(state)),
            "create_time": stamp(created.time),
            "finish_time": stamp(finished.time) if finished else None,
            "waiting": _waiting(why_waiting.of_run(state, parked)),
            # A run in quarantine is PARKED while its steps are not: what a person would end it with is shown.
            "unresolved_effects": list(
                unresolved(state) if state.quarantine and not finished else state.unresolved_effects
            ),
            "uncompensated": list(finished.uncompensated) if finished else [],
            "parent": _parent(created),
            "failure_run_id": _failure_run(state),
            "failure_run_error": _error(state.error_flow_refused),
            "actor": created.actor,
            "trigger": created.trigger,
            "priority": created.priority,
            "queue": None,
            "origin": _origin(created),
            "versions": dict(created.pins),
            "key": _key(state),
            "fingerprint": seen_as(state, _run_failure(state)) or "",
            "pause": words.pause(state, stamp),
            "cost": dollars(state.cost_nanos),
            **_test(created.faults),
            **(queue or {}),
        }
    )


def approval_document(state: RunState, path: StepPath) -> bytes:
    """A ShownApproval."""
    run = state.steps[path]
    return _dump(
        {
            "flow_name": state.created.flow_name,
            "step": path,
            "state": run.state.value,
            "approval": words.approval(run, stamp),
            "run_id": state.id,
            "run_state": state.phase.value,
        }
    )


async def steps_document(
    state: RunState,
    first: int = 0,
    limit: int = STEPS_PAGE,
    next_page_token: str = "",
    *,
    heard: provenance.Heard | None = None,
    parked: Collection[RunId] = (),
) -> bytes:
    """A page of the StepRuns of a run; inputs and outputs as long as there is room for them.

    An input is worked out, which may take 50 ms, so others have their turn in between; and once one did not
    fit, no more are. The state must not change meanwhile.
    """
    steps, room, is_full = [], SHOWN_BYTES, False
    clock = asyncio.get_running_loop().time
    since = clock()
    for path, run in islice(state.steps.items(), first, first + limit):
        step = _step(state, path, run, parked)
        step["attempts"] = [
            attempt | provenance.account(state.id, path, attempt, heard) for attempt in step["attempts"]
        ]
        output = run.output or NULL
        omitted = len(output.raw) > room or (is_full and _has_input(run))
        if not omitted:
            given = _input(state, path, run)
            omitted = len(given.raw) + len(output.raw) > room
            is_full = is_full or omitted
        if omitted:
            step["omitted"] = True
        else:
            room -= len(given.raw) + len(output.raw)
            step |= {"input": orjson.Fragment(given.raw), "output": orjson.Fragment(output.raw)}
        steps.append(step)
        if clock() - since > SLICE_SECONDS:
            await asyncio.sleep(0)
            since = clock()
    return _dump({"steps": steps, "next_page_token": next_page_token})


def event_document(seq: int, time: datetime, event: ev.Event) -> bytes:
    """A RunEvent."""
    return _dump(_event(seq, time, event))


def events_document(events: Iterable[tuple[int, datetime, ev.Event]], next_page_token: str) -> bytes:
    """A page of RunEvents."""
    page = [_event(seq, time, event) for seq, time, event in events]
    return _dump({"events": page, "next_page_token": next_page_token})


def stamp(time: datetime | None) -> str | None:
    """RFC 3339 in UTC, e.g. `2026-01-31T12:00:00.123456Z`."""
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _dump(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document)


def _test(plan: FaultPlan | None) -> dict[str, Any]:
    rules = plan.rules if plan is not None else ()
    return {
        "test": plan is not None,
        "faults": [str(rule) for rule in rules],
        "seed": plan.seed if plan is not None else "",
    }


def _parent(created: ev.RunCreated) -> dict[str, Any] | None:
    return {"run_id": created.parent_run, "step": created.parent_step} if created.parent_run else None


def _failure_run(state: RunState) -> str:
    """The run that hears of the failure; empty when there is none, or it could not be begun."""
    told = state.error_flow
    return told.run_id if told is not None and state.error_flow_refused is None else ""


def _origin(created: ev.RunCreated) -> dict[str, Any] | None:
    origin = created.origin
    if origin is None:
        return None
    return {
        "operation": origin.operation.value,
        "run_id": origin.run_id,
        "steps": list(origin.steps),
        "flow_version": origin.flow_version,
        "kept": origin.kept,
        "attempt": origin.attempt,
    }


def _key(state: RunState) -> str:
    """What it is found by: worked out again, as it was when it began."""
    try:
        return key_of(state.flow, state.created.input) or ""
    except InvalidArgument:
        return ""  # it began before a later rule would have refused it


def _run_failure(state: RunState) -> ev.Failure | None:
    if state.finished:
        return state.finished.failure
    if state.quarantine:
        return state.quarantine
    if state.phase is RunPhase.PARKED:
        return state.steps[next(iter(state.parked))].failure
    return None


def _step(state: RunState, path: StepPath, run: StepRun, parked: Collection[RunId]) -> dict[str, Any]:
    step = run.step
    action = step.action
    attempts = [_attempt(finished, claimed=finished.attempt in run.claims) for finished in run.finished]
    if run.flight is not None:
        attempts.append(_flight(run.flight))
    for attempt in attempts:
        attempt["override"] = provenance.own_way(run.step.route)
        attempt["faults"] = [str(fault) for fault in met_by(state, path, attempt["attempt"])]
    return {
        "id": path,
        "name": step.name or "",
        "action": _ACTIONS[type(action)],
        "node": action.node if isinstance(action, NodeAction) else "",
        "state": run.state.value,
        "input": None,
        "output": None,
        "error": _error(run.failure) if run.state is not StepState.SUCCEEDED else None,
        "skip_reason": run.skip_reason.value if run.skip_reason else "",
        "attempts": attempts,
        "waiting": _waiting(why_waiting.of_step(state, path, run, parked)),
        "start_time": stamp(run.start_time),
        "finish_time": stamp(run.finish_time),
        "compensates": run.undoes or "",
        "child_run_id": (run.child or "") if run.child_began else "",
        "omitted": False,
        "kept_from": run.kept.run_id if run.kept else "",
        "cost": dollars(run.cost_nanos),
        "approval": words.approval(run, stamp),
        "signal": words.awaited_signal(state, path, run),
        "evidence": evidence(run, stamp),
    }


def _has_input(run: StepRun) -> bool:
    """Whether the step received something: it calls a node or begins a run, and was reached."""
    match run.step.action:
        case NodeAction():
            return run.attempt > 0
        case FlowAction():
            return run.child is not None
        case _:
            return False


def _input(state: RunState, path: StepPath, run: StepRun) -> Json:
    """What the step received, worked out again from what it could see; null before it was reached."""
    action = run.step.action
    if not isinstance(action, NodeAction | FlowAction) or not _has_input(run):
        return NULL
    try:
        return action.with_.document(state.values_of(path))
    except ExpressionError:
        return NULL


def _attempt(finished: ev.AttemptFinished, *, claimed: bool) -> dict[str, Any]:
    return {
        "attempt": finished.attempt,
        "outcome": finished.outcome.value,
        **_assignment(finished.assignment),
        "claimed": claimed,
        "error": _error(finished.failure, finished.outcome),
        "cost": dollars(finished.cost_nanos),
        "start_time": stamp(finished.start_time),
        "finish_time": stamp(finished.finish_time),
    }


def _flight(flight: Flight) -> dict[str, Any]:
    started = flight.started
    return {
        "attempt": started.attempt,
        "outcome": "",
        **_assignment(started.assignment),
        "claimed": flight.claim is not None,
        "error": None,
        "cost": None,
        "start_time": stamp(started.time),
        "finish_time": None,
    }


def _assignment(assignment: Assignment) -> dict[str, Any]:
    return {
        "effect": assignment.effect.value,
        "lane": assignment.lane.value,
        "draw": assignment.draw,
        "chosen": assignment.chosen,
        "weight": assignment.weight,
        "revision": assignment.revision,
        # A fault of the test spoke in the place of that version.
        "answered_by": "" if assignment.flags == ABORTED else assignment.answered_by,
        "reason": assignment.reason,
        "tries": assignment.tries,
        "flags": assignment.flags,
        "batch_id": assignment.batch_id,
        "sticky": assignment.sticky.hex(),
    }


def _error(failure: ev.Failure | None, outcome: ev.Outcome | None = None) -> dict[str, Any] | None:
    if failure is None:
        return None
    error: dict[str, Any] = {
        "code": failure.code,
        "reason": failure.reason,
        "message": failure.message,
        "step": failure.step,
        "retryable": failure.retryable,
    }
    if outcome is not None:
        error["outcome"] = outcome.value
    return error


def _waiting(waiting: why_waiting.Waiting | None) -> dict[str, Any] | None:
    return None if waiting is None else {"why": waiting.why, "until": stamp(waiting.until)}


def _event(seq: int, time: datetime, event: ev.Event) -> dict[str, Any]:
    data = {field.name: _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}
    return {
        "seq": seq,
        "time": stamp(time),
        "kind": codec.kind_of(event),
        "step": data.pop("step", ""),
        "data": data,
    }


def _plain(value: object) -> object:
    """A fact's field as JSON."""
    match value:
        case Json():
            return orjson.Fragment(value.raw)
        case datetime():
            return stamp(value)
        case timedelta():
            return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
        case bytes():
            return value.hex()
        case Enum():
            return value.value
        case tuple():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value
