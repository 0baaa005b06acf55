"""A run in memory: its state, and what is under way for it. The worker's notebook, one page per run."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reflux.core.names import RunId, StepPath
from reflux.core.state import Awaited, RunState
from reflux.orchestrator.fairness import Turn
from reflux.orchestrator.sending import Sent
from reflux.orchestrator.store.journal import Recorded, RunUpdate, ShardLease


@dataclass(slots=True, eq=False)
class ActiveRun:
    """A run in memory."""

    state: RunState
    lease: ShardLease
    next_seq: int
    shown: RunUpdate
    """What its row says, or will once everything submitted is committed."""
    unproven: bool = False
    """It was read and has made no progress since: until it does, its recoveries go on being counted."""
    calls: dict[StepPath, Sent] = field(default_factory=dict)
    held: int = 0
    """Attempts that wait for the commit of their start."""
    timer: asyncio.TimerHandle | None = None
    taken_over: bool = False
    """It was, and the walk that follows from it has not come to its end."""
    goes_on: bool = False
    """Its walk has more to do, in a later turn of the loop."""
    commits: int = 0
    """Submissions that are not committed yet."""
    newest: asyncio.Future[Recorded] | None = None
    indexed: Mapping[StepPath, Awaited] = field(default_factory=dict)
    """Its waits for signals under a key, as they are written or will be."""
    weight: int = 0
    """Bytes of its state that `Worker.bytes` counts."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """It is in memory no more."""
    begins_at: datetime | None = None
    """When a queued run may begin, if that is known: what its row says as long as it is queued."""
    settled: bool = False
    """It left because it is durably finished or parked: `state` then is what its journal says."""

    @property
    def id(self) -> RunId:
        """Its id."""
        return self.state.id

    @property
    def turn(self) -> Turn:
        """In whose turn something is done for it."""
        return Turn(self.state.created.flow_id, self.state.created.priority)
