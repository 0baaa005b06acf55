"""What will go wrong in the world of a seed, decided before it begins.

Faults of statements are counted per name of the statement ("the third `write_events` of anybody"), so that
each lands where it was meant to however fast the world goes; faults of processes have a time; what becomes of
a call, a claim or a notice is drawn when it is sent. `struck` counts what really happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from random import Random

ORCHESTRATORS: Final = 3

_KINDS: Final = {
    "write_events": ("before", "after", "after", "busy", "full", "row", "stall", "stall", "silent", "silent"),
    "start_runs": ("before", "after", "busy", "stall", "silent"),
    "heartbeat": ("before", "after", "stall", "silent"),
    "take_shards": ("before", "after", "stall", "silent"),
    "survey": ("before", "stall", "silent"),
    "declare_dead": ("after", "stall"),
    "release_shards": ("after", "stall"),
    "join": ("after", "silent"),
    "adopt_runs": ("before", "after", "stall", "silent"),
    "find_due": ("before", "stall", "silent"),
    "read_journals": ("before", "stall", "silent"),
    "put_word": ("before", "after", "stall", "silent"),
}
_USUAL: Final = ("write_events",) * 8 + ("start_runs",) * 2 + tuple(_KINDS)
_EARLY: Final = {
    "write_events": 12, "start_runs": 2, "put_word": 2, "join": 4, "read_journals": 4, "declare_dead": 1,
}  # fmt: skip

Act = Literal["kill", "pause", "drain", "database"]


@dataclass(frozen=True, slots=True)
class ProcessFault:
    """Something that befalls a process, or the database, as a whole."""

    at: float
    act: Act
    who: int
    seconds: float
    """Until it is back."""


@dataclass(slots=True)
class Plan:
    """`calm`: nothing goes wrong."""

    rng: Random
    calm: bool = False
    statements: dict[str, dict[int, str]] = field(default_factory=dict)
    processes: list[ProcessFault] = field(default_factory=list)
    struck: int = 0
    doubles: float = 0.03
    """How often a request arrives twice."""
    poison: bool = False
    """Whoever loads the run dies of it."""
    cancel_at: float | None = None
    words: int = 0
    """What people say to each run."""
    _seen: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rng: Random, *, calm: bool = False) -> Plan:
        """The plan of a seed."""
        plan = cls(rng, calm)
        if rng.random() < 0.25:
            plan.cancel_at = rng.uniform(0.2, 6)
        if calm:
            return plan
        for _ in range(rng.randint(4, 9)):
            name = rng.choice(_USUAL)
            number = rng.randint(1, _EARLY.get(name, 6))
            plan.statements.setdefault(name, {})[number] = rng.choice(_KINDS[name])
        for _ in range(rng.randint(1, 3)):
            plan.processes.append(plan._befalls(rng.uniform(0.2, 4)))
        plan.doubles = 0.5 if rng.random() < 0.1 else 0.03
        plan.poison = rng.random() < 0.02
        if not plan.poison and rng.random() < 0.4:
            plan.words = rng.randint(1, 5)
        return plan

    def more(self, now: float) -> ProcessFault:
        """A world that had too little goes on: something else goes wrong in it, soon."""
        for name in ("write_events", "write_events", "start_runs"):
            number = self._seen.get(name, 0) + self.rng.randint(1, 4)
            self.statements.setdefault(name, {})[number] = self.rng.choice(_KINDS[name])
        return self._befalls(now + self.rng.uniform(0.2, 2))

    def _befalls(self, at: float) -> ProcessFault:
        act: Act = self.rng.choice(("kill", "kill", "pause", "pause", "drain", "database"))
        seconds = self.rng.choice((0.5, 2.0, 8.0)) if act != "database" else self.rng.uniform(0.1, 2)
        if act == "pause":
            seconds = self.rng.choice((1.0, 7.0, 9.0))
        return ProcessFault(at, act, self.rng.randrange(ORCHESTRATORS), seconds)

    def statement(self, name: str, who: str) -> str:
        """What goes wrong with this statement; empty when nothing does."""
        here = self.statements.get(name)
        if here is None:
            return ""
        number = self._seen[name] = self._seen.get(name, 0) + 1
        fault = here.get(number, "")
        self.struck += bool(fault)
        return fault

    def happens(self, probability: float) -> bool:
        """Whether something of this probability goes wrong now."""
        if self.calm or self.rng.random() >= probability:
            return False
        self.struck += 1
        return True
