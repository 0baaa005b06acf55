"""The roots of expressions: what a name at the front of a reference means."""

from __future__ import annotations

from typing import Final

ROOTS: Final = ("input", "vars", "steps", "run", "flow", "trigger")
"""Read everywhere."""
INDEX: Final = "index"
"""Number of the iteration, from 0; read inside loops."""
RESERVED_ROOTS: Final = frozenset({*ROOTS, INDEX, "self", "error", "request", "inputs", "nodes"})
"""No item of a foreach may be called so; the last two are older names of others."""
RUN_ERROR_FIELDS: Final = ("code", "reason", "message", "retryable", "step")
"""Of the failure of a run, which undoing and `policies.on_failure` are told."""
ERROR_FIELDS: Final = (*RUN_ERROR_FIELDS, "outcome", "attempts")
"""Of the failure of a step."""
STEP_FIELDS: Final = ("output", "state", "error", "attempts", "version", "cost")
FIELDS: Final = {
    "run": ("id", "started_at", "attempt"),
    "flow": ("name", "version"),
    "trigger": ("id", "type", "scheduled_for"),
    "error": ERROR_FIELDS,
    "self": STEP_FIELDS,
}
