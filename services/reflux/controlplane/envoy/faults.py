"""Faults of test runs: the way of a call on which versions fail as the call says.

Built only where the setting `faults` is `test`. A call that carries `x-reflux-fault` takes twins of what it
would have taken: the same routes, chains and retry policies, over leaves that are this Envoy's own internal
listener. There Envoy's fault filter stands before the real version:

    mesh listener ─► route ─► chain~faults [A!, B!]                    try n goes to member n, as ever
                                 └─► internal listener, :authority A   fault filter ─► leaf A
                                                                                  └─► leaf A!drop

So a fault is met by the tries that reach its version, and by no other: A fails, B answers. Rules:

- What is not named by a call's headers does nothing. `x-reflux-fault-abort` (a gRPC status), `-delay`
  (milliseconds) and `-drop` (1) hold for every version, with `-VERSION` behind for that version alone.
- Nothing else is told of a fault: A! has no ejection, an abort never reaches A, and A's own statistics hear
  only of calls that got there. A! is never ejected, so a call meets the fault of a version that is.
- An abort did nothing, and says so (`x-reflux-retry: safe`), as does a version that could not be reached:
  both lanes fall on. A lost reply says nothing.
- Whatever the internal listener says by itself it marks with its flags (`x-reflux-unanswered`): to the mesh
  listener it is an answer like any other, and no version has given it.
- A reply is lost by A!drop, a cluster over the same endpoints that takes no response with more than one
  header: the node has answered, and its answer is refused. There is no other filter in this build that does.
- Everything is derived from the real routes and clusters, so it cannot differ from them.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy import cluster, route
from reflux.controlplane.envoy.access_log import UNANSWERED
from reflux.controlplane.envoy.xds import ADS, typed

if TYPE_CHECKING:
    from reflux.controlplane.graph import Composite, Leaf, NodeGraph

NAME: Final = "faults"
"""Of the internal listener and of its route configuration."""
ABORTED: Final = "FI"
"""Envoy's flag for: a fault was injected."""
CALL: Final = "x-reflux-fault"
"""Header of a call that takes this way; its value says nothing."""

_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_FAULT: Final = "envoy.extensions.filters.http.fault.v3.HTTPFault"
_MUTATION: Final = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TWIN: Final = "!"
_DROP: Final = f"{_TWIN}drop"
_ALWAYS: Final = {"numerator": 100}
_UNSAID: Final = {"remove_on_match": {"key_matcher": {"prefix": CALL}}}


def chain(of: Composite) -> dict[str, Any]:
    """The twin of a chain: its members' twins under the same policy."""
    twin = deepcopy(cluster.composite(of))
    twin["name"] = _chain(of.name)
    members = twin["cluster_type"]["typed_config"]["clusters"]
    for member in members:
        # A gate has no twin; the limits, which are the leaf's, hold here too.
        member["name"] = _twin(tried_leaf(member["name"]))
    return twin


def leaves(of: Leaf) -> tuple[dict[str, Any], dict[str, Any]]:
    """The twin of a leaf, which is the internal listener; and the leaf that loses replies."""
    address = {"envoy_internal_address": {"server_listener_name": NAME, "endpoint_id": of.name}}
    endpoint = {
        # `auto_host_rewrite` makes it the :authority of the try that comes here.
        "endpoint": {"address": address, "hostname": _authority(of)},
        "metadata": {"filter_metadata": {"reflux": {"version": of.version}}},
    }
    twin = {
        "name": _twin(of.name),
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": _twin(of.name), "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": cluster.limits(),
        "typed_extension_protocol_options": {
            _HTTP: typed(_HTTP, {"explicit_http_config": {"http2_protocol_options": {}}})
        },
    }
    drop = deepcopy(cluster.leaf(of))
    drop["name"] = _drop(of.name)
    drop["eds_cluster_config"]["service_name"] = of.name
    drop.pop("outlier_detection", None)  # every reply is refused: that is nobody's illness
    options = drop["typed_extension_protocol_options"][_HTTP]
    options["common_http_protocol_options"] = {"max_headers_count": 1}
    options["explicit_http_config"]["http2_protocol_options"][
        "override_stream_error_on_invalid_http_message"
    ] = True  # the stream ends, and not the connection
    return twin, drop


def entries(node: NodeGraph) -> list[dict[str, Any]]:
    """The routes of a node for calls that carry `x-reflux-fault`. They come before the others."""
    twins = deepcopy(route.entries(node))
    for twin in twins:
        twin["match"]["headers"].append({"name": CALL, "present_match": True})
        action = twin.get("route")
        if action is None:
            continue
        if "name" in twin:
            twin["name"] += " faults"
        action["auto_host_rewrite"] = True
        for copy in action.get(
            "request_mirror_policies", ()
        ):  # it goes to the version itself, and meets no fault
            copy["request_headers_mutations"].append(_UNSAID)
        if "cluster" in action:
            action["cluster"] = _chain(action["cluster"])
        for share in action.get("weighted_clusters", {}).get("clusters", ()):
            share["name"] = _chain(share["name"])
    return twins


