"""The index of those who wait for a signal under a key: what changes in it with a run's state.

The rows are written in the very statement that records the state, so a signal finds every wait that is
durable, and none that is not. A run without keyed waits, that is nearly every run, costs a look at two empty
dictionaries.
"""

from collections.abc import Mapping
from typing import NamedTuple

from reflux.core.names import StepPath
from reflux.core.state import Awaited, RunState


class WaitRow(NamedTuple):
    """A row to be written, or, without a name, to be removed."""

    step: StepPath
    name: str | None
    key: str


def keyed(state: RunState) -> dict[StepPath, Awaited]:
    """The waits of a run that its index shows."""
    return {path: awaited for path, awaited in state.awaited.items() if awaited.key}


def changed(indexed: Mapping[StepPath, Awaited], state: RunState) -> list[WaitRow]:
    """What must be written so that the index shows the run as it is."""
    if not indexed and not state.awaited:
        return []
    now = keyed(state)
    begun = [WaitRow(path, each.signal, each.key) for path, each in now.items() if path not in indexed]
    return begun + [WaitRow(path, None, "") for path in indexed if path not in now]
