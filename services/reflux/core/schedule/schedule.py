"""A rule with what people say about it, and the decision which firings are to be started now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from itertools import takewhile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from reflux.core.schedule.rules import Rule

MAX_CATCHUP: Final = 100
"""Firings that are made up for at once; of more, the newest."""
GRACE: Final = timedelta(seconds=60)
"""How late a firing may be started without being missed: a takeover takes some seconds."""

TOGETHER: Final = timedelta(seconds=1)
"""Firings that are to be started within less than this come together: no interval is shorter."""

_MILLISECOND: Final = timedelta(milliseconds=1)
_LOOKS: Final = (timedelta(minutes=5), timedelta(hours=2), timedelta(days=4), timedelta(days=120))
"""How far back is looked for what is due, one after the other, until there is more than can be made up for:
after a year without us nobody walks through half a million minutes."""


class Catchup(StrEnum):
    """What becomes of firings that nobody was there for."""

    NONE = "none"  # nothing: only the newest one, and only within `GRACE`, is started
    LAST = "last"  # the newest one is started; here and above with those that came together with it
    ALL = "all"  # the newest `MAX_CATCHUP` are started, oldest first


class Overlap(StrEnum):
    """What becomes of a firing while an earlier run of the same trigger goes on."""

    ALLOW = "allow"  # another run beside it
    SKIP = "skip"  # no run
    CANCEL = "cancel"  # the earlier ones are asked to cancel, then another run
    QUEUE = "queue"  # it waits for their end: the newest `MAX_CATCHUP` do, and are started one by one


@dataclass(frozen=True, slots=True)
class Firings:
    """What a look at a schedule came to."""

    due: tuple[datetime, ...]
    """To be started now, oldest first."""
    missed: int
    """Passed over. After a long absence more than were counted."""
    following: datetime | None
    """The next one; its time has not come."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A schedule after its pause."""

    schedule: Schedule
    first: datetime | None
    """The firing that it stands at."""
    missed: int
    """Waited before, and wait no more."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When runs are started."""

    rule: Rule
    catchup: Catchup
    overlap: Overlap
    jitter: timedelta
    """Each firing is started later than the rule says, by less than this.

    It may be wider than the gap between two firings of a cron expression: they keep their order.
    """
    given_up: tuple[datetime, datetime] | None = None
    """What a pause took away: firings from the one to the other, both included, do not come."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first firing after a moment."""
        found = self.rule.next_after(moment)
        if found is not None and self.given_up is not None and self.given_up[0] <= found <= self.given_up[1]:
            return self.rule.next_after(self.given_up[1])
        return found

    def fires_at(self, scheduled_for: datetime, key: str) -> datetime:
        """When a firing is started: the same for the same firing of the trigger `key`, whoever asks.

        Never before those before it: one that was drawn to come earlier waits for them.
        """
        latest = self._drawn(scheduled_for, key)
        if self.jitter:
            earlier = self.rule.next_after(scheduled_for - self.jitter)
            while earlier is not None and earlier < scheduled_for:
                latest = max(latest, self._drawn(earlier, key))
                earlier = self.rule.next_after(earlier)
        return latest

    def _drawn(self, scheduled_for: datetime, key: str) -> datetime:
        """When a firing would be started if there were no other one."""
        width = self.jitter // _MILLISECOND
        if not width:
            return scheduled_for
        drawn = sha256(f"{key} {scheduled_for.isoformat()}".encode()).digest()
        return scheduled_for + int.from_bytes(drawn[:8], "big") % width * _MILLISECOND

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """The next `count` firings after a moment, without jitter."""
        found: list[datetime] = []
        moment = self.next_after(after)
        while moment is not None and len(found) < count:
            found.append(moment)
            moment = self.next_after(moment)
        return found

    def plan(self, first: datetime, now: datetime, key: str) -> Firings:
        """What is to be started at `now`, when `first` is the oldest firing that was not dealt with.

        Nobody was away between two that come together, because one waited for the other or by chance: none of
        them is missed for the other's sake.
        """
        found, following, whole = self._due(first, now, key)
        keep = found[-MAX_CATCHUP:]
        if keep and self.catchup is not Catchup.ALL:
            newest = self.fires_at(keep[-1], key)
            late = takewhile(lambda moment: newest - self.fires_at(moment, key) < TOGETHER, reversed(keep))
            keep = [*late][::-1]
            if self.catchup is Catchup.NONE and now - newest > GRACE:
                keep = []
        return Firings(tuple(keep), len(found) - len(keep) + (not whole), following)

    def resumed(self, first: datetime, paused_at: datetime, now: datetime, key: str) -> Resumed:
        """How it goes on after a pause, when `first` is the oldest firing that was not dealt with.

        What was due before the pause still comes, and is made up for as after any absence; what came due
        since does not. One pause is remembered: when firings still wait from before the one before, those
        that came due between the two are missed.
        """
        following = self.plan(first, paused_at, key).following
        start, missed = following, 0
        if self.given_up is not None and first < self.given_up[0]:
            start = self.given_up[0]
            between = self.upcoming(self.given_up[1], MAX_CATCHUP)
            missed = len([moment for moment in between if following is None or moment < following])
        if start is None or start > now:  # no firing has come due since
            return Resumed(replace(self, given_up=None), first, 0)
        after = replace(self, given_up=(start, now))
        return Resumed(after, first if first < start else after.next_after(now), missed)

    def _due(self, first: datetime, now: datetime, key: str) -> tuple[list[datetime], datetime | None, bool]:
        """The newest firings whose time has come, the one after them, and whether these are all."""
        looks = [back for back in _LOOKS if now - back > first]
        for back in (*looks, None):
            found: list[datetime] = []
            moment = first if back is None else self.next_after(now - back)
            # Of those before it nobody need be asked again: the walk has ended at the first that has to wait.
            while moment is not None and self._drawn(moment, key) <= now:
                found.append(moment)
                moment = self.next_after(moment)
            if back is None or len(found) > MAX_CATCHUP:
                break
        return found, moment, back is None
