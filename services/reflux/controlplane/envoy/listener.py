"""LDS: the mesh listener, where orchestrators call nodes. The edge listener is static in the bootstrap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy import access_log, tls, tracing
from reflux.controlplane.envoy.xds import ADS, typed
from reflux.runtime.tls import Role

if TYPE_CHECKING:
    from reflux.runtime.collector import Collector

ROUTES: Final = "mesh"
"""Name of the route configuration that the listener asks for."""

_PRIVATE: Final = (
    ("127.0.0.0", 8),
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("::1", 128),
    ("fc00::", 7),
)


def mesh(
    host: str, port: int, collector: Collector | None = None, tls_dir: str | None = None
) -> dict[str, Any]:
    """The listener, bound where its proxy says; with a collector it tells that of every call.

    With the folder of the proxy's identity it lets orchestrators in and nobody else.
    """
    return {
        "name": "mesh",
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [
            {
                **(
                    {}
                    if tls_dir is None
                    else {"transport_socket": tls.downstream(tls_dir, Role.ORCHESTRATOR)}
                ),
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": typed(
                            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                            _manager() | ({"tracing": tracing.manager(collector)} if collector else {}),
                        ),
                    }
                ],
            }
        ],
    }


def _manager() -> dict[str, Any]:
    return {
        "stat_prefix": "mesh",
        "codec_type": "HTTP2",
        "rds": {"route_config_name": ROUTES, "config_source": ADS},
        # An orchestrator may say x-envoy-max-retries, 0 when a version has no retries left to spend, and
        # x-envoy-upstream-rq-per-try-timeout-ms: a step's own word. Envoy hears such headers only from
        # internal addresses.
        "use_remote_address": True,
        "internal_address_config": {
            "cidr_ranges": [{"address_prefix": prefix, "prefix_len": bits} for prefix, bits in _PRIVATE]
        },
        # A call may be silent until its deadline (a language model thinks); the routes bound it.
        "stream_idle_timeout": "0s",
        "http2_protocol_options": {"max_concurrent_streams": 16384},
        "http_filters": [
            {
                # Does nothing by itself; routes use it to set a version's own try timeout before the router
                # reads it. Headers that a route adds come too late for that.
                "name": "envoy.filters.http.header_mutation",
                "typed_config": typed("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"),
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": access_log.router(),
            },
        ],
    }
