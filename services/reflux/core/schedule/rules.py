"""Rules: which moments are firings. Everything in UTC; the semantics stand at the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from reflux.core.schedule.zones import DAY, local_of, moment_of, steady_until

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from reflux.core.schedule.cron import Cron

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CronRule:
    """A cron expression in a time zone."""

    cron: Cron
    zone: ZoneInfo

    def next_after(self, moment: datetime) -> datetime | None:
        """The first firing after `moment`; None: there is none within 40 years.

        >>> rule = CronRule(Cron.parse("30 2 * * *"), ZoneInfo("Europe/Oslo"))
        >>> rule.next_after(datetime(2026, 3, 28, 12, tzinfo=UTC))  # there is no 02:30 on 29 March
        datetime.datetime(2026, 3, 29, 1, 0, tzinfo=datetime.timezone.utc)
        """
        return self._of_real_time(moment) if self.cron.real_time else self._of_clock_time(moment)

    def _of_clock_time(self, moment: datetime) -> datetime | None:
        """Each local time once. Those that the clock shows a second time lie before `moment`: passed over."""
        local = self.cron.next_local(local_of(moment, self.zone))
        while local is not None:
            found = moment_of(local, self.zone)
            if found > moment:
                return found
            local = self.cron.next_local(local)
        return None

    def _of_real_time(self, moment: datetime) -> datetime | None:
        """Stretch by stretch in which the clock runs steadily."""
        start = moment.replace(second=0, microsecond=0)
        while True:
            local = local_of(start, self.zone)
            found = self.cron.next_local(local)
            if found is None:
                return None
            end = steady_until(start, self.zone)
            # No change of any clock is larger than a day: one that comes later than that shows no time again
            # that lies before `local`, and none moves the firing over the two days that are left.
            if found - local > 3 * DAY and end - start >= DAY:
                start += found - local - 2 * DAY
                continue
            if start + (found - local) < end:
                return start + (found - local)
            # The end itself may be a firing, and `next_local` answers what comes after its argument.
            if (shown := local_of(end, self.zone)) == self.cron.next_local(shown - timedelta(minutes=1)):
                return end
            start = end


@dataclass(frozen=True, slots=True)
class IntervalRule:
    """Every so often, counted from an anchor in both directions."""

    every: timedelta
    anchor: datetime = EPOCH

    def next_after(self, moment: datetime) -> datetime | None:
        """The first firing after `moment`.

        >>> IntervalRule(timedelta(minutes=15)).next_after(datetime(2026, 1, 1, 12, 7, tzinfo=UTC))
        datetime.datetime(2026, 1, 1, 12, 15, tzinfo=datetime.timezone.utc)
        """
        return self.anchor + ((moment - self.anchor) // self.every + 1) * self.every


Rule: TypeAlias = CronRule | IntervalRule
