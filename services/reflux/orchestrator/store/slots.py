"""Limits of flows, as the tables keep them: what a new run asks for, and where a queued one stands.

The decisions are the functions of the migration `limits`, because they must be made under a lock and in
the transaction that begins a run or ends it. Here are the columns they are asked with, and what is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from reflux.core.errors import Exhausted
from reflux.core.flow.durations import format_duration
from reflux.core.reasons import Reason
from reflux.orchestrator import metrics
from reflux.orchestrator.store import arrays
from reflux.orchestrator.store.pool import fetch, forget_in_pages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from psycopg.rows import TupleRow

    from reflux.core.flow.limits import Claim
    from reflux.core.names import RunId
    from reflux.runtime.postgres import Pool

ADMITTED: Final = "admitted"
"""Kind of the word that a queued run gets when a slot is its own; its payload is empty."""

COUNTED: Final = 10_000
"""A place in a queue further back than this is told as this."""

_MICROSECOND: Final = timedelta(microseconds=1)
_FORGET_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Queued:
    """A queued run, as the tables know it."""

    admitted: bool
    """Whether it may begin now."""
    start_at: datetime | None
    """When it may begin, if that is known."""


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a queued run stands."""

    key: str
    position: int
    """From 1; at most `COUNTED`. 0: it has its slot, and waits for its time."""
    length: int
    held: int
    limit: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a queued run waits for: its place among those that want a slot, or a time, or both."""

    place: QueuePlace | None
    start_at: datetime | None


def claim_columns(claims: Sequence[tuple[RunId, Claim]]) -> dict[str, bytes]:
    """What runs of limited flows ask for, in the order in which they came."""
    slots = [claim.slot for _, claim in claims]
    rates = [claim.rate for _, claim in claims]
    return {
        "claim_runs": arrays.uuids([run_id for run_id, _ in claims]),
        "slot_keys": arrays.texts([slot.key if slot else None for slot in slots]),
        "slot_limits": arrays.int4s([slot.limit if slot else 1 for slot in slots]),
        "slot_overflows": arrays.texts([slot.overflow if slot else None for slot in slots]),
        "rate_keys": arrays.texts([rate.key if rate else None for rate in rates]),
        "rate_limits": arrays.int8s([rate.limit if rate else 1 for rate in rates]),
        "rate_periods": arrays.int8s([rate.per // _MICROSECOND if rate else 0 for rate in rates]),
        "rate_overflows": arrays.texts([rate.overflow if rate else None for rate in rates]),
        "claim_versions": arrays.int4s([claim.version for _, claim in claims]),
    }


def refused(verdict: str, flow_name: str, claim: Claim, at: datetime | None, now: datetime) -> Exhausted:
    """Why a run was not accepted, and when to come again if that is known; counted."""
    metrics.refused(verdict)
    if verdict == "rate" and claim.rate is not None:
        rate = claim.rate
        seconds = None if at is None else max(0.0, (at - now).total_seconds())
        per = format_duration(rate.per)
        message = f"{named(flow_name, rate.key)} begins at most {rate.limit} runs per {per}"
        metadata = {"flow": flow_name, "key": rate.key, "limit": str(rate.limit)}
        return Exhausted(Reason.RATE_LIMIT, message, metadata=metadata, retry_seconds=seconds)
    assert claim.slot is not None, "a run without a claim is not refused"
    message = f"{named(flow_name, claim.slot.key)} has {claim.slot.limit} runs going on, which is its limit"
    metadata = {"flow": flow_name, "key": claim.slot.key, "limit": str(claim.slot.limit)}
    return Exhausted(Reason.CONCURRENCY_LIMIT, message, metadata=metadata)


def named(flow_name: str, key: str) -> str:
    """A flow and key as people see them: `order_intake/shop-7`."""
    return f"{flow_name}/{key}" if key else flow_name


async def queued(pool: Pool, run_id: RunId) -> Queued:
    """Whether a run that its journal shows as queued may begin.

    Raises:
        psycopg.Error: the database is away.
    """
    rows = await fetch(pool, "find_queued", {"run_id": run_id})
    if not rows:
        return Queued(admitted=False, start_at=None)
    held, start_at, now = rows[0]
    return Queued(held and (start_at is None or start_at <= now), start_at if held else None)


async def standing(pool: Pool, run_id: RunId) -> Standing:
    """What a queued run waits for.

    Raises:
        psycopg.Error: the database is away.
    """
    rows = await fetch(pool, "find_place", {"run_id": run_id, "counted": COUNTED})
    return _standing(rows[0]) if rows else Standing(None, None)


def _standing(row: TupleRow) -> Standing:
    start_at, key, before, length, held, limit, has_slot = row
    if key is None:
        return Standing(None, start_at)
    return Standing(QueuePlace(key, 0 if has_slot else before + 1, length, held, limit), start_at)


async def in_use(pool: Pool) -> tuple[int, int]:
    """Slots that are held, and runs that wait for one, of all flows.

    Raises:
        psycopg.Error: the database is away.
    """
    [(held, waiting)] = await fetch(pool, "count_slots", {})
    return held, waiting


async def forget_rates(pool: Pool) -> int:
    """Delete the rates of which nothing is used up, page by page; by any orchestrator, now and then.

    Raises:
        psycopg.Error: the database is away.
    """
    return await forget_in_pages(pool, "forget_rates", _FORGET_AT_ONCE)
