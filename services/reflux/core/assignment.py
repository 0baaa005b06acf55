"""How a call found its version, as the journal has it. A part of `reflux.core.event`."""

from dataclasses import dataclass

from reflux.core.effect import EffectClass, Lane


@dataclass(frozen=True, slots=True)
class Assignment:
    """How one attempt was routed. `chosen` is read from Envoy's reply, never assumed."""

    effect: EffectClass
    lane: Lane
    draw: int = 0
    """0 to 9999."""
    chosen: str = ""
    weight: int = 0
    """Basis points of the chosen version; the probability of the assignment."""
    revision: int = 0
    answered_by: str = ""
    reason: str = ""
    """weight, sticky, override, pin, fallback or ejected (see `reflux.api.run.v1.Attempt`)."""
    tries: int = 0
    flags: str = ""
    batch_id: str = ""
    """Of the call that it shared with other attempts; empty when it travelled alone."""
    sticky: bytes = b""
    """Digest of the sticky value that the draw was made from; empty: of run, step and attempt."""
