"""What is due, found from the tables alone: the floor under Redis, asked for once a second.

Nothing is taken away by asking: a timer stays due until its run's row has another `wake_at`, a word until it
is folded. So an answer that gets lost costs a second, never a timer; whoever asks says what it has in hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reflux.core.names import RunId
from reflux.orchestrator.store import arrays
from reflux.orchestrator.store.pool import fetch

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from reflux.orchestrator.store.journal import ShardLease
    from reflux.runtime.postgres import Pool

PAGE: Final = 1_000
"""Most timers, and most words, of one answer."""
WINDOW: Final = 20_000
"""The oldest timers that are due, among which flows take turns."""
_NOW: Final = timedelta()


@dataclass(frozen=True, slots=True)
class Timer:
    """A run that waited until `wake_at`."""

    run_id: RunId
    shard: int
    wake_at: datetime


@dataclass(frozen=True, slots=True)
class Word:
    """Something said to a run."""

    id: int
    run_id: RunId
    shard: int
    kind: str
    payload: bytes
    created_at: datetime
    signal: int | None = None
    """The signal that it is, if it is one that others may take instead."""


@dataclass(frozen=True, slots=True)
class Due:
    """Each at most `PAGE`: timers by turns of their flows, words oldest first."""

    timers: tuple[Timer, ...]
    words: tuple[Word, ...]

    @property
    def more(self) -> bool:
        """Whether there may be more right now: ask again at once."""
        return max(len(self.timers), len(self.words)) >= PAGE


async def words_of(pool: Pool, lease: ShardLease, run_id: RunId) -> list[Word]:
    """Everything that waits to be said to a run, oldest first; nothing of a shard that is not held."""
    place = {"shard": lease.shard, "token": lease.token, "run_id": run_id}
    rows = await fetch(pool, "find_words", place)
    return [Word(word, run_id, lease.shard, *rest) for word, *rest in rows]


async def poll(
    pool: Pool,
    leases: Collection[ShardLease],
    *,
    ahead: timedelta = _NOW,
    loaded: Collection[RunId] = (),
    taken: Collection[int] = (),
) -> Due:
    """What is due in the shards held under `leases`.

    Args:
        pool: of the orchestrator's schema.
        leases: of this orchestrator; a lost one yields nothing.
        ahead: how early timers are told, for a caller that waits for the rest of their time itself.
        loaded: runs in memory, whose timers the caller minds.
        taken: ids of words in hand.

    Raises:
        psycopg.Error: the database is away.
    """
    rows = await fetch(
        pool,
        "find_due",
        {
            "shards": arrays.int4s([lease.shard for lease in leases]),
            "tokens": arrays.int8s([lease.token for lease in leases]),
            "ahead": ahead,
            "loaded": arrays.uuids(loaded),
            "taken": arrays.int8s(list(taken)),
            "limit": PAGE,
            "window": WINDOW,
        },
        prepare=False,  # planned with its values: how many are loaded decides how they are left out
    )
    timers, words = [], []
    for run, shard, at, word, kind, payload, signal in rows:
        run_id = RunId(str(run))
        if word is None:
            timers.append(Timer(run_id, shard, at))
        else:
            words.append(Word(word, run_id, shard, kind, payload, at, signal))
    return Due(tuple(timers), tuple(words))
