"""What a control plane counts: its proxies, what they make of what they are told, whom they have ejected."""

from __future__ import annotations

from typing import Final

from reflux.runtime.metrics import Counter, Gauge, Histogram

PROXIES_CONNECTED: Final = Gauge("reflux.proxies.connected", unit="{proxy}", text="Proxies on a stream here")
ACKNOWLEDGEMENT: Final = Histogram(
    "reflux.acknowledgement.duration",
    unit="s",
    text="From a new configuration (or a proxy's arrival) until that proxy has taken all of it",
)
REFUSALS: Final = Counter(
    "reflux.proxy.refusals",
    unit="{refusal}",
    text="Configuration that a proxy refused, by xDS type",
    labels=("type",),
)
REVISIONS_REJECTED: Final = Counter(
    "reflux.route.revisions.rejected",
    unit="{revision}",
    text="Revisions of routes taken back because a proxy refused them",
    labels=("node",),
)
STATS_REACHABLE: Final = Gauge(
    "reflux.proxy.stats.reachable",
    unit="1",
    text="Whether the proxy's statistics could be read 2 s ago; while 0, its ejections are not known",
    labels=("proxy",),
)
EJECTED: Final = Gauge(
    "reflux.ejections.active",
    unit="{endpoint}",
    text="Endpoints that the proxy has ejected now",
    labels=("proxy", "node", "version"),
)
EJECTIONS: Final = Counter(
    "reflux.ejections",
    unit="{ejection}",
    text="Ejections by the proxy, as it counts them itself",
    labels=("proxy", "node", "version"),
)
TRIES_LOST: Final = Counter(
    "reflux.tries.lost",
    unit="{try}",
    text="Tries that failed and of which nothing was kept, because too many waited for the database",
)
