"""Envoy's part of a trace: the cluster of the collector, and what the mesh listener tells it.

A sampled call gives one server span, `node <name>`, and below it one client span per try,
`try <name>@<version>`, by the version of the endpoint it went to; the node gets the `traceparent` of the try
that reached it. Whether a call is sampled is its orchestrator's to say: Envoy follows the parent and never
begins a trace itself.

Nothing here may ever hold the mesh up. The cluster is there at once, whether or not its name resolves; what a
dead or slow collector does not take is bounded by its limits, and lost.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy.vanishing import NOTICED
from reflux.controlplane.envoy.xds import typed

if TYPE_CHECKING:
    from reflux.runtime.collector import Collector, Endpoint

CLUSTER: Final = "otel"
"""No node can have this name: a leaf has a version, a chain a lane."""
SERVICE: Final = "reflux-envoy"

EXPORT_TIMEOUT: Final = "5s"
_EXPORTS: Final = 32
"""Exports under way at once; what comes on top is lost. With a collector that hangs that is reached soon."""

_CACHED_SPANS: Final = 1024
"""Of each worker, until they are sent."""

_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_SAMPLERS: Final = "envoy.extensions.tracers.opentelemetry.samplers.v3"

_HEADERS: Final = {
    "reflux.run.id": "x-reflux-run-id",
    "reflux.step": "x-reflux-step",
    "reflux.attempt": "x-reflux-attempt",
    "reflux.node": "x-reflux-node",
}


def cluster(of: Collector) -> dict[str, Any]:
    """The cluster of the collector."""
    endpoint = of.endpoint
    address = {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}
    made: dict[str, Any] = {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        # By default Envoy would hold back everything else until the name has resolved.
        "wait_for_warm_on_init": False,
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [
                {"max_requests": _EXPORTS, "max_pending_requests": _EXPORTS, "max_retries": 0},
            ]
        },
        **NOTICED,
        "typed_extension_protocol_options": {
            _HTTP: typed(_HTTP, {"explicit_http_config": {"http2_protocol_options": {}}})
        },
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if of.authorities is not None:
        made["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": typed(_TLS, _tls(endpoint, of.authorities)),
        }
    return made


def manager(of: Collector) -> dict[str, Any]:
    """`tracing` of the connection manager of the mesh listener."""
    # Envoy reads the values as format strings, and drops every span over one that is none.
    headers = [{"key": key, "value": value.replace("%", "%%")} for key, value in of.headers]
    service = {
        "envoy_grpc": {"cluster_name": CLUSTER},
        "timeout": EXPORT_TIMEOUT,
        "initial_metadata": headers,
    }
    return {
        # 0 would clear the flag of a call that its orchestrator has sampled; the sampler below decides.
        "random_sampling": {"value": 100},
        # One span per try; without it tries and fallbacks are invisible.
        "spawn_upstream_span": True,
        "operation": "node %REQ(x-reflux-node)%",
        "upstream_operation": "try %REQ(x-reflux-node)%@%UPSTREAM_METADATA(reflux:version)%",
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": typed(
                "envoy.config.trace.v3.OpenTelemetryConfig",
                {
                    "grpc_service": service,
                    "service_name": SERVICE,
                    "sampler": _parent_based(),
                    "max_cache_size": _CACHED_SPANS,
                },
            ),
        },
        "custom_tags": [
            *({"tag": tag, "request_header": {"name": name}} for tag, name in _HEADERS.items()),
            # Of the endpoint a try went to.
            {
                "tag": "reflux.node.version",
                "metadata": {
                    "kind": {"host": {}},
                    "metadata_key": {"key": "reflux", "path": [{"key": "version"}]},
                },
            },
        ],
    }


def _parent_based() -> dict[str, Any]:
    """As the parent says; without one, no."""
    never = {
        "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "typed_config": typed(f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig"),
    }
    return {
        "name": "envoy.tracers.opentelemetry.samplers.parent_based",
        "typed_config": typed(f"{_SAMPLERS}.ParentBasedSamplerConfig", {"wrapped_sampler": never}),
    }


def _tls(endpoint: Endpoint, authorities: bytes) -> dict[str, Any]:
    try:
        ip_address(endpoint.host)
        kind, names = "IP_ADDRESS", {}
    except ValueError:
        kind, names = "DNS", {"sni": endpoint.host}
    return {
        **names,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"inline_string": authorities.decode()},
                "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": endpoint.host}}],
            },
        },
    }
