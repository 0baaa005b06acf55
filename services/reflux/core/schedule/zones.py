"""Time zones by their IANA name, and what a local time means in one of them.

The rules are data that comes with the platform (`tzdata`) where the machine has none of its own. Moments are
aware and in UTC, local times naive.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
_NO_ZONES: Final = frozenset({"localtime", "Factory"})
"""Files that lie beside those of the zones: what this machine is set to, and nothing at all."""


@cache
def zone_names() -> frozenset[str]:
    """Every zone that there is here; each of them means the same on every machine."""
    return frozenset(available_timezones()) - _NO_ZONES


def find_zone(name: str) -> ZoneInfo | None:
    """The zone of that name; None when there is none."""
    return ZoneInfo(name) if name in zone_names() else None


def nearest_zones(name: str) -> list[str]:
    """At most three zones that may be meant: by the spelling, or by the name of the city."""
    word = name[:100].strip().lower().replace(" ", "_")
    lower: dict[str, str] = {zone.lower(): zone for zone in sorted(zone_names())}
    if word in lower:
        return [lower[word]]
    city = word.rpartition("/")[2]
    of_city = [zone for low, zone in lower.items() if city and low.rpartition("/")[2] == city]
    alike = [lower[low] for low in difflib.get_close_matches(word, lower, n=3, cutoff=0.6)]
    return list(dict.fromkeys([*of_city, *alike]))[:3]


def local_of(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clock shows there at that moment."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def moment_of(local: datetime, zone: ZoneInfo) -> datetime:
    """When the clock shows that time there first; when it leaps over it, the first moment after the leap."""
    while True:
        moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if local_of(moment, zone) == local:
            return moment
        local += MINUTE


def steady_until(moment: datetime, zone: ZoneInfo) -> datetime:
    """Until when the clock surely runs steadily from that moment on: a change, or a day later."""
    offset = moment.astimezone(zone).utcoffset()
    end = moment + DAY
    if end.astimezone(zone).utcoffset() == offset:
        return end
    low, high = 0, int(DAY / MINUTE)  # minutes from `moment`: steady at `low`, changed at `high`
    while high - low > 1:
        middle = (low + high) // 2
        if (moment + middle * MINUTE).astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return moment + high * MINUTE
