"""Words to runs: cancel and, later, signals and approvals. Anybody may leave one, the owner folds it.

A word is durable when `put` returns. It reaches its owner by `wakeups.poll` (at most a second later, at once
with Redis), possibly more than once until it is folded: whoever folds it must bear to hear it again. It
leaves the inbox in the very statement that records what came of it (`Submission.words`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.errors import NotFound
from reflux.core.event import RunPhase
from reflux.core.reasons import Reason
from reflux.orchestrator.store.pool import fetch

if TYPE_CHECKING:
    from reflux.core.names import RunId
    from reflux.runtime.postgres import Pool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a word."""

    state: RunPhase
    """The run's state at that moment."""
    shard: int
    word: int | None
    """Id in the inbox; `None`: the run has finished, and nothing was left."""


async def put(pool: Pool, run_id: RunId, kind: str, payload: bytes = b"") -> Receipt:
    """Leave a word for a run, wherever its owner is.

    Raises:
        NotFound: there is no such run.
        psycopg.Error: the database is away or refuses; the word may have been left.
    """
    rows = await fetch(pool, "put_word", {"run_id": run_id, "kind": kind, "payload": payload})
    if not rows:
        raise NotFound(Reason.RUN_NOT_FOUND, f"there is no run {run_id}", metadata={"run_id": run_id})
    state, shard, word = rows[0]
    return Receipt(RunPhase(state), shard, word)
