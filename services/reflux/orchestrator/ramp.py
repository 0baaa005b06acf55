"""How fast what waits for a version may leave: slow start and congestion avoidance, for one that comes back.

(Jacobson, Congestion Avoidance and Control, SIGCOMM 1988.) While the version is ill one attempt a second goes
out: the probe. From its first success the rate begins at `first` and doubles every second. A failure on the
way puts it back to the probe and leaves a *knee* at half of the rate that was too much: up to it the next
ramp doubles again, beyond it it only creeps. So a version that comes back small is not knocked over again
and again by the ramp that finds out how much it can take. A ramp that has just begun says nothing of that:
what failed then left before it, or was one more probe.

Values alone: time is an argument, in seconds of any one clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

PROBE: Final = 1.0
"""Attempts a second for a version that is ill."""

MOST: Final = 1_000.0
"""Attempts a second at the end of a ramp."""

CREEP_SECONDS: Final = 10.0
"""In which the rate grows by the knee once more, beyond it."""

JUST_BEGUN_SECONDS: Final = 1.0
"""For so long a failure says nothing of how much is too much."""


@dataclass(slots=True)
class Ramp:
    """Of one version, for one kind of what waits for it."""

    first: float
    """Attempts a second at the moment of the first success."""
    well_since: float | None = None
    """The first success after its last failure; None while it is ill."""
    knee: float = MOST

    def told(self, now: float, *, ill: bool) -> None:
        """It answered: well, or with a failure of its own."""
        if not ill:
            self.well_since = now if self.well_since is None else self.well_since
        elif self.well_since is not None:
            if now - self.well_since > JUST_BEGUN_SECONDS:
                self.knee = max(self.first, self.rate(now) / 2)
            self.well_since = None

    def rate(self, now: float) -> float:
        """Attempts a second, from `PROBE` to `MOST`."""
        if self.well_since is None:
            return PROBE
        seconds = min(now - self.well_since, 3600.0)
        doubling = math.log2(self.knee / self.first)
        if seconds <= doubling:
            return self.first * math.exp2(seconds)
        creep = max(self.knee, PROBE) / CREEP_SECONDS + PROBE
        return min(self.knee + creep * (seconds - doubling), MOST)
