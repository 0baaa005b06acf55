"""Ids carry the database's time, and clocks carry it on."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from reflux.core.names import is_id
from reflux.runtime.clock import DatabaseClock, ManualClock
from reflux.runtime.ids import uuid7

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_an_id_is_a_canonical_uuid_of_version_7():
    """It is an id to `reflux.core.names`, and its first 48 bits are the milliseconds."""
    made = uuid7(NOON)
    parsed = uuid.UUID(made)
    assert is_id(made)
    assert (parsed.int >> 76) & 0xF == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == int(NOON.timestamp() * 1000)


def test_later_ids_are_greater_and_ids_of_one_moment_differ():
    """Text order is time order, to the millisecond."""
    made = [uuid7(NOON + timedelta(milliseconds=step)) for step in range(200)]
    assert made == sorted(made)
    assert len({uuid7(NOON) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), datetime(1969, 1, 1, tzinfo=UTC)])  # noqa: DTZ001
def test_a_time_that_means_nothing_is_refused(moment):
    """Naive times and times before 1970 make no id."""
    with pytest.raises(ValueError):
        uuid7(moment)


def test_the_clock_shows_the_databases_time_after_a_lesson():
    """Hours of difference are learned, in both directions, and time goes on from there."""
    clock = DatabaseClock()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
    for hours in (5, -7):
        taught = datetime.now(UTC) + timedelta(hours=hours)
        clock.set_offset(taught)
        first, second = clock.now(), clock.now()
        assert timedelta() <= first - taught < timedelta(seconds=1)
        assert second >= first


def test_a_manual_clock_moves_only_when_told():
    """What tests of time stand on."""
    clock = ManualClock(NOON)
    assert clock.now() == clock.now() == NOON
    clock.advance(timedelta(seconds=3))
    assert clock.now() == NOON + timedelta(seconds=3)
