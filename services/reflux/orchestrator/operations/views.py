"""The documents of `reflux.api.operation.v1` that OperationService answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from reflux.orchestrator.operations.forks import Forked, Going

SHOWN: Final = 1_000
"""Steps of each kind in one plan."""


def plan(going: Going, forked: Forked) -> dict[str, Any] | None:
    """A ForkPlan."""
    if forked.plan is None:
        return None
    kept, anew = forked.plan.kept, forked.plan.anew
    return {
        "run_id": going.run_id,
        "from_steps": list(forked.plan.points[:SHOWN]),
        "flow_version": forked.flow_version,
        "kept": [
            {
                "step": each.step,
                "state": each.state.value,
                "run_id": each.run_id,
                "changed": each.step.rpartition("/")[2] in forked.changed,
            }
            for each in kept[:SHOWN]
        ],
        "kept_count": len(kept),
        "anew": [
            {
                "step": each.step,
                "why": each.why.value,
                "state": each.state.value,
                "repeats_effect": each.acted,
            }
            for each in anew[:SHOWN]
        ],
        "anew_count": len(anew),
    }
