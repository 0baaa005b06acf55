"""What became of one call, before it is told to the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reflux.sdk.context import Context
    from reflux.sdk.faults import Fault


@dataclass(frozen=True, slots=True)
class Done:
    """What a call gave."""

    output: bytes
    cost_nanos: int | None
    """What it cost; None: the function did not tell."""


@dataclass(frozen=True, slots=True)
class Failed:
    """How a call failed, and what had become of it until then: None before its input was accepted."""

    fault: Fault
    call: Context[Any] | None

    @property
    def safe(self) -> bool:
        """Nothing was processed, for certain."""
        return self.call is None or not self.call.claimed
