"""Faults of test runs: what shall fail, and whether it does this time.

A rule is written `step=charge,version=1.0.0,abort=UNAVAILABLE,percent=50`:

    step     id of a step of the flow that calls a node; of one in a loop all iterations are meant
    version  of its node; without it all of them
    abort    the version answers with this gRPC status, and has not been called
    delay    the version is called so much later: 250ms, 2s; at most 60 s
    drop     `reply`: the version acts, and its answer is lost
    percent  of the attempts, 1 to 100; without it all of them

Exactly one of abort, delay and drop. Rules of one step add up; of those that are of one kind and name the
same version the first one that is drawn counts. Whether an attempt is hit follows from the run's seed, the
step, the attempt and the rule alone: the same seed gives the same faults, also after a takeover.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core.names import StepPath

MAX_RULES: Final = 32
MAX_SEED: Final = 200
"""Characters."""
MAX_DELAY_MS: Final = 60_000

CODES: Final = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""Status codes of gRPC with which a version may fail."""

_HEADER: Final = "x-reflux-fault"


class FaultKind(StrEnum):
    """What a fault does."""

    ABORT = "abort"
    DELAY = "delay"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule."""

    step: str
    kind: FaultKind
    version: str = ""
    """Empty: whichever is called."""
    code: str = ""
    """Of an abort, a name of `CODES`."""
    delay_ms: int = 0
    percent: int = 100

    def __str__(self) -> str:
        """As it is written."""
        what = {
            FaultKind.ABORT: f"abort={self.code}",
            FaultKind.DELAY: f"delay={self.delay_ms}ms",
            FaultKind.DROP: "drop=reply",
        }[self.kind]
        version = f",version={self.version}" if self.version else ""
        return f"step={self.step}{version},{what}" + (
            f",percent={self.percent}" if self.percent < 100 else ""
        )


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The faults of a run."""

    rules: tuple[Fault, ...]
    seed: str = ""
    """Empty: the run's id."""

    def of(self, run_id: str, step: StepPath, attempt: int) -> tuple[Fault, ...]:
        """Those that this attempt shall meet."""
        place = step.rpartition("/")[2]
        found: dict[tuple[FaultKind, str], Fault] = {}
        for number, rule in enumerate(self.rules):
            if rule.step == place and self._drawn(number, run_id, step, attempt) < rule.percent:
                found.setdefault((rule.kind, rule.version), rule)
        return tuple(found.values())

    def _drawn(self, number: int, run_id: str, step: str, attempt: int) -> int:
        """0 to 99, evenly."""
        text = "\0".join((self.seed or run_id, step, str(attempt), str(number)))
        return int.from_bytes(sha256(text.encode()).digest()[:8]) % 100


def headers(faults: Sequence[Fault]) -> tuple[tuple[str, str], ...]:
    """What a call with these faults carries for the mesh; nothing without any."""
    if not faults:
        return ()
    named = [
        (f"{_HEADER}-{fault.kind}" + (f"-{fault.version}" if fault.version else ""), _said(fault))
        for fault in faults
    ]
    return ((_HEADER, "1"), *named)


def _said(fault: Fault) -> str:
    if fault.kind is FaultKind.ABORT:
        return str(CODES[fault.code])
    return str(fault.delay_ms) if fault.kind is FaultKind.DELAY else "1"
