"""Ids of runs: UUIDv7 (RFC 9562), made from the database's time.

They sort by creation, across orchestrators to the accuracy of their offset to the database's clock. Within
one process they rise strictly, also when that offset is corrected backwards.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from reflux.core.names import RunId

_RANDOM_BITS: Final = 74
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RunIds:
    """Makes ids that rise strictly."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, now: datetime) -> RunId:
        """An id for a run created at `now`, the database's time.

        A second id of the same millisecond, or of an earlier one, is the last one plus a random step.
        """
        wanted = (_milliseconds(now) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        if wanted <= self._last:
            wanted = self._last + 1 + secrets.randbits(32)
        self._last = wanted
        return _format(wanted)


def first_id(time: datetime) -> RunId:
    """The smallest id of `time`'s millisecond."""
    return _format(_milliseconds(time) << _RANDOM_BITS)


def last_id(time: datetime) -> RunId:
    """The greatest id of `time`'s millisecond."""
    return _format(((_milliseconds(time) + 1) << _RANDOM_BITS) - 1)


def time_of(run_id: RunId) -> datetime:
    """When the run was created, to the millisecond."""
    return _EPOCH + (UUID(run_id).int >> 80) * _MILLISECOND


def _milliseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MILLISECOND


def _format(value: int) -> RunId:
    """48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits."""
    head, tail = value >> 62, value & ((1 << 62) - 1)
    return RunId(str(UUID(int=(head >> 12) << 80 | 0x7 << 76 | (head & 0xFFF) << 64 | 0b10 << 62 | tail)))
