"""When something happens again and again: cron expressions and intervals, evaluated purely.

A *rule* says which moments are its firings (`CronRule`, `IntervalRule`): `rule.next_after(moment)`, in UTC.
A `Schedule` is a rule with what people say about it: what becomes of firings that were missed, of one that
comes while the former run still goes on, and how far firings are spread (jitter). `Schedule.plan` decides
which firings are to be started now, and `Schedule.resumed` which are left after a pause. The time is an
argument; the rules of time zones are data (`zoneinfo`).

**Cron** has the five fields of cron(5): minute, hour, day of month, month, day of week; lists, ranges, steps,
names of months and days, 7 as Sunday, and `@hourly` to `@yearly`. When neither of the two day fields begins
with `*`, a day matches that matches one of them; else it must match both. What other crons add (`L`, `W`,
`#`, `?`, seconds, `5/15`) is refused, with what to write instead.

**Daylight saving** is treated as Debian's cron does it, told apart by how the expression is written:

- With a fixed time (neither minute nor hour is written with a `*`) each matching time of the local clock is
  one firing. One that the clock leaps over fires once, at the first moment after the gap, together with
  whatever else falls into it; one that the clock shows twice fires once, the first time.
- With a `*` in minute or hour the firings follow real time: every moment at which the local clock shows a
  matching time. `*/15 * * * *` goes on each quarter of an hour through both changes; `*/15 2 * * *` does
  nothing on the day that has no 02:00, and twice as much on the day that has two.

**Intervals** are counted from an anchor, by default 1970-01-01T00:00:00Z, so `every: 15m` fires at the
quarters of each hour, whoever restarts whenever, and a new version of a flow moves nothing.
"""

from reflux.core.schedule.cron import Cron, CronProblem
from reflux.core.schedule.rules import CronRule, IntervalRule, Rule
from reflux.core.schedule.schedule import (
    GRACE,
    MAX_CATCHUP,
    Catchup,
    Firings,
    Overlap,
    Resumed,
    Schedule,
)
from reflux.core.schedule.zones import find_zone, nearest_zones

__all__ = [
    "GRACE",
    "MAX_CATCHUP",
    "Catchup",
    "Cron",
    "CronProblem",
    "CronRule",
    "Firings",
    "IntervalRule",
    "Overlap",
    "Resumed",
    "Rule",
    "Schedule",
    "find_zone",
    "nearest_zones",
]
