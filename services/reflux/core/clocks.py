"""The clocks of total times: of containers in progress, and of the run.

A clock stands while a person is waited for: that of a container, and of the run, from the moment a step
inside is PARKED until no step inside is; all of them from the moment the run is put in quarantine until
somebody gives it another chance. What the clock had left then it has left afterwards, so nothing times out
over a person's thinking, nor at the moment of the decision.

A pause by hand stops no clock: whoever pauses a run knows its limits, and may resume it in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from reflux.core.names import StepPath
    from reflux.core.state import RunState


def stop(state: RunState, paths: Iterable[StepPath], time: datetime) -> None:
    """Nothing passes for these from now on; one that stands already goes on standing from when it did."""
    for path in paths:
        if path in state.deadlines:
            state.stopped.setdefault(path, time)


def go_on(state: RunState, time: datetime) -> None:
    """Sets going whatever has no more reason to stand, with the time that it had left."""
    if state.quarantine is not None:
        return
    for path in [path for path in state.stopped if path not in state.parked_in]:
        since = state.stopped.pop(path)
        if path in state.deadlines and time > since:
            state.deadlines[path] += time - since
