"""Who calls a method: what the edge and the caller's own trace say, in the metadata of the call."""

from __future__ import annotations

from typing import Any

from reflux.core.trace import valid_traceparent


def actor(context: Any) -> str:
    """Who asks, as the edge says; without an edge nobody has checked."""
    return _header(context, "x-reflux-actor") or "anonymous"


def traceparent(context: Any) -> str:
    """The caller's own span; empty when there is none."""
    return valid_traceparent(_header(context, "traceparent"))


def _header(context: Any, name: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return str(value)
    return ""
