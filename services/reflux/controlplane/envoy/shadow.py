"""Copies of calls for versions in the shadow, by Envoy's request mirroring.

The orchestrator draws which call has a copy, as it draws everything else, and names the cluster that gets it
in `x-reflux-shadow`; without that header there is none, and a name that is no cluster any more is none. So it
knows which calls were copied, and a replay copies nothing by chance. Only the weighted routes of lane `broad`
copy: its calls are pure.

A copy goes to a cluster of its own, with the version's endpoints and nothing else of its leaf: no ejection,
no tries, its own small limit, beyond which copies are dropped. So whatever becomes of it, the version's leaf
and the real call know nothing of it. It is marked by `x-reflux-shadow-copy: 1`, and Envoy throws its reply
away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy.xds import ADS, typed
from reflux.core.effect import Lane
from reflux.core.route import shadow_cluster

if TYPE_CHECKING:
    from reflux.controlplane.graph import Leaf

MAX_COPIES: Final = 64
"""Under way at once, to one version and from one proxy."""
LONGEST: Final = "3600s"

_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def copies(lane: Lane, *, shadows: bool) -> dict[str, Any]:
    """What a weighted route says about copies."""
    if lane is not Lane.BROAD or not shadows:
        return {}
    mark = {"header": {"key": "x-reflux-shadow-copy", "value": "1"}}
    return {
        "request_mirror_policies": [
            {"cluster_header": "x-reflux-shadow", "request_headers_mutations": [{"append": mark}]}
        ]
    }


def cluster(of: Leaf) -> dict[str, Any]:
    """Where the copies for a version go."""
    limits = {"max_requests": MAX_COPIES, "max_pending_requests": MAX_COPIES, "max_retries": 0}
    return {
        "name": shadow_cluster(of.node, of.version),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS, "service_name": of.name},
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            _HTTP: typed(
                _HTTP,
                {
                    "explicit_http_config": {"http2_protocol_options": {}},
                    "common_http_protocol_options": {"max_stream_duration": LONGEST},
                },
            )
        },
    }
