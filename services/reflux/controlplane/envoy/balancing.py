"""How calls are shared among the endpoints of one version: to whom is least busy, and gently to whom is new.

Least request: of two endpoints drawn at random the one with fewer calls in flight gets the call. That needs
no knowledge of the others, and a slow endpoint gets less by itself.

Slow start: an endpoint that joins begins at a tenth of its share, which grows evenly until the window is
over. Without it a cold process (imports, connections, caches) would at once be given more than its share,
because it is the one with the fewest calls in flight. It needs nothing of an endpoint: Envoy counts from
the moment at which the endpoint appears in the cluster. Two things follow from that: where all endpoints are
new, as at the start of a stack, all weigh the same and nobody waits; and an endpoint that was ejected and
comes back is not new, since no active health check says so (decision 14).

Source: Envoy, "Slow start mode" and `Cluster.SlowStartConfig`.
"""

from __future__ import annotations

from typing import Any, Final

SLOW_START_SECONDS: Final = 10

LEAST_REQUEST: Final[dict[str, Any]] = {
    "lb_policy": "LEAST_REQUEST",
    "least_request_lb_config": {
        "slow_start_config": {
            "slow_start_window": f"{SLOW_START_SECONDS}s",
            "aggression": {"default_value": 1.0, "runtime_key": "reflux.slow_start.aggression"},
            "min_weight_percent": {"value": 10},
        }
    },
}
"""Fields of a leaf's cluster."""
