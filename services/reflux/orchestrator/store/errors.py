"""What may happen to a write, by what its owner must do then.

reflux.core.errors
├── Unavailable
│   ├── LeaseLost      this member is not alive any more: drop every run, join anew
│   ├── ShardLost      nothing was written, the shard has another owner: drop its runs
│   ├── Undecided      nothing was begun for this request, and who has its handle is not known yet: ask again
│   ├── CommitUnknown  it may or may not have been written: drop every run, join anew, read them again
│   └── Stopped        nothing was written, this writer is closing
├── Exhausted          nothing was written, the queue is full
└── Defect
    └── RowRefused     nothing was written, the database will never take it: read the run again, park it
"""

from __future__ import annotations

from reflux.core.errors import Defect, Unavailable
from reflux.core.reasons import Reason


class LeaseLost(Unavailable):
    """A heartbeat found no living member under this id."""

    def __init__(self) -> None:
        super().__init__(Reason.NOT_ACCEPTING, "this orchestrator has lost its lease")


class ShardLost(Unavailable):
    """Another owner holds the shard; nothing was written."""

    def __init__(self, shard: int) -> None:
        super().__init__(Reason.NOT_ACCEPTING, f"this orchestrator does not own shard {shard} any more")
        self.shard = shard


class Undecided(Unavailable):
    """Another request holds the handle, and its run is not known; nothing was begun for this one."""

    def __init__(self) -> None:
        super().__init__(Reason.NOT_ACCEPTING, "the run of this request_id is not known yet")


class CommitUnknown(Unavailable):
    """The connection broke while the statement ran; only the tables know whether it was committed."""

    def __init__(self) -> None:
        super().__init__(Reason.NOT_ACCEPTING, "the database went away before it confirmed the write")


class Stopped(Unavailable):
    """The writer closed before this was sent; nothing was written."""

    def __init__(self) -> None:
        super().__init__(Reason.NOT_ACCEPTING, "this orchestrator is stopping")


class RowRefused(Defect):
    """The database refuses this one write whatever else is written with it; the cause says why."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INTERNAL, message)
