"""CDS: one EDS cluster per leaf, one composite per chain and lane.

Limits (Envoy's circuit_breakers) are set far above what a node takes. A node that is full says so itself
(RESOURCE_EXHAUSTED, trailers-only) and the call falls on to the next version; an overflow in Envoy never
retries and never falls back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy.balancing import LEAST_REQUEST
from reflux.controlplane.envoy.xds import ADS, typed
from reflux.core.effect import Lane

if TYPE_CHECKING:
    from reflux.controlplane.graph import Composite, Leaf
    from reflux.controlplane.routes import Ejection

_EJECTION: Final[dict[str, Any]] = {
    # Open at a share of the calls failing, or after some failures in a row where there is little traffic.
    # What counts: UNAVAILABLE and DEADLINE_EXCEEDED as trailers-only replies, resets, refused connections,
    # tries that took too long; for the share also INTERNAL, UNKNOWN, UNIMPLEMENTED and DATA_LOSS.
    # RESOURCE_EXHAUSTED (a full node) and a status after initial metadata (a TargetFault) never count.
    "enforcing_failure_percentage": 100,
    "failure_percentage_minimum_hosts": 1,
    "enforcing_consecutive_gateway_failure": 100,
    # One flow with an input that makes a node answer INTERNAL must not eject it for everybody, unless that is
    # half of the traffic.
    "enforcing_consecutive_5xx": 0,
    # Needs five endpoints of a version to mean anything.
    "enforcing_success_rate": 0,
    "max_ejection_time_jitter": "0s",
    # The default of 10 % could never eject the only endpoint of a version.
    "max_ejection_percent": 100,
}
"""Outlier detection of every leaf: what users know as the circuit breaker of a version."""

RETRY_ON: Final = {
    # A pure call may be tried again whatever happened to it.
    Lane.BROAD: "connect-failure,refused-stream,reset,unavailable,resource-exhausted,deadline-exceeded,"
    "internal,cancelled,retriable-status-codes",
    # Any other call only where it provably was not processed: it never got there, or the node says so.
    Lane.SAFE: "connect-failure,refused-stream,retriable-headers",
}

_PREVIOUS: Final = "envoy.retry_host_predicates.previous_hosts"
_PREVIOUS_CONFIG: Final = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_UNLIMITED: Final = 100_000
_HTTP2: Final[dict[str, Any]] = {"explicit_http_config": {"http2_protocol_options": {}}}
_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def leaf(of: Leaf) -> dict[str, Any]:
    """The cluster of a node version.

    It is the same until its ejection is changed, so no change of shares warms it up again. Then calls in
    flight end on the old one, and the new one has nobody ejected.
    """
    return {
        "name": of.name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS},
        "connect_timeout": "1s",
        **LEAST_REQUEST,
        "common_lb_config": {
            # By default half of the endpoints must be healthy, or ejection is ignored: with one endpoint it
            # would never work.
            "healthy_panic_threshold": {"value": 0},
            # By default a second change of health waits for a second, and calls go to the ejected one.
            "update_merge_window": "0s",
        },
        "outlier_detection": ejection(of.ejection),
        "circuit_breakers": limits(),
        # Notices a machine that vanished; HTTP/2 pings would break the rules of most gRPC servers.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 5, "keepalive_probes": 3}
        },
        "typed_extension_protocol_options": {_HTTP: typed(_HTTP, _HTTP2)},
    }


def ejection(of: Ejection) -> dict[str, Any]:
    """Outlier detection with these settings."""
    base_time = _seconds(of.base_time_ms)
    return {
        **_EJECTION,
        "interval": _seconds(of.interval_ms),
        "failure_percentage_threshold": of.threshold_percent,
        "failure_percentage_request_volume": of.min_requests,
        "consecutive_gateway_failure": of.consecutive,
        # Then half-open. Without a maximum each ejection would be longer than the one before.
        "base_ejection_time": base_time,
        "max_ejection_time": base_time,
    }


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}s"


def composite(of: Composite) -> dict[str, Any]:
    """The cluster of a chain: try n goes to member n; a member without endpoints is passed over."""
    policy: dict[str, Any] = {
        "retry_on": RETRY_ON[of.lane],
        "num_retries": of.retries,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        # A second try of a version goes to another of its endpoints, if there is one. The choice is drawn
        # anew until it is another, at most so often; with two endpoints one in a million draws fails.
        "retry_host_predicate": [{"name": _PREVIOUS, "typed_config": typed(_PREVIOUS_CONFIG)}],
        "host_selection_retry_max_attempts": 20,
    }
    if of.lane is Lane.BROAD:
        policy["retriable_status_codes"] = [502, 503, 504]
    else:
        policy["retriable_headers"] = [{"name": "x-reflux-retry", "string_match": {"exact": "safe"}}]
    return {
        "name": of.name,
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.composite",
            "typed_config": typed(
                "envoy.extensions.clusters.composite.v3.ClusterConfig",
                {"clusters": [{"name": member} for member in of.members]},
            ),
        },
        "connect_timeout": "1s",
        # Retries are charged here. The default limit of 3 would kill nearly every fallback under load.
        "circuit_breakers": limits(),
        # A retry policy on the route would win over this one: routes have none.
        "typed_extension_protocol_options": {_HTTP: typed(_HTTP, {**_HTTP2, "retry_policy": policy})},
    }


def limits() -> dict[str, Any]:
    """None that matters; see above."""
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, _UNLIMITED)]}
