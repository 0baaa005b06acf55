"""Documents as the run service answers them, whole; a test changes what it is about."""

from __future__ import annotations

from typing import Any

RUN = "0193a1b2-c3d4-7000-8000-000000000001"
TIME = "2026-01-31T12:00:00.000000Z"
LATER = "2026-01-31T12:00:00.250000Z"


def a_run(state: str, **changes: Any) -> dict[str, Any]:
    """A Run as GetRun shows it."""
    finished = state in ("SUCCEEDED", "FAILED", "CANCELED")
    failed = state in ("FAILED", "PARKED")
    error = {
        "code": "UNAVAILABLE",
        "reason": "NODE_FAULT",
        "message": "it is ill",
        "step": "pay",
        "retryable": True,
    }
    return {
        "id": RUN,
        "flow_id": "0193a1b2-c3d4-7000-8000-00000000000f",
        "flow_name": "orders",
        "flow_version": 3,
        "state": state,
        "input": {},
        "output": {"total": 9007199254740993} if state == "SUCCEEDED" else None,
        "error": error if failed else None,
        "create_time": TIME,
        "finish_time": LATER if finished else None,
        "waiting": None if finished else {"why": "step pay: attempt 1 is in flight", "until": None},
        "unresolved_effects": [],
        "actor": "anonymous",
        **changes,
    }


def a_step(**changes: Any) -> dict[str, Any]:
    """A StepRun that calls a node."""
    return {
        "id": "pay",
        "name": "",
        "action": "node",
        "node": "http.request",
        "state": "SUCCEEDED",
        "input": {},
        "output": {},
        "error": None,
        "skip_reason": "",
        "attempts": [an_attempt()],
        "waiting": None,
        "evidence": None,
        "start_time": TIME,
        "finish_time": LATER,
        "omitted": False,
        **changes,
    }


def an_attempt(**changes: Any) -> dict[str, Any]:
    """An Attempt that went as its route wanted."""
    return {
        "attempt": 1,
        "outcome": "DONE",
        "effect": "pure",
        "lane": "broad",
        "draw": 7312,
        "chosen": "1.0.0",
        "weight": 9000,
        "revision": 4,
        "answered_by": "1.0.0",
        "reason": "weight",
        "tries": 1,
        "flags": "",
        "claimed": False,
        "error": None,
        "start_time": TIME,
        "finish_time": LATER,
        "batch_id": "",
        "probability": 0.9,
        "tried": [a_try(code="OK")],
        "tried_known": True,
        **changes,
    }


def a_try(**changes: Any) -> dict[str, Any]:
    """A Try of 1.0.0."""
    start = {"version": "1.0.0", "endpoint": "", "code": "", "flags": "", "start_time": TIME}
    return {**start, "duration": "0.001000s", **changes}


def an_event(seq: int, kind: str, step: str = "", **data: Any) -> dict[str, Any]:
    """A RunEvent."""
    return {"seq": seq, "time": TIME, "kind": kind, "step": step, "data": data}


def finished(seq: int, state: str = "SUCCEEDED") -> dict[str, Any]:
    """The event that ends a run."""
    return an_event(
        seq, "RunFinished", state=state, time=TIME, output=None, failure=None, unresolved_effects=[]
    )


CREATED = an_event(1, "RunCreated", flow_name="orders", flow_version=3, actor="anonymous", input={})
SETTLED = an_event(2, "StepSettled", "pay", state="SUCCEEDED", failure=None, skip_reason=None, output={})
