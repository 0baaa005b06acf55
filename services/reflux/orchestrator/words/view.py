"""Words in the documents of `run_view`: what is asked, what is awaited, who has paused."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

import orjson

from reflux.core.flow.model import ApproveAction, SignalAction
from reflux.core.names import StepPath
from reflux.core.state import Awaited, RunState, StepRun

Stamp: TypeAlias = Callable[[datetime | None], str | None]
"""How times are written."""


def why_awaited(awaited: Awaited, run: StepRun) -> str:
    """Why a step waits for somebody."""
    if awaited.signal:
        key = f" with the key {awaited.key}" if awaited.key else ""
        return f"waits for the signal {awaited.signal}{key}"
    who = run.asked.who if run.asked is not None else ()
    return f"waits for an answer of {', '.join(who)}" if who else "waits for an answer"


def why_paused(state: RunState) -> str:
    """Who has paused the run, and why."""
    assert state.paused is not None, "only a paused run says who paused it"
    reason = f": {state.paused.reason}" if state.paused.reason else ""
    return f"paused by {state.paused.actor}{reason}"


def pause(state: RunState, stamp: Stamp) -> dict[str, Any] | None:
    """A Pause."""
    if state.paused is None or state.finished is not None:
        return None
    paused = state.paused
    return {"actor": paused.actor, "reason": paused.reason, "time": stamp(paused.time)}


def approval(run: StepRun, stamp: Stamp) -> dict[str, Any] | None:
    """An Approval; None for any other step, and before it asks."""
    action = run.step.action
    if not isinstance(action, ApproveAction) or run.asked is None:
        return None
    return {
        "message": run.asked.message,
        "form": orjson.Fragment(orjson.dumps(action.form.source)),
        "who": list(run.asked.who),
        "until": stamp(run.asked.until),
        "answered_by": run.answer.actor if run.answer is not None else "",
        "approved": run.answer.approved if run.answer is not None else False,
        "answer_time": stamp(run.answer.time if run.answer is not None else None),
        "comment": run.answer.comment if run.answer is not None else "",
    }


def awaited_signal(state: RunState, path: StepPath, run: StepRun) -> dict[str, Any] | None:
    """An AwaitedSignal; None for any other step, and when it does not wait."""
    if not isinstance(run.step.action, SignalAction) or path not in state.awaited:
        return None
    awaited = state.awaited[path]
    return {"name": awaited.signal, "key": awaited.key}
