"""Counting the runs of a shard that changed hands: each death of an owner once.

The count is made by the statement that reads a page of runs, so a page that was answered is never asked for
again, however often the rest of it has to be tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reflux.orchestrator.store import runs

if TYPE_CHECKING:
    from reflux.orchestrator.store.members import Taken
    from reflux.orchestrator.store.runs import Adopted
    from reflux.runtime.postgres import Pool


@dataclass(slots=True)
class Adoption:
    """A new shard whose runs are being counted. What is interrupted goes on where it was."""

    taken: Taken
    adopted: list[Adopted] = field(default_factory=list)
    counted: bool = False
    """All of them."""

    async def count(self, pool: Pool) -> None:
        """Counts those that are not counted yet.

        Raises:
            psycopg.Error: the database is away. What it had not answered may be counted, and is once more.
        """
        if self.counted:
            return
        after = max((one.run_id for one in self.adopted), default=runs.BEFORE_ALL)
        async for page in runs.adopt(pool, self.taken.lease, died=self.taken.orphaned, after=after):
            self.adopted += page
        self.counted = True
