"""How a run's failure is found again: its fingerprint, for the run's row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.fingerprint import fingerprint

if TYPE_CHECKING:
    from reflux.core.event import Failure
    from reflux.core.state import RunState


def seen_as(state: RunState | None, failure: Failure | None) -> str | None:
    """The fingerprint of a run's failure; of a run that cannot be read its flow is not known."""
    if failure is None:
        return None
    return fingerprint(state.created.flow_id if state is not None else "", failure)
