"""Time. Only the database's clock counts; a process knows how far its own is off.

The offset is learned whenever the database says its time anyway (the heartbeat). Between two lessons the
process's monotonic clock carries the time on, so a wall clock that is set, by hours or by a leap, moves
nothing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """The time, in UTC."""
        ...


class DatabaseClock:
    """The database's time without asking it.

    Until the first `set_offset` it is the process's own wall clock. `monotonic` and `wall` are the clocks of
    this machine.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._monotonic = monotonic
        self._at_zero = wall() - timedelta(seconds=monotonic())

    def now(self) -> datetime:
        """The database's time, in UTC, to within the delay of the reply it was learned from."""
        return self._at_zero + timedelta(seconds=self._monotonic())

    def set_offset(self, now_db: datetime) -> None:
        """Learn that the database's clock shows `now_db` at this moment.

        Raises:
            ValueError: `now_db` is naive.
        """
        if now_db.tzinfo is None:
            raise ValueError("the database's time needs a time zone")
        self._at_zero = now_db.astimezone(UTC) - timedelta(seconds=self._monotonic())


class ManualClock:
    """A clock that stands still until told otherwise.

    >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.advance(timedelta(seconds=3))
    """

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """The time it was given, in UTC."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by
