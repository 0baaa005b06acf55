"""Ids: UUID version 7 (RFC 9562 §5.7), so that ids of one table sort by the time they were made.

The time is an argument: it comes from the database's clock (`reflux.runtime.clock`), because the ids of
several processes shall sort together whatever their own clocks say.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def uuid7(now: datetime) -> str:
    """A new id in canonical lower-case form: 48 bits of `now` in ms, then 74 random bits.

    >>> uuid7(datetime(2026, 1, 1, tzinfo=UTC))
    '019b76da-a800-7…'

    Raises:
        ValueError: `now` is naive or before 1970.
    """
    if now.tzinfo is None:
        raise ValueError("the time of an id needs a time zone")
    milliseconds = int(now.timestamp() * 1000)
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError(f"{now} does not fit into an id")
    random = secrets.randbits(74)
    high, low = random >> 62, random & ((1 << 62) - 1)
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low))


def first_id(time: datetime, later: timedelta = timedelta()) -> str:
    """The least id of the millisecond `later` than `time`: a bound for whatever is ordered by its ids.

    Before 1970 it is that of 1970. The sum may lie outside of what a calendar holds.
    """
    milliseconds = max((time - _EPOCH + later) // timedelta(milliseconds=1), 0)
    return str(uuid.UUID(int=milliseconds << 80))


def time_of(id_: str) -> datetime:
    """The time in an id, to the millisecond, in UTC.

    Raises:
        ValueError: `id_` is not a UUID.
    """
    return _EPOCH + timedelta(milliseconds=uuid.UUID(id_).int >> 80)
