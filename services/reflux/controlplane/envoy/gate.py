"""Limits of a version that hand over: a call that is over one goes on to the next version of its chain.

Envoy's own limits (circuit_breakers) answer a call that is over them, and such an answer is never retried:
not by a composite, nor by anything else. So a version with limits has a gate, a cluster that is this Envoy's
own internal listener, and the gate is what stands in chains:

    mesh listener ─► route ─► chain [A!gate, B]            try n goes to member n, as ever
                                └─► internal listener, :authority A ─► leaf A, with its limits

What the inner router answers itself is a reply to the outer one. It says so:

    x-reflux-gate    Envoy's flags of the inner try: nobody answered, and this is why
    x-reflux-retry   `safe` when the call surely never left: over a limit (UO), no healthy endpoint (UH),
                     not connected (UF), no cluster (NC). Both lanes then fall on

Rules:

- The leaf is the version's one upstream as ever, with its ejection: the gate ejects nobody, and nothing that
  reads a leaf's statistics has to know of gates.
- A try that takes too long must end inside, where it counts for ejection. So whoever limits a try says in
  `x-reflux-try-ms` how long it may take there, a little less than the limit itself.
- A version without limits has no gate: it is a second way through the proxy. The listener and its routes are
  always there, for all versions, so that a version gets its gate by new clusters and then a new route, in
  the order in which a proxy is told of everything, and no call comes to a gate that is not open yet. In
  between the leaf has the limits already: what is over them then is refused as not sent (UO).
- Limits are those of one proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy import access_log
from reflux.controlplane.envoy.cluster import limits
from reflux.controlplane.envoy.xds import ADS, typed
from reflux.core.route import TRY_MS

if TYPE_CHECKING:
    from reflux.controlplane.graph import Leaf

NAME: Final = "gate"
"""Of the internal listener and of its route configuration."""

_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MUTATION: Final = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_UNSENT: Final = ("UO", "UH", "UF", "NC")


def cluster(of: Leaf) -> dict[str, Any]:
    """The gate of a leaf."""
    address = {"envoy_internal_address": {"server_listener_name": NAME, "endpoint_id": of.name}}
    endpoint = {
        # `auto_host_rewrite` makes it the :authority of the try that comes here.
        "endpoint": {"address": address, "hostname": _authority(of)},
        "metadata": {"filter_metadata": {"reflux": {"version": of.version}}},
    }
    name = of.member
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": limits(),
        "typed_extension_protocol_options": {
            _HTTP: typed(_HTTP, {"explicit_http_config": {"http2_protocol_options": {}}})
        },
    }


def host(of: Leaf) -> dict[str, Any]:
    """Where the internal listener sends the tries at a version."""
    limit = {
        "append": {
            "header": {"key": "x-envoy-upstream-rq-timeout-ms", "value": f"%REQ({TRY_MS})%"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
    }
    action = {
        "cluster": of.name,
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": "3600s", "grpc_timeout_header_max": "0s"},
    }
    limited = {
        "match": {"prefix": "/", "headers": [{"name": TRY_MS, "present_match": True}]},
        "route": action,
        "request_headers_to_remove": [TRY_MS],
        "typed_per_filter_config": {
            "envoy.filters.http.header_mutation": typed(
                f"{_MUTATION}PerRoute", {"mutations": {"request_mutations": [limit]}}
            )
        },
    }
    plain = {"match": {"prefix": "/"}, "route": action}
    return {"name": of.name, "domains": [_authority(of)], "routes": [limited, plain]}


def routes() -> dict[str, Any]:
    """The route configuration of the internal listener without its virtual hosts."""
    return {"name": NAME, "validate_clusters": True}


def listener() -> dict[str, Any]:
    """The internal listener: it has no port, and nobody but this Envoy's own gates reaches it."""
    manager = {
        "stat_prefix": NAME,
        "codec_type": "HTTP2",
        "rds": {"route_config_name": NAME, "config_source": ADS},
        "stream_idle_timeout": "0s",
        "http2_protocol_options": {"max_concurrent_streams": 16384},
        "local_reply_config": {
            # The first that fits: what never left, then every other answer of the router's own.
            "mappers": [
                _told({"response_flag_filter": {"flags": list(_UNSENT)}}, {"x-reflux-retry": "safe"}),
                _told({"response_flag_filter": {}}, {}),
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.header_mutation", "typed_config": typed(_MUTATION)},
            {
                "name": "envoy.filters.http.router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router"),
            },
        ],
    }
    return {
        "name": NAME,
        "internal_listener": {},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": typed(_MANAGER, manager),
                    }
                ]
            }
        ],
    }


def _told(when: dict[str, Any], more: dict[str, str]) -> dict[str, Any]:
    headers = {access_log.GATE: "%RESPONSE_FLAGS%", **more}
    return {
        "filter": when,
        "headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
    }


def _authority(of: Leaf) -> str:
    """What a try calls its host: HTTP takes no `@` there, and no name has a `~`."""
    return f"{of.node}~{of.version}"