def refused() -> dict[str, Any]:
    """What a call that carries `x-reflux-fault` meets where no faults are allowed: it fails, and says why."""
    return route.missing(
        {"prefix": "/", "headers": [{"name": CALL, "present_match": True}]}, "faults", "no faults"
    )


def host(of: Leaf) -> dict[str, Any]:
    """Where the internal listener sends the tries at a version, and under which faults."""
    names = {kind: f"{CALL}-{kind}" for kind in ("abort", "delay", "drop")}
    mutations = [
        _said("x-envoy-fault-abort-grpc-request", names["abort"], of.version),
        _said("x-envoy-fault-delay-request", names["delay"], of.version),
        _UNSAID,  # the route is found by now, and the node sees a call like any other
    ]
    action = {
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": "3600s", "grpc_timeout_header_max": "0s"},
    }
    told = {
        "typed_per_filter_config": {
            "envoy.filters.http.header_mutation": typed(
                f"{_MUTATION}PerRoute", {"mutations": {"request_mutations": mutations}}
            )
        },
        "request_headers_to_remove": [
            "x-envoy-fault-abort-grpc-request",
            "x-envoy-fault-delay-request",
        ],
    }
    losing = [
        {
            "match": {"prefix": "/", "headers": [{"name": name, "present_match": True}]},
            "route": {"cluster": _drop(of.name), **action},
            **told,
        }
        for name in (f"{names['drop']}-{of.version}", names["drop"])
    ]
    real = {"match": {"prefix": "/"}, "route": {"cluster": of.name, **action}, **told}
    return {"name": of.name, "domains": [_authority(of)], "routes": [*losing, real]}


def routes() -> dict[str, Any]:
    """The route configuration of the internal listener without its virtual hosts."""
    return {"name": NAME, "validate_clusters": True}


def listener() -> dict[str, Any]:
    """The internal listener: it has no port, and nobody but this Envoy's own twins reaches it."""
    manager = {
        "stat_prefix": NAME,
        "codec_type": "HTTP2",
        "rds": {"route_config_name": NAME, "config_source": ADS},
        "stream_idle_timeout": "0s",
        "http2_protocol_options": {"max_concurrent_streams": 16384},
        # No response header of its own: the mesh listener tells who answered, once for both ways.
        "local_reply_config": {
            "mappers": [
                {
                    # FI: the fault filter's answer. UH, UF, NC, UO: nothing healthy, not connected, no
                    # cluster, over a limit.
                    "filter": {"response_flag_filter": {"flags": ["FI", "UH", "UF", "NC", "UO"]}},
                    "headers_to_add": [
                        _added("x-reflux-retry", "safe"),
                        _added(UNANSWERED, "%RESPONSE_FLAGS%"),
                    ],
                },
                {
                    "filter": {"response_flag_filter": {}},  # with any flag
                    "headers_to_add": [_added(UNANSWERED, "%RESPONSE_FLAGS%")],
                },
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.header_mutation", "typed_config": typed(_MUTATION)},
            {
                "name": "envoy.filters.http.fault",
                "typed_config": typed(
                    _FAULT,
                    {
                        "abort": {"header_abort": {}, "percentage": _ALWAYS},
                        "delay": {"header_delay": {}, "percentage": _ALWAYS},
                    },
                ),
            },
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


def _added(header: str, value: str) -> dict[str, Any]:
    return {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _said(header: str, name: str, version: str) -> dict[str, Any]:
    """The fault filter's header from ours; without ours it is `-`, which the filter takes for nothing."""
    value = f"%REQ({name}-{version}?{name})%"
    action = "OVERWRITE_IF_EXISTS_OR_ADD"
    return {"append": {"header": {"key": header, "value": value}, "append_action": action}}


def _authority(of: Leaf) -> str:
    """What a try at a version calls its host: HTTP takes no `@` there, and no name has a `~`."""
    return f"{of.node}~{of.version}"


def leaf_of(cluster_name: str) -> str:
    """The leaf whose endpoints a cluster has: that of one that loses replies; else its own name."""
    return cluster_name.removesuffix(_DROP)


def is_twin(cluster_name: str) -> bool:
    """Whether a try at it went to the internal listener."""
    return cluster_name.endswith(_TWIN)


def tried_leaf(cluster_name: str) -> str:
    """The leaf that a try at a cluster was meant for: a twin is tried in its place."""
    return cluster_name.partition(_TWIN)[0]


def _chain(name: str) -> str:
    return f"{name}~faults"


def _twin(name: str) -> str:
    return name + _TWIN


def _drop(name: str) -> str:
    return name + _DROP
