"""What a registry counts."""

from __future__ import annotations

from typing import Final

from reflux.runtime.metrics import Counter, Gauge

ENDPOINTS_LIVE: Final = Gauge(
    "reflux.endpoints.live",
    unit="{endpoint}",
    text="Endpoints in the catalog, 0 for a version that has none",
    labels=("node", "version"),
)
ENDPOINTS_REGISTERED: Final = Counter(
    "reflux.endpoints.registered",
    unit="{endpoint}",
    text="Endpoints registered here",
    labels=("node", "version"),
)
ENDPOINTS_EXPIRED: Final = Counter(
    "reflux.endpoints.expired",
    unit="{endpoint}",
    text="Endpoints whose lease ran out, found from here",
    labels=("node", "version"),
)
