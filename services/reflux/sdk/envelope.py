"""The envelope of an attempt: what travels as metadata beside the input.

All of it is optional, so that a person can call a pure node with any gRPC client and no metadata at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.core.effect import EffectClass
from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

RETRY_KEY: Final = "x-reflux-retry"
RETRY_SAFE: Final = "safe"
FAULT_KEY: Final = "x-reflux-fault"
"""Initial metadata of a TargetFault; a NodeFault has none, that is the difference."""

_PREFIX: Final = "x-reflux-"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One attempt, as its orchestrator describes it."""

    run_id: str = ""
    step: str = ""
    attempt: int = 1
    fencing_token: int = 0
    effect: EffectClass = EffectClass.AT_MOST_ONCE
    """What the caller counts on; without the header nothing."""
    declared: bool = False
    """The flow says so of this very call: it holds also where the version would call it weaker."""
    idempotency_key: str = ""
    claim_address: str = ""
    """host:port of the EffectService; empty for pure calls."""

    @classmethod
    def read(cls, metadata: Iterable[tuple[str, str | bytes]] | None) -> Envelope:
        """The envelope in a call's metadata.

        Raises:
            InvalidArgument: a number is none, or the effect class is unknown.
        """
        given = {
            key.removeprefix(_PREFIX): value
            for key, value in metadata or ()
            if key.startswith(_PREFIX) and isinstance(value, str)
        }
        try:
            return cls(
                run_id=given.get("run-id", ""),
                step=given.get("step", ""),
                attempt=int(given.get("attempt", "1")),
                fencing_token=int(given.get("fencing-token", "0")),
                effect=EffectClass(given.get("effect", EffectClass.AT_MOST_ONCE)),
                declared=given.get("effect-declared") == "1",
                idempotency_key=given.get("idempotency-key", ""),
                claim_address=given.get("claim-address", ""),
            )
        except ValueError as error:
            raise InvalidArgument(Reason.ARGUMENT_INVALID, f"the call's envelope is wrong: {error}") from None
