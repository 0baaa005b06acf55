"""Triggers of time, read: `type: cron` and `type: interval`.

triggers:
  - id: night
    type: cron
    cron: "0 2 * * mon-fri"        # five fields, or @daily and its like; core.schedule says what they mean
    timezone: Europe/Oslo          # UTC by default
    catchup: last                  # the default; none or all: of firings that nobody was there for
    overlap: skip                  # allow by default; or cancel, queue: while an earlier run of it goes on
    jitter: 30s                    # none by default: each firing is started later by less than this
    input: { day: "{{ schedule.local }}" }
  - id: often
    type: interval
    every: 15m                     # 1s to 366d
    anchor: 2026-01-05T06:00:00Z   # where counting begins; 1970 by default

Firings of one trigger are told apart by the moment that the rule names (`scheduled_for`), which jitter and
lateness do not move. The input reads `vars` and `schedule`; without one it is `{}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from reflux.core.flow.durations import format_duration, format_moment, parse_moment
from reflux.core.flow.problems import ProblemCode
from reflux.core.flow.triggerparts import InputScope, read_id, read_input
from reflux.core.schedule import (
    Catchup,
    Cron,
    CronProblem,
    CronRule,
    IntervalRule,
    Overlap,
    Schedule,
    find_zone,
    nearest_zones,
)
from reflux.core.schedule.rules import EPOCH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.core.document import JsonValue
    from reflux.core.expression import Template
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader
    from reflux.core.schedule import Rule

CRON: Final = "cron"
INTERVAL: Final = "interval"
SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(days=366)
"""Bounds of an interval."""
MAX_JITTER: Final = timedelta(hours=1)

_SHARED: Final = ("id", "type", "catchup", "overlap", "jitter", "input")
CRON_KEYS: Final = (*_SHARED, "cron", "timezone")
INTERVAL_KEYS: Final = (*_SHARED, "every", "anchor")
SCHEDULE_FIELDS: Final = ("scheduled_for", "fire_time", "local", "timezone")
"""Of the root `schedule`."""
_NO_DELAY: Final = timedelta()


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A trigger of type cron or interval."""

    id: str
    pointer: str
    """JSON pointer of the trigger in the document as it was sent."""
    type: str
    schedule: Schedule
    input: Template | None
    """None: `{}`."""

    @property
    def timezone(self) -> str:
        """Name of the zone in which people read it."""
        rule = self.schedule.rule
        return (rule.zone.key or "UTC") if isinstance(rule, CronRule) else "UTC"

    def described(self) -> dict[str, JsonValue]:
        """What it says, as people wrote it. Equal rules and jitters, and nothing else, have equal `rule`s."""
        schedule, rule = self.schedule, self.schedule.rule
        jitter = format_duration(schedule.jitter)
        if isinstance(rule, CronRule):
            said: dict[str, JsonValue] = {"cron": rule.cron.text, "timezone": self.timezone}
        else:
            said = {"every": format_duration(rule.every), "anchor": rule.anchor.isoformat()}
        said |= {"jitter": jitter}
        return {"rule": said, "catchup": schedule.catchup.value, "overlap": schedule.overlap.value}

    def root(self, scheduled_for: datetime, fire_time: datetime) -> dict[str, JsonValue]:
        """The root `schedule` for the input of a firing."""
        return {
            "scheduled_for": format_moment(scheduled_for),
            "fire_time": format_moment(fire_time),
            "local": scheduled_for.astimezone(ZoneInfo(self.timezone)).isoformat(),
            "timezone": self.timezone,
        }


def read_scheduled(
    reader: Reader, place: Place, kind: str, variables: Mapping[str, JsonValue]
) -> Scheduled | None:
    """The trigger of time at `place`; None when its rule cannot be read."""
    reader.known_keys(place, CRON_KEYS if kind == CRON else INTERVAL_KEYS)
    rule = _cron_rule(reader, place) if kind == CRON else _interval_rule(reader, place)
    jitter = _jitter(reader, place, rule)
    policies = _policies(reader, place)
    trigger_id = read_id(reader, place)
    template = read_input(reader, place, InputScope(variables, "schedule", SCHEDULE_FIELDS))
    if rule is None:
        return None
    pointer = reader.problems.pointer(place.path)
    return Scheduled(trigger_id, pointer, kind, Schedule(rule, *policies, jitter), template)


def _cron_rule(reader: Reader, place: Place) -> Rule | None:
    zone = _zone(reader, place)
    where = reader.required(place, "cron")
    text = reader.text(where)
    if where is None or text is None:
        return None
    try:
        cron = Cron.parse(text)
    except CronProblem as problem:
        reader.problems.add(ProblemCode.BAD_SCHEDULE, where, problem.message, problem.hint)
        return None
    return None if zone is None else CronRule(cron, zone)


def _zone(reader: Reader, place: Place) -> ZoneInfo | None:
    where = reader.optional(place, "timezone")
    text = "UTC" if where is None else reader.text(where)
    if text is None:
        return None
    zone = find_zone(text)
    if zone is None and where is not None:
        near = nearest_zones(text)
        hint = f"did you mean {' or '.join(near)}?" if near else "write an IANA name such as Europe/Oslo"
        message = f"{text[:100]!r} is no time zone"
        reader.problems.add(ProblemCode.BAD_SCHEDULE, where, message, hint)
    return zone


def _interval_rule(reader: Reader, place: Place) -> Rule | None:
    where = reader.required(place, "every")
    every = None if where is None else reader.duration(where, SHORTEST, LONGEST)
    anchored = reader.optional(place, "anchor")
    anchor = EPOCH
    if anchored is not None:
        try:
            anchor = parse_moment(anchored.value)
        except ValueError as error:
            reader.problems.add(ProblemCode.BAD_VALUE, anchored, str(error))
    return None if every is None else IntervalRule(every, anchor)


def _jitter(reader: Reader, place: Place, rule: Rule | None) -> timedelta:
    where = reader.optional(place, "jitter")
    jitter = None if where is None else reader.duration(where, _NO_DELAY, MAX_JITTER)
    if where is None or jitter is None:
        return _NO_DELAY
    if isinstance(rule, IntervalRule) and jitter >= rule.every:
        message = (
            f"firings {format_duration(rule.every)} apart cannot be spread over {format_duration(jitter)}"
        )
        reader.problems.add(ProblemCode.BAD_VALUE, where, message, "write less than every")
        return _NO_DELAY
    return jitter


def _policies(reader: Reader, place: Place) -> tuple[Catchup, Overlap]:
    """What becomes of firings that nobody was there for, and of those that overlap.

    One that waits in a queue looks like one that nobody was there for: it is the same row, due since then. So
    a queue keeps both, and whoever asks for something else is told.
    """
    overlap = reader.choice(reader.optional(place, "overlap"), Overlap, Overlap.ALLOW)
    where = reader.optional(place, "catchup")
    catchup = reader.choice(where, Catchup, Catchup.ALL if overlap is Overlap.QUEUE else Catchup.LAST)
    if where is not None and overlap is Overlap.QUEUE and catchup is not Catchup.ALL:
        message = f"overlap: queue makes up for every firing, so catchup cannot be {catchup.value}"
        hint = "write catchup: all or leave it out, or choose another overlap"
        reader.problems.add(ProblemCode.BAD_VALUE, where, message, hint)
    return catchup, overlap
