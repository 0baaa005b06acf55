"""Partitions of `runs` and `journal` by the time in their ids: which there are, which there should be.

A span of time has a partition of both tables or of neither. What has none is in DEFAULT: runs that began
before partitions were made for their time, and those that outlived theirs. All spans begin at midnight UTC
and end at a multiple of the period after a Monday, so that whoever makes them makes the same ones; when the
period is changed, the next span is what lies between the last one and the next such moment.

What is done to partitions is done by functions of the database: one statement each, one at a
time, and none waits for a lock for long. `Refusal` says why nothing happened; nothing here is lost by coming
again later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.orchestrator.store.pool import fetch
from reflux.runtime.ids import first_id, time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reflux.runtime.postgres import Pool

AHEAD: Final = 2
"""Spans that are made before their time has come, beside the one that holds the present."""

MOST_MOVED: Final = 1_000
"""Runs, and a twentieth of the events, that one act moves while everybody waits."""

MOST_READ: Final = 64 << 20
"""Bytes of DEFAULT that attaching a partition reads while writers wait; above it DEFAULT is fenced first."""

FORGOTTEN_AT_ONCE: Final = 200
"""Runs looked at by one statement that deletes runs row by row."""

_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SOON: Final = timedelta(hours=1)
"""A span that begins so soon is treated as if it were the present: an id is made before it is written."""
_IN_THE_WAY: Final = (
    psycopg.errors.LockNotAvailable,  # somebody reads for long
    psycopg.errors.CheckViolation,  # somebody wrote into the span just now
    psycopg.errors.DuplicateObject,  # somebody else fences
    psycopg.errors.DuplicateTable,
)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A time between two moments, the second excluded."""

    first: datetime
    end: datetime

    @property
    def name(self) -> str:
        """What its partitions are called, after their table."""
        return self.first.strftime("%Y%m%d")


class Outcome(StrEnum):
    """What came of an act."""

    MADE = "made"
    DROPPED = "dropped"
    BUSY = "busy"
    """Somebody else is at it, or a lock was not free: come again."""
    TAKEN = "taken"
    """There is a table of that name: somebody else was faster."""
    LEFT = "left"
    """DEFAULT holds too much of the span: there it stays."""
    CROWDED = "crowded"
    """Too many runs of the span must be kept."""
    GONE = "gone"
    """There is no such partition any more."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What there is."""

    spans: tuple[Span, ...]
    """With partitions, oldest first."""
    fenced: bool
    """Somebody began to make a partition and went away: DEFAULT refuses a span that is still to come."""
    default_bytes: int
    now: datetime
    """By the database's clock: that of a process may be wrong by more than a retention."""


def wanted(known: Sequence[Span], now: datetime, period: timedelta) -> list[Span]:
    """The spans without partitions from the present one on, until `AHEAD` whole periods follow.

    `period` is a number of days.
    """
    at = _boundary(now, period)
    until = at + (AHEAD + 1) * period
    found: list[Span] = []
    while at < until:
        around = next((span for span in known if span.first <= at < span.end), None)
        if around is not None:
            at = around.end
            continue
        later = (span.first for span in known if span.first > at)
        end = min([_boundary(at, period) + period, *later])
        found.append(Span(at, end))
        at = end
    return found


def without(spans: Iterable[Span], before: datetime) -> list[Span]:
    """The times before a moment that have no partition: what of them there is, is in DEFAULT."""
    found: list[Span] = []
    at = _FIRST
    for span in sorted(spans):
        if at < min(span.first, before):
            found.append(Span(at, min(span.first, before)))
        at = max(at, span.end)
    if at < before:
        found.append(Span(at, before))
    return found


async def layout(pool: Pool) -> Layout:
    """The partitions there are.

    Raises:
        psycopg.Error: the database is away.
    """
    rows = await fetch(pool, "list_partitions", {})
    spans = [Span(time_of(str(first)), time_of(str(bound))) for first, bound, *_ in rows if first]
    *_, fenced, default_bytes, now = rows[0]
    return Layout(tuple(spans), fenced=fenced, default_bytes=default_bytes, now=now)


async def make(pool: Pool, span: Span, found: Layout) -> Outcome:
    """Make the partitions of a span: MADE, LEFT, BUSY or TAKEN.

    Raises:
        psycopg.Error: the database is away.
    """
    present = span.first <= found.now + _SOON
    large = found.default_bytes > MOST_READ
    if large and present:
        return Outcome.LEFT
    parameters: dict[str, object] = {"first": first_id(span.first), "bound": first_id(span.end)}
    try:
        if large:
            await _fence(pool, parameters)
        parameters |= {"name": span.name, "present": present, "most": MOST_MOVED}
        [(outcome,)] = await fetch(pool, "make_partition", parameters)
    except _IN_THE_WAY:
        outcome = Outcome.BUSY
    if large and await unfence(pool) is Outcome.BUSY:
        return Outcome.BUSY
    return Outcome(outcome)


async def _fence(pool: Pool, parameters: Mapping[str, object]) -> None:
    await fetch(pool, "fence_default", parameters)
    try:
        await fetch(pool, "validate_fence", {})
    except psycopg.errors.CheckViolation:
        await unfence(pool)  # something of the span is there already: it will be moved


async def unfence(pool: Pool) -> Outcome | None:
    """Let DEFAULT take everything again; BUSY when that must be tried again.

    Raises:
        psycopg.Error: the database is away.
    """
    try:
        await fetch(pool, "unfence_default", {})
    except psycopg.errors.LockNotAvailable:
        return Outcome.BUSY
    return None


async def drop(pool: Pool, span: Span, *, ended_before: datetime) -> tuple[Outcome, int]:
    """Drop the partitions of a span and forget its runs: DROPPED and how many, or CROWDED, BUSY, GONE and 0.

    Runs that have not ended, or only since `ended_before`, are moved to DEFAULT first.

    Raises:
        psycopg.Error: the database is away.
    """
    parameters = {"name": span.name, "ended_before": ended_before, "most": MOST_MOVED}
    try:
        [(outcome, forgotten)] = await fetch(pool, "drop_partition", parameters)
    except psycopg.errors.LockNotAvailable:
        return Outcome.BUSY, 0
    return Outcome(outcome), forgotten


async def forget(pool: Pool, span: Span, *, after: str, ended_before: datetime) -> tuple[int, str | None]:
    """Delete what ended before a time in one page of a span, row by row: how many, and where to go on.

    `after` is the id that ended the former page, or `first_id(span.first)`; None: this was the last page.

    Raises:
        psycopg.Error: the database is away.
    """
    parameters = {
        "after": after,
        "bound": first_id(span.end),
        "ended_before": ended_before,
        "limit": FORGOTTEN_AT_ONCE,
    }
    [(count, last)] = await fetch(pool, "forget_runs", parameters, prepare=False)
    return count, None if last is None else str(last)


def _boundary(time: datetime, period: timedelta) -> datetime:
    """The last boundary that is not after `time`."""
    return _MONDAY + (time - _MONDAY) // period * period
