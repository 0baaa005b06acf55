"""What a node process counts, for every version it serves."""

from __future__ import annotations

from typing import Final

from reflux.runtime.metrics import Counter, Gauge, Histogram

CALL_DURATION: Final = Histogram(
    "reflux.node.call.duration",
    unit="s",
    text="One call of a node version from its admission to its answer, by gRPC code",
    labels=("node", "version", "code"),
)
CALLS_IN_FLIGHT: Final = Gauge(
    "reflux.node.calls.in_flight", unit="{call}", text="Calls being handled", labels=("node", "version")
)
REFUSALS: Final = Counter(
    "reflux.node.refusals",
    unit="{refusal}",
    text="Calls not processed: NODE_FULL, NODE_DRAINING, EFFECT_WEAKER, CLAIM_REFUSED",
    labels=("node", "version", "reason"),
)
