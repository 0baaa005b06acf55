"""RDS: how a call finds a version.

A call names its node in `x-reflux-node` and its lane in `x-reflux-lane`; without the latter it is `safe`, the
lane that assumes nothing. Per node and lane, first match wins:

1. `x-reflux-version` names a known version: that one, and no other.
2. `x-reflux-version` names anything else: 404. Falling through to the weights would answer by a version that
   nobody asked for.
3. The weighted choice, by the draw in `x-reflux-draw` (0 to 9,999, cumulative in the order of the targets;
   without it Envoy draws).

Every reply says what was chosen (`x-reflux-chosen`, `-weight`, `-revision`), who answered
(`x-reflux-answered-by`) and what happened on the way (`x-reflux-flags`, `x-envoy-attempt-count`), Envoy's own
error replies included: the journal records what was, not what was meant. A 404 says what there is no route
for (`x-reflux-missing`: node or version), so that nobody takes it for a node's own UNIMPLEMENTED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.envoy import shadow
from reflux.controlplane.envoy.listener import ROUTES
from reflux.controlplane.envoy.xds import typed
from reflux.core.effect import Lane

if TYPE_CHECKING:
    from reflux.controlplane.graph import Choice, NodeGraph

_SERVICE: Final = "/reflux.api.node.v1.NodeService/"


def frame() -> dict[str, Any]:
    """The route configuration of the mesh listener without its virtual host."""
    return {
        "name": ROUTES,
        # Without this a route to a cluster that does not exist is accepted, and its share of calls fails.
        "validate_clusters": True,
        "response_headers_to_add": [
            _header("x-reflux-answered-by", "%UPSTREAM_METADATA(reflux:version)%"),
            _header("x-reflux-flags", "%RESPONSE_FLAGS%"),
        ],
    }


def host() -> dict[str, Any]:
    """Its one virtual host without its routes: those of every node, then `last`."""
    return {"name": "nodes", "domains": ["*"], "include_attempt_count_in_response": True}


def entries(node: NodeGraph) -> list[dict[str, Any]]:
    """The routes of a node. Those of the safe lane match whatever lane is named, so they come last."""
    return [entry for lane in (Lane.BROAD, Lane.SAFE) for entry in _lane(node, lane)]


def last() -> dict[str, Any]:
    """What no node has taken."""
    return missing({"prefix": "/"}, "node", "no such node")


def _lane(node: NodeGraph, lane: Lane) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": f"{node.node}@{pin.version} {lane}",
            "match": _match(node, lane, [_exact("x-reflux-version", pin.version)]),
            "route": {"cluster": pin.cluster(lane), **_action()},
            **_told(node, pin),
        }
        for pin in node.pins
    ]
    pinned = {"name": "x-reflux-version", "present_match": True}
    unknown = _match(node, lane, [pinned])
    found.append(missing(unknown, "version", f"{node.node} has no such version", _revision(node)))
    if node.shares:
        shares = [
            {"name": share.cluster(lane), "weight": share.weight, **_told(node, share)}
            for share in node.shares
        ]
        found.append(
            {
                "name": f"{node.node} {lane}",
                "match": _match(node, lane, []),
                "route": {
                    "weighted_clusters": {"clusters": shares, "header_name": "x-reflux-draw"},
                    **_action(),
                    **shadow.copies(lane, shadows=bool(node.shadows)),
                },
            }
        )
    return found


def _match(node: NodeGraph, lane: Lane, more: list[dict[str, Any]]) -> dict[str, Any]:
    headers = [_exact("x-reflux-node", node.node), *more]
    if lane is not Lane.SAFE:
        headers.append(_exact("x-reflux-lane", lane))
    return {"prefix": _SERVICE, "headers": headers}


def _action() -> dict[str, Any]:
    return {
        # The default of 15 s would cut calls that have more time.
        "timeout": "0s",
        "max_stream_duration": {
            "max_stream_duration": "3600s",  # of a call without a deadline
            "grpc_timeout_header_max": "0s",  # a deadline is obeyed, however long
            "grpc_timeout_header_offset": "0.2s",  # and answered by Envoy, who knows what was chosen
        },
    }


def _told(node: NodeGraph, choice: Choice) -> dict[str, Any]:
    """What a reply tells of this choice; and the version's own try timeout, unless the call brings one."""
    told: dict[str, Any] = {
        "response_headers_to_add": [
            _header("x-reflux-chosen", choice.version),
            _header("x-reflux-weight", str(choice.weight)),
            _revision(node),
        ]
    }
    if choice.try_timeout_ms is not None:
        limit = {
            "header": {"key": "x-envoy-upstream-rq-per-try-timeout-ms", "value": str(choice.try_timeout_ms)},
            "append_action": "ADD_IF_ABSENT",
        }
        told["typed_per_filter_config"] = {
            "envoy.filters.http.header_mutation": typed(
                "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
                {"mutations": {"request_mutations": [{"append": limit}]}},
            )
        }
    return told


def missing(match: dict[str, Any], what: str, why: str, *more: dict[str, Any]) -> dict[str, Any]:
    """404 with a text; to a gRPC client UNIMPLEMENTED."""
    return {
        "match": match,
        "direct_response": {"status": 404, "body": {"inline_string": why}},
        "response_headers_to_add": [_header("x-reflux-missing", what), *more],
    }


def _revision(node: NodeGraph) -> dict[str, Any]:
    return _header("x-reflux-revision", str(node.revision))


def _exact(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def _header(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
