"""Keeps the tables in order: partitions are made before their time comes, and runs forgotten after theirs.

Every orchestrator does it, at its start and then now and then; the database lets one act at a time. A pass
looks at what there is and does what is missing, so it does not matter who did what before, how far somebody
got who was killed, or how often an act was answered 'busy'.

A run is forgotten `retention` after its end:

- A partition whose whole span is older goes as a whole, at the cost of a catalog change. Runs in it that
  have not ended, or ended later, move to DEFAULT first. When they are too many for that, they stay, and the
  others are deleted row by row.
- What is in DEFAULT is deleted row by row.

Without partitions everything still works, from DEFAULT: upkeep may fail for weeks and costs only order.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.orchestrator import metrics
from reflux.orchestrator.store import partitions
from reflux.orchestrator.store.partitions import Layout, Outcome, Span
from reflux.orchestrator.store.pool import BREATH_SECONDS
from reflux.runtime import logs
from reflux.runtime.ids import first_id
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from datetime import datetime

    from reflux.runtime.postgres import Pool

PAUSE_SECONDS: Final = 600.0
"""Between two passes; each orchestrator waits a random share of it more, so that they take turns."""
RETRY_SECONDS: Final = 5.0
"""After a pass that found somebody in its way; twice as long after each further one."""
LONGEST_DAYS: Final = 30
"""Of one partition."""

log = logs.get_logger("upkeep")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say."""

    period: timedelta
    """Of runs in one partition; whole days."""
    retention: timedelta | None
    """After the end of a run; None: for ever."""

    @classmethod
    def of_days(cls, retention: int) -> Terms:
        """A retention of 0 days is none.

        Every statement that looks for runs of any age looks into each partition: of a retention there are
        some ten, whatever it is; without one they are twelve a year.
        """
        if not retention:
            return cls(timedelta(days=LONGEST_DAYS), None)
        return cls(timedelta(days=min(LONGEST_DAYS, max(1, retention // 4))), timedelta(days=retention))


class Upkeep:
    """Somebody must `run` it."""

    def __init__(self, pool: Pool, terms: Terms) -> None:
        self._pool = pool
        self._terms = terms
        self._spans = 0

    async def run(self) -> None:
        """Pass after pass until cancelled, through every loss of the database."""
        retry = RETRY_SECONDS
        with metrics.PARTITIONS.watched(lambda: {(): self._spans}):
            for _ in forever():
                try:
                    done = await self.once()
                except (psycopg.Error, OSError, TimeoutError) as error:
                    done = False
                    log.warning("upkeep_failed", error=str(error) or type(error).__name__)
                pause = PAUSE_SECONDS * (1 + random.random()) if done else min(retry, PAUSE_SECONDS)  # noqa: S311
                retry = RETRY_SECONDS if done else 2 * retry
                await asyncio.sleep(pause)

    async def once(self) -> bool:
        """One pass; whether nothing stood in its way.

        Raises:
            psycopg.Error: the database is away.
        """
        found = await partitions.layout(self._pool)
        # First of all: while the fence stands, what belongs behind it is refused.
        done = not found.fenced or await partitions.unfence(self._pool) is None
        done = done and await self._make(found)
        if self._terms.retention is not None:
            done = await self._forget(found.now - self._terms.retention) and done
        self._spans = len((await partitions.layout(self._pool)).spans)
        return done

    async def _make(self, found: Layout) -> bool:
        done = True
        for span in partitions.wanted(found.spans, found.now, self._terms.period):
            outcome = await partitions.make(self._pool, span, found)
            self._note(outcome, span)
            done = done and outcome is not Outcome.BUSY
        return done

    async def _forget(self, before: datetime) -> bool:
        """Drops what is old as a whole, then deletes what is old elsewhere."""
        done = True
        crowded: list[Span] = []
        for span in (await partitions.layout(self._pool)).spans:
            if span.end > before:
                break
            outcome, forgotten = await partitions.drop(self._pool, span, ended_before=before)
            self._note(outcome, span, forgotten)
            metrics.RUNS_FORGOTTEN.at().add(forgotten)
            done = done and outcome is not Outcome.BUSY
            if outcome is Outcome.CROWDED:
                crowded.append(span)
        left = (await partitions.layout(self._pool)).spans
        for span in [*partitions.without(left, before), *crowded]:
            after: str | None = first_id(span.first)
            while after is not None:
                count, after = await partitions.forget(self._pool, span, after=after, ended_before=before)
                metrics.RUNS_FORGOTTEN.at().add(count)
                await asyncio.sleep(BREATH_SECONDS)
        return done

    def _note(self, outcome: Outcome, span: Span, forgotten: int = 0) -> None:
        metrics.PARTITION_CHANGES.at(outcome.value).add()
        log.info("partition", outcome=outcome.value, span=span.name, forgotten=forgotten)
