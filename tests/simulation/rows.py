"""Rows of the tables that every world has, with what an auditor wants to know beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(slots=True)
class Shard:
    owner: str | None = None
    token: int = 0
    release: int = 0


@dataclass(slots=True)
class Member:
    address: str
    release: int
    joined_at: datetime
    lease_until: datetime
    state: str = "alive"


@dataclass(slots=True)
class Run:
    shard: int
    flow_id: str
    flow_name: str
    flow_version: int
    state: str
    actor: str
    created_at: datetime
    finished_at: datetime | None = None
    wake_at: datetime | None = None
    recoveries: int = 0
    error: tuple[str | None, ...] = (None, None, None, None, None)
    """Code, reason, message, step and fingerprint."""
    priority: int = 0
    moved_at: datetime | None = None
    """When the row was written last; for the auditor."""
    adopted_at: datetime | None = None
    """When somebody was told last to take it on; for the auditor."""
    folded: list[tuple[str, datetime]] = field(default_factory=list)
    """Kinds of the words that its owner took away, and when; for the auditor."""
    made_by: tuple[str | bool | None, ...] = (None, None, None, None, False)
    """Search key, trigger, origin and operation."""
    limited: bool = False
    """It has a row in `slots`, until its end."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A row of the journal, and what the auditor of the world saw of its writing."""

    seq: int
    recorded_at: datetime
    payload: bytes
    token: int
    writer: str
